"""What is done to a table, one module an operation type: pure decisions over its metadata, knowing
neither engine nor wire."""
