"""One attempt while this executor has it: what the engine's thread sees of it, and what may stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from enum import StrEnum
from typing import Final

from executor.assignment import Assignment, Failure, FailureClass, Lease, Plan, Progress, Result
from executor.engines.base import Cancelled, DeadlinePassed
from executor.lease import SECOND, Clock, Term, nanoseconds

_CHECKED_WHILE_WAITING: Final = 0.1
_CANCEL_REPEATED_AFTER: Final = 2 * SECOND


class StopReason(StrEnum):
    """Why an attempt is stopped before its end. The first reason stays."""

    CANCEL = "cancel was asked for"
    DEADLINE = "its lease was not renewed in time"
    LEASE_LOST = "its lease was taken back"
    TIMEOUT = "it ran longer than its timeout"
    SHUTDOWN = "its executor was shut down"


# Stopped like this, the attempt's lease may be another's already: no deadline is moved for it any more.
_UNTRUSTED: Final = frozenset({StopReason.DEADLINE, StopReason.LEASE_LOST})


class RunningAttempt:
    """One assignment from its Ack to the end of its thread; what an engine knows as `Attempt`.

    The event loop renews it, the lease timer's thread stops it, the engine's thread asks it. Each field has one writer
    or is written under the lock, and is replaced, never changed.
    """

    def __init__(
        self,
        assignment: Assignment,
        *,
        term: Term,
        slot: int,
        session: int,
        clock: Clock,
        submit_plan: Callable[[RunningAttempt, Plan, Future[None]], None],
    ) -> None:
        self._assignment = assignment
        self.slot = slot
        self.session = session
        """The session in which it was acknowledged."""
        self.term = term
        self._clock = clock
        self._submit_plan = submit_plan
        self._lock = threading.Lock()
        self._stop_reason: StopReason | None = None
        self._stop_since = 0
        self._cancelled_at: int | None = None
        self._run_until: int | None = None
        self._progress: Progress | None = None
        self.started = False
        self.ended = threading.Event()
        """The engine has left it, and its slot's deadline with it."""
        self.may_have_effects = False
        """A plan was stored, so that the engine may have begun to change the table."""

    @property
    def assignment(self) -> Assignment:
        return self._assignment

    @property
    def lease(self) -> Lease:
        return self._assignment.lease

    @property
    def stop_reason(self) -> StopReason | None:
        return self._stop_reason

    @property
    def trusted(self) -> bool:
        """Whether the lease can still be believed."""
        return self._stop_reason not in _UNTRUSTED and self._clock() < self.term.trusted_until

    def start(self) -> None:
        """Permission has come; from now the run's timeout counts."""
        self.started = True
        timeout = nanoseconds(self._assignment.timeout)
        self._run_until = self._clock() + timeout if timeout else None

    def renew(self, term: Term) -> None:
        with self._lock:
            if self._stop_reason not in _UNTRUSTED:
                self.term = self.term.extended_by(term)

    def stop(self, reason: StopReason) -> None:
        """Have the engine stopped; the lease timer does it. May be repeated: the first reason stays.

        But losing the lease outweighs the others: from then on it is not trusted, whatever else stopped it first.
        """
        with self._lock:
            if self._stop_reason is None or (reason in _UNTRUSTED and self._stop_reason not in _UNTRUSTED):
                self._stop_since = self._stop_since or self._clock()
                self._stop_reason = reason

    def enforce(self) -> None:
        """Stop it if its lease or its time is over."""
        now = self._clock()
        if now >= self.term.trusted_until:
            self.stop(StopReason.DEADLINE)
        elif self._run_until is not None and now >= self._run_until:
            self.stop(StopReason.TIMEOUT)

    @property
    def kill_at(self) -> int:
        """When its engine must be dead unless it has ended before."""
        if self._stop_reason is StopReason.LEASE_LOST:
            return min(self.term.kill_at, self._stop_since + self.term.stopping_time)
        return self.term.kill_at

    @property
    def next_check(self) -> int:
        """When `enforce` or `cancel_due` may next have something to do."""
        if self._stop_reason is not None:
            return (self._cancelled_at or 0) + _CANCEL_REPEATED_AFTER
        return min(self.term.trusted_until, self._run_until or self.term.trusted_until)

    def cancel_due(self) -> bool:
        """Whether the engine is to be told (again) to stop this; a yes counts as telling it.

        It is repeated because an interrupt can come between two steps, where nothing heeds it.
        """
        if self._stop_reason is None or self.ended.is_set():
            return False
        now = self._clock()
        if self._cancelled_at is not None and now - self._cancelled_at < _CANCEL_REPEATED_AFTER:
            return False
        self._cancelled_at = now
        return True

    @property
    def grace_is_over(self) -> bool:
        grace = nanoseconds(self._assignment.cancel_grace)
        return self._stop_reason is not None and self._clock() >= self._stop_since + grace

    # What the engine asks, from its own threads.

    def check(self) -> None:
        reason = self._stop_reason
        if reason in _UNTRUSTED or self._clock() >= self.term.trusted_until:
            raise DeadlinePassed(f"operation {self.lease.operation}: {reason or StopReason.DEADLINE}")
        if reason is not None:
            raise Cancelled(f"operation {self.lease.operation}: {reason}")

    def store_plan(self, plan: Plan) -> None:
        self.check()
        stored: Future[None] = Future()
        self._submit_plan(self, plan, stored)
        while True:
            try:
                stored.result(_CHECKED_WHILE_WAITING)
            except TimeoutError:
                self.check()
            else:
                break
        self.check()
        self.may_have_effects = True

    def report(self, progress: Progress) -> None:
        self._progress = progress

    def take_progress(self) -> Progress | None:
        """What was reported last; None if it was taken already."""
        progress, self._progress = self._progress, None
        return progress

    def explained(self, result: Result) -> Result:
        """The result with the true reason of its stop: an engine only knows that it was cancelled."""
        if not result.cancelled:
            return result
        match self._stop_reason:
            case StopReason.TIMEOUT:
                kind = FailureClass.TIMEOUT
            case StopReason.DEADLINE | StopReason.LEASE_LOST | StopReason.SHUTDOWN:
                kind = FailureClass.UNAVAILABLE
            case StopReason.CANCEL | None:
                return result
        failure = Failure(kind, f"the attempt was stopped: {self._stop_reason}")
        return replace(result, cancelled=False, failure=failure)
