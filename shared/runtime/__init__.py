"""How a process lives and ends."""
