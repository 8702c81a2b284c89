"""Catalog records made usable: secrets found by name, properties for each client, and a local catalog server for
development."""
