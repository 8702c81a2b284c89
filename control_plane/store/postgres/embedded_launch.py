"""Becomes a program of PostgreSQL, as the user that it must not be root for, and dies with whoever started it.

Run as a script, by a process that must not fork: a fork runs the handlers of every library in it, and gRPC's may abort
the child while calls are under way. Arguments: the starter's pid, the user's and the group's ids (or `-`), the program
and its arguments.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(starter: int, user: str, group: str, *command: str) -> None:
    """Does not return."""
    if user != "-":
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if sys.platform == "linux":
        # After the change of user, which clears it; an exec keeps it.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != starter:
            sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], *sys.argv[4:])
