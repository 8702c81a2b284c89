"""The control plane: it decides, records and dispatches; it opens no table and holds no secret."""
