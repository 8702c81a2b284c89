"""A small process beside the executor that kills its engine when a lease is about to lapse and nobody stopped it.

It needs nothing of the executor but its memory page (`executor.deadlines`): a Python process that is stopped, starved
or stuck cannot leave a committing engine behind. Standard input is a pipe from the executor: its end is the executor's
end, however that came, and then the engine is killed as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

import executor
from executor.deadlines import DeadlineTable
from executor.lease import SECOND, boottime

_ROOT: Final = str(Path(executor.__file__).parent.parent)

# The pipe is waited on by a clock that stands still while the machine sleeps, so no wait is long.
_LONGEST_WAIT: Final = SECOND // 2


class Watchdog:
    """The executor's end: the running watchdog process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, deadlines: DeadlineTable) -> Self:
        """Start it; it guards from when it runs, before any engine does."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "executor.watchdog",
            str(deadlines.descriptor),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(deadlines.descriptor,),
            # It imports this very tree, wherever this process found it.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))},
            # Out of reach of ^C at the terminal.
            start_new_session=True,
        )
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise RuntimeError(f"the watchdog did not start: exit code {await process.wait()}")
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> int:
        """Its exit code, once it has ended. While an executor lives, that is a reason for it to end too."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Let it go. The engine has to be stopped before, or it is killed now."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


def guard(deadlines: DeadlineTable, pipe: int) -> None:
    """Watch until the pipe ends."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    while True:
        earliest = deadlines.earliest()
        left = _LONGEST_WAIT if earliest is None else min(earliest - boottime(), _LONGEST_WAIT)
        if left <= 0:
            _kill(deadlines, "lease_lapsing")
            left = SECOND // 10
        # Rounded up: a wait that ends a moment early would spin.
        if poll.poll(left // 1_000_000 + 1) and not os.read(pipe, 1024):
            _kill(deadlines, "executor_gone")
            return


def _kill(deadlines: DeadlineTable, reason: str) -> None:
    engine = deadlines.engine
    if engine is not None and engine.kill():
        deadlines.count_kill()
        line = {"event": "engine.killed", "level": "warning", "logger": __name__, "reason": reason, "pid": engine.pid}
        os.write(sys.stderr.fileno(), json.dumps(line).encode() + b"\n")


def main() -> None:
    """`python -m executor.watchdog DESCRIPTOR`, with the executor's pipe as standard input."""
    # It ends when the executor has, not when someone ends them both.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    deadlines = DeadlineTable.opened(int(sys.argv[1]))
    os.write(sys.stdout.fileno(), b"ready\n")
    guard(deadlines, sys.stdin.fileno())


if __name__ == "__main__":
    main()
