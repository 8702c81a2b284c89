"""Ties the life of a process to the life of the process that started it, so that nothing is left behind after a kill
-9."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, with_signal: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `with_signal` to this process once `parent`, its parent process, is gone.

    Linux watches the parent's thread that did the fork: start such processes from a thread that lives as long as its
    process does, such as the one of the event loop. Elsewhere this does nothing, and the end of standard input has to
    do.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before the call: then no signal will ever come.
    if os.getppid() != parent:
        os.kill(os.getpid(), with_signal)
