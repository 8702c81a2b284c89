"""Engines carry assignments out. An engine is loaded by name at the last moment, so that an image carries one engine's dependencies."""
