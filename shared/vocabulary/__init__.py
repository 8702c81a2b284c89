"""Names and notations that mean the same on both planes."""
