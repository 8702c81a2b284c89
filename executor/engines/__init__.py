"""Engines carry assignments out. An engine is loaded by name at the last moment: an image carries the dependencies of
one engine alone."""
