"""The public services, one a file: each handler reads the request, calls a service and writes the answer."""
