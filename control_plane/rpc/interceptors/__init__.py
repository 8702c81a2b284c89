"""What is done around every call, unary and streaming alike: each concern is one asynchronous context manager."""
