"""Processes that are started, watched and stopped together, and that nothing leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_END_WITH_PARENT: Final = str(Path(__file__).with_name("end_with_parent.py"))
_SHOWN_LOG_LINES: Final = 20
_SHOWN_LOG_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Child:
    """One running process: in a session of its own, so that a ^C at the terminal reaches only its parent."""

    name: str
    process: Process
    log: Path
    started: float

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.returncode is None

    def age(self) -> float:
        return time.monotonic() - self.started

    def last_words(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _SHOWN_LOG_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
            return "\n".join(lines[-_SHOWN_LOG_LINES:])
        return ""

    async def stop(self, *, within: float) -> bool:
        """Ask it to end, and kill it with all that it started if it does not. Whether it ended when asked."""
        if self.is_running:
            # Not by the process object: it would first look whether the child has ended, in rivalry with the loop.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(within):
                    await self.process.wait()
            except TimeoutError:
                await self.kill()
                return False
        return True

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.process.wait()


async def start(
    name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path, answers: bool = False
) -> Child:
    """Start a process whose output goes to the log; with `answers`, what it prints is for us to read.

    The kernel ends it when this process ends, a kill -9 included.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _END_WITH_PARENT, str(os.getpid()), *command),
            stdin=DEVNULL,
            stdout=PIPE if answers else output,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
        )
    return Child(name, process, log, time.monotonic())
