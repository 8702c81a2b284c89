"""Operations in memory, by what is done with them."""

from __future__ import annotations

from control_plane.domain.rules import Rules
from control_plane.store.memory.operation_changes import MemoryChanges
from control_plane.store.memory.operation_claims import MemoryClaims
from control_plane.store.memory.operation_lists import MemoryLists
from control_plane.store.memory.operation_numbers import MemoryNumbers
from control_plane.store.memory.operation_sweeps import MemorySweeps
from control_plane.store.memory.state import Memory


class MemoryOperations(MemoryChanges, MemoryClaims, MemoryLists, MemoryNumbers, MemorySweeps):
    """The whole of `ports.operations.OperationStore`."""

    def __init__(self, memory: Memory, rules: Rules) -> None:
        # Each part needs no more than these two.
        self._memory = memory
        self._rules = rules
