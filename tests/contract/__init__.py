"""What every store does, whichever it is: the full statement of the ports."""
