"""The thread that stops what must be stopped, whatever the event loop is doing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from executor.attempt import RunningAttempt
from executor.deadlines import DeadlineTable
from executor.engines.base import Engine
from executor.lease import SECOND, Clock

logger = structlog.get_logger(__name__)

_LONGEST_WAIT: Final = SECOND // 2
_SHORTEST_WAIT: Final = SECOND // 100


class LeaseTimer:
    """Enforces deadlines and run timeouts, and is the only one that tells the engine to cancel.

    Where an engine does not heed it in time, the watchdog's kill follows for a lease that lapses, and its own for an
    attempt that nobody else shares the engine with.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        attempts: Callable[[], Sequence[RunningAttempt]],
        deadlines: DeadlineTable,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._attempts = attempts
        self._deadlines = deadlines
        self._clock = clock
        self._rows = threading.Lock()
        self._woken = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="lease-timer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something has begun, was renewed, or is to be stopped."""
        self._woken.set()

    def guard(self, attempt: RunningAttempt) -> None:
        """Tell the watchdog until when this attempt may run."""
        with self._rows:
            if not attempt.ended.is_set():
                self._deadlines.set(attempt.slot, attempt.kill_at)
        self._woken.set()

    def release(self, attempt: RunningAttempt) -> None:
        """The engine has left it. Once only, so that a slot's next attempt keeps its row."""
        with self._rows:
            if not attempt.ended.is_set():
                attempt.ended.set()
                self._deadlines.clear(attempt.slot)

    def close(self) -> None:
        """End the thread; may be repeated, also before `start`."""
        self._closed = True
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            running = [attempt for attempt in self._attempts() if attempt.started]
            for attempt in running:
                attempt.enforce()
                if attempt.cancel_due():
                    self._cancel(attempt, alone=len(running) == 1)
            self._woken.wait(self._until_next(running))
            self._woken.clear()

    def _cancel(self, attempt: RunningAttempt, *, alone: bool) -> None:
        lease = attempt.lease
        # The row moves first: if the engine's cancel hangs, the watchdog still acts.
        self.guard(attempt)
        logger.info("attempt.cancelled", operation=lease.operation, epoch=lease.epoch, reason=attempt.stop_reason)
        try:
            self._engine.cancel(attempt)
        except Exception:
            logger.exception("attempt.cancel_failed", operation=lease.operation, epoch=lease.epoch)
        process = self._deadlines.engine
        if alone and attempt.grace_is_over and process is not None and process.kill():
            logger.warning("engine.killed", reason="cancel_grace_over", operation=lease.operation, pid=process.pid)

    def _until_next(self, running: Sequence[RunningAttempt]) -> float | None:
        """Seconds; None: until woken."""
        if not running:
            return None
        left = min(attempt.next_check for attempt in running) - self._clock()
        # The waiting clock stands still while the machine sleeps, so no wait is long.
        return max(_SHORTEST_WAIT, min(left, _LONGEST_WAIT)) / SECOND
