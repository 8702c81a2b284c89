"""Becomes another program, which the kernel ends when whoever started it ends, a kill -9 included.

Run as a script: a process with calls under way must not fork, since the handlers of gRPC may abort the child.
Arguments: the starter's pid, the program and its arguments.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, *command: str) -> None:
    """Does not return."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # The parent may have died before the call: then no signal will ever come.
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
