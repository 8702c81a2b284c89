"""What both ends of a stream must agree on."""
