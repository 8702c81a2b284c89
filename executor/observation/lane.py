"""The observation lane: bounded worker processes that look at catalogs and tables, each look within its deadline.

Decoding metadata would stall the event loop for hundreds of milliseconds even from a thread, and a hung server or a
damaged file must cost one observation only: so each look runs in a process that can be killed and replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self, TypeVar, cast

import structlog

import executor
from executor.observation.errors import ErrorKind, Overdue, Unavailable, error_of
from executor.observation.model import Request
from executor.observation.settings import LaneSettings
from executor.observation.worker import LENGTH

R = TypeVar("R")

DEFAULT_TIMEOUT = timedelta(minutes=2)

WORKER_ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
"""Several threads decode, and what each allocator keeps for itself adds up: a worker's threads share few."""

_LARGEST_ANSWER = 256 * 1024**2
_ENDING_SECONDS = 2

logger = structlog.get_logger(__name__)


class ObservationLane:
    """At most `workers` looks at a time, at most `waiting` more in line.

    A look that overruns its deadline, is cancelled, or takes its worker down fails alone: the worker is killed and
    the next look gets a fresh one. Workers end with this process, a kill -9 included.
    """

    def __init__(self, workers: int, *, settings: LaneSettings | None = None, waiting: int = 100) -> None:
        if workers < 1:
            raise ValueError(f"the observation lane needs at least one worker, not {workers}")
        self._settings = settings or LaneSettings()
        self._workers = workers
        self._limit = workers + waiting
        self._present = 0
        self._slots = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def warm(self) -> None:
        """Start every worker now: a caller who waits a few seconds should not spend them on a worker's imports."""
        while len(self._idle) + len(self._busy) < self._workers:
            self._idle.append(await _Worker.start(self._settings))

    async def run(self, request: Request[R], *, within: timedelta = DEFAULT_TIMEOUT) -> R:
        """The answer, or an `ObservationError`: `Overdue` when the time, waiting in line included, was not enough."""
        if self._present >= self._limit:
            raise Unavailable(f"the observation lane is full: {self._limit} looks are under way or waiting")
        self._present += 1
        try:
            async with asyncio.timeout(within.total_seconds()) as deadline, self._slots:
                return await self._exchange(request)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise Overdue(f"{type(request).__name__} was not answered within {within.total_seconds():g} s") from None
        finally:
            self._present -= 1

    async def close(self) -> None:
        """Kill the workers, also those at work. May be repeated."""
        self._closed = True
        workers = [*self._idle, *self._busy]
        self._idle.clear()
        for worker in workers:
            await worker.kill()

    async def _exchange(self, request: Request[R]) -> R:
        if self._closed:
            raise Unavailable("the observation lane is closed")
        # The last one back is the warmest.
        worker = self._idle.pop() if self._idle else await _Worker.start(self._settings)
        self._busy.add(worker)
        reusable = False
        try:
            kind, answer, worn = await worker.exchange(request)
            reusable = not worn and not self._closed
        except (EOFError, OSError):
            status = await worker.ended()
            logger.warning("observation.worker_lost", request=type(request).__name__, status=status)
            raise Unavailable(f"the observation worker of this {type(request).__name__} ended ({status})") from None
        finally:
            self._busy.discard(worker)
            if reusable:
                self._idle.append(worker)
            else:
                # Also on cancellation and at the deadline: an answer that comes too late must meet nobody.
                await worker.kill()
        if kind is not None:
            raise error_of(kind, str(answer))
        return cast(R, answer)


class _Worker:
    """One worker process, its two pipes, and the directory for its copies of files."""

    def __init__(self, process: asyncio.subprocess.Process, scratch: TemporaryDirectory[str]) -> None:
        self._process = process
        self._scratch = scratch

    @classmethod
    async def start(cls, settings: LaneSettings) -> _Worker:
        # It imports this very tree, wherever it was imported from.
        root = str(Path(executor.__file__).parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        # Ours, not the worker's: a killed worker cleans nothing up.
        scratch = TemporaryDirectory(prefix="floe-observation-")
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "executor.observation.worker"),
                *(str(os.getpid()), scratch.name, pickle.dumps(settings).hex()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**WORKER_ENVIRONMENT, **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        except BaseException:
            scratch.cleanup()
            raise
        return cls(process, scratch)

    async def exchange(self, request: Request[R]) -> tuple[ErrorKind | None, object, bool]:
        """Raises EOFError or OSError if the process ends before it has answered."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        frame = pickle.dumps(request)
        requests.write(LENGTH.pack(len(frame)) + frame)
        await requests.drain()
        (length,) = LENGTH.unpack(await answers.readexactly(LENGTH.size))
        if length > _LARGEST_ANSWER:
            raise OSError(f"an answer of {length} bytes")
        kind, answer, worn = pickle.loads(await answers.readexactly(length))
        return kind, answer, worn

    async def ended(self) -> int:
        """The exit status of a worker that has closed its pipe. It is waited for first: a signal sent to a process that
        has just ended takes its status away from asyncio."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_SECONDS):
                await self._process.wait()
        return await self.kill()

    async def kill(self) -> int:
        """End it at once; its exit status. A worker has nothing to save."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        status = await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._scratch.cleanup()
        return status
