"""The wire of the control plane: gRPC servers, thin servicers, and the conversions between messages and the domain."""
