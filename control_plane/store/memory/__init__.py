"""The store in memory, for tests and for tries in one process: the same decisions and outcomes, nothing outlives it."""

from control_plane.store.memory.store import MemoryStore

__all__ = ["MemoryStore"]
