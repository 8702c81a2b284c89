"""Processes that are named so that no other can be meant: a pid alone may have been given away since it was read."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid and the moment its process started, in the kernel's ticks since boot; 0 where there is no /proc."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None if there is none, or only a dead one that nobody waited for."""
        if not Path("/proc/self").exists():
            return cls(pid, 0) if _exists(pid) else None
        try:
            # The program's name may hold spaces and brackets, so fields are counted from the last bracket on.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def is_alive(self) -> bool:
        return ProcessIdentity.of(self.pid) == self

    def kill(self) -> bool:
        """SIGKILL exactly this process. False if it is gone already."""
        if not hasattr(os, "pidfd_open"):
            if not self.is_alive:
                return False
            os.kill(self.pid, signal.SIGKILL)
            return True
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # From here on the descriptor means one process for good, so the check cannot go stale before the signal.
            if not self.is_alive:
                return False
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return True
            return False
        finally:
            os.close(descriptor)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
