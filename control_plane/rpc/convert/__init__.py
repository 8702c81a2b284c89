"""Messages to the domain and back, one resource a module; a round trip changes nothing."""
