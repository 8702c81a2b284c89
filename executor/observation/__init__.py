"""Read-only looks at catalogs and tables, each in a worker process of its own; nothing here changes a table."""
