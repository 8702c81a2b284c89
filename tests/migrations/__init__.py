"""The schema as it is made, checked and refused."""
