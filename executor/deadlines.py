"""The page of memory in which the executor tells its watchdog what to kill, and when.

A row of 64-bit integers: the engine's process, how often the watchdog killed, and for each slot the instant
(`executor.lease.boottime`) at which the engine must be dead unless the row was moved or cleared before. Each integer is
written in one aligned store; the two that name a process are only ever acted on together with the kernel's word that
such a process exists, so a reader that meets one new and one old does nothing.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import IO, Final, Self

from executor.processes import ProcessIdentity

_PID: Final = 0
_STARTED: Final = 1
_KILLS: Final = 2
_FIRST_SLOT: Final = 3
_WIDTH: Final = 8


class DeadlineTable:
    """One page, mapped by both processes. `NEVER` in a slot: nothing runs there."""

    NEVER: Final = 0

    def __init__(self, memory: mmap.mmap, *, slots: int, file: IO[bytes] | None = None) -> None:
        self._memory = memory
        self._file = file
        self._cells = memoryview(memory).cast("q")
        self.slots = slots

    @classmethod
    def create(cls, slots: int) -> Self:
        """An empty table on a file without a name: it is gone with the last process that has it."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        file.truncate(cls._size(slots))
        return cls(mmap.mmap(file.fileno(), cls._size(slots)), slots=slots, file=file)

    @classmethod
    def opened(cls, descriptor: int) -> Self:
        """The table behind an inherited descriptor."""
        size = os.fstat(descriptor).st_size
        return cls(mmap.mmap(descriptor, size), slots=size // _WIDTH - _FIRST_SLOT)

    @staticmethod
    def _size(slots: int) -> int:
        return (_FIRST_SLOT + slots) * _WIDTH

    @property
    def descriptor(self) -> int:
        """What a child process inherits."""
        if self._file is None:
            raise ValueError("this table was opened by descriptor; only its creator passes it on")
        return self._file.fileno()

    @property
    def engine(self) -> ProcessIdentity | None:
        pid, started = self._cells[_PID], self._cells[_STARTED]
        return ProcessIdentity(pid, started) if pid else None

    @engine.setter
    def engine(self, identity: ProcessIdentity | None) -> None:
        self._cells[_PID] = 0
        self._cells[_STARTED] = identity.started if identity else 0
        self._cells[_PID] = identity.pid if identity else 0

    @property
    def kills(self) -> int:
        return self._cells[_KILLS]

    def count_kill(self) -> None:
        """The watchdog alone calls this."""
        self._cells[_KILLS] += 1

    def set(self, slot: int, kill_at: int) -> None:
        self._cells[_FIRST_SLOT + slot] = kill_at

    def clear(self, slot: int) -> None:
        self._cells[_FIRST_SLOT + slot] = self.NEVER

    def earliest(self) -> int | None:
        """The next instant at which something must be dead; None if nothing runs."""
        return min((cell for cell in self._cells[_FIRST_SLOT:] if cell != self.NEVER), default=None)

    def close(self) -> None:
        self._cells.release()
        self._memory.close()
        if self._file is not None:
            self._file.close()
