"""Slots and the leases in them: what may start, what goes on, what must stop, and what is still to be told."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Final

import structlog

from executor.assignment import Assignment, Effects, Lease, Outcome, Plan, Progress, Result
from executor.attempt import RunningAttempt, StopReason
from executor.deadlines import DeadlineTable
from executor.engines.base import Engine
from executor.errors import ConfigurationError
from executor.execution import abandoned, execute
from executor.lease import Clock, Term, boottime
from executor.lease_timer import LeaseTimer
from executor.processes import ProcessIdentity
from executor.results import ResultStore

logger = structlog.get_logger(__name__)

_TICK: Final = 0.25
_THREADS_END_WITHIN: Final = 10.0


class Supervisor:
    """All attempts of this process. Its methods run on the event loop and none of them blocks.

    The session tells it what came over the stream and asks it what to send; a lost stream changes nothing here. An
    engine is touched only in a thread of the attempt's own, and only after permission to start that is not too old.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        slots: int,
        metadata_slots: int = 0,
        deadlines: DeadlineTable,
        results: ResultStore,
        clock: Clock = boottime,
    ) -> None:
        self._engine = engine
        self._deadlines = deadlines
        self._store = results
        self._clock = clock
        self._free = list(range(slots))
        self._metadata = range(slots, slots + metadata_slots)
        self._free_for_metadata = list(self._metadata)
        self._attempts: dict[Lease, RunningAttempt] = {}
        self._plans: dict[Lease, tuple[Plan, Future[None]]] = {}
        # Results of earlier processes are told too, but their leases are not this one's to hold.
        self._unanswered = dict(results.load())
        self._inherited = frozenset(self._unanswered)
        self._given_back: dict[Lease, str] = {}
        self._refusal: str | None = "the engine has not started"
        self._leaving: str | None = None
        self._session = 0
        self._moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timer = LeaseTimer(engine, attempts=self._running, deadlines=deadlines, clock=clock)
        self.changed = asyncio.Event()
        """Set when there is something new to send."""

    # What the session asks.

    def leases(self) -> Sequence[Lease]:
        """The leases that this process works under, with unanswered results among them."""
        return [*self._attempts, *(lease for lease in self._unanswered if lease not in self._inherited)]

    def plans(self) -> Mapping[Lease, Plan]:
        """Plans that wait to be stored."""
        return {lease: plan for lease, (plan, _) in self._plans.items()}

    def results(self) -> Mapping[Lease, Result]:
        """Results that wait for their answer."""
        return self._unanswered

    def take_given_back(self) -> Mapping[Lease, str]:
        """Leases that were taken but never started, and why, as far as that was not taken before."""
        taken, self._given_back = self._given_back, {}
        return taken

    def take_progress(self) -> Mapping[Lease, Progress]:
        """Where attempts stand, as far as that was not taken before."""
        taken = ((lease, attempt.take_progress()) for lease, attempt in self._attempts.items())
        return {lease: progress for lease, progress in taken if progress is not None}

    @property
    def leaving(self) -> str | None:
        """Why this executor takes no more work for good."""
        return self._leaving

    # What the session tells.

    def attached(self, *, sent_at: int, ttl: timedelta, accepted: Sequence[Lease], refused: Sequence[Lease]) -> None:
        """A session has begun; `sent_at` is when its Hello went out.

        An accepted lease is in RUNNING or RECONCILING, so its Ack arrived: if it has not started yet, now it may.
        """
        self._session += 1
        self.renewed(accepted, sent_at=sent_at, ttl=ttl)
        for lease in accepted:
            attempt = self._attempts.get(lease)
            if attempt is not None and not attempt.started:
                attempt.term = Term.confirmed(sent_at=sent_at, ttl=ttl)
                self._timer.guard(attempt)
                self.permitted(lease)
        for lease in refused:
            self.lost(lease, "refused at attachment")

    def offered(self, assignment: Assignment, *, sent_at: int, ttl: timedelta) -> str | None:
        """Take the assignment, or say why not. What is taken is acknowledged with a message sent after `sent_at`."""
        lease = assignment.lease
        if (known := self._attempts.get(lease)) is not None:
            # Our Ack was lost with the session: its successor counts. In one session the first stays, for the answer
            # to it may still come.
            if not known.started and known.session != self._session:
                known.session = self._session
                known.term = Term.confirmed(sent_at=sent_at, ttl=ttl)
                self._timer.guard(known)
            return None
        if lease in self._unanswered:
            return None
        if refusal := self._why_not(assignment):
            return refusal
        self._given_back.pop(lease, None)
        attempt = RunningAttempt(
            assignment,
            term=Term.confirmed(sent_at=sent_at, ttl=ttl),
            slot=self._free_slots(assignment).pop(0),
            session=self._session,
            clock=self._clock,
            submit_plan=self._submit_plan,
        )
        self._attempts[lease] = attempt
        self._timer.guard(attempt)
        return None

    def permitted(self, lease: Lease) -> None:
        """LeaseRenewed answered the Ack. Permission that is older than the lease's own deadline starts nothing."""
        attempt = self._attempts.get(lease)
        if attempt is None or attempt.started:
            return
        if not attempt.trusted or attempt.stop_reason is not None:
            self._give_up(attempt)
            return
        attempt.start()
        logger.info("attempt.started", operation=lease.operation, epoch=lease.epoch)
        # The caller's context is empty of work: each thread begins its own, and sets its own trace in it.
        thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._carry_out, attempt),
            name=f"operation-{lease.operation}",
            daemon=True,
        )
        thread.start()
        self._timer.wake()

    def renewed(self, leases: Sequence[Lease], *, sent_at: int, ttl: timedelta) -> None:
        """A heartbeat that went out at `sent_at` was answered for these leases."""
        term = Term.confirmed(sent_at=sent_at, ttl=ttl)
        for lease in leases:
            attempt = self._attempts.get(lease)
            # Before it starts only its Ack counts: a heartbeat extends nothing that was not acknowledged.
            if attempt is not None and attempt.started:
                attempt.renew(term)
                self._timer.guard(attempt)

    def lost(self, lease: Lease, reason: str) -> None:
        attempt = self._attempts.get(lease)
        if attempt is None:
            return
        logger.warning("lease.lost", operation=lease.operation, epoch=lease.epoch, reason=reason)
        if attempt.started:
            attempt.stop(StopReason.LEASE_LOST)
            self._timer.wake()
        else:
            # Nothing was done under it, and nobody waits to hear that.
            self._release(attempt)

    def cancelled(self, lease: Lease, reason: str) -> None:
        attempt = self._attempts.get(lease)
        if attempt is None:
            return
        logger.info("attempt.cancel_requested", operation=lease.operation, epoch=lease.epoch, reason=reason)
        attempt.stop(StopReason.CANCEL)
        if attempt.started:
            self._timer.wake()
        else:
            self._end(attempt, Result(Outcome.NO_CHANGE, Effects.NONE, cancelled=True))

    def plan_stored(self, lease: Lease) -> None:
        if (waiting := self._plans.pop(lease, None)) is not None:
            _, stored = waiting
            with contextlib.suppress(asyncio.InvalidStateError):
                stored.set_result(None)

    async def answered(self, lease: Lease, *, rejected: str | None = None) -> None:
        """The control plane has the result, whatever it made of it."""
        if self._unanswered.pop(lease, None) is None:
            return
        if rejected is not None:
            logger.warning("result.rejected", operation=lease.operation, epoch=lease.epoch, reason=rejected)
        try:
            await asyncio.to_thread(self._store.remove, lease)
        except OSError:
            # The next process tells it once more, and is answered once more.
            logger.exception("result.not_removed", operation=lease.operation, epoch=lease.epoch)
        self._moved.set()

    def drain(self, reason: str) -> None:
        """The control plane gives no more until it says otherwise; what runs goes on.

        Every assignment is acknowledged as it comes, so there is nothing to give back; one that still comes after this
        was given on purpose, after an undrain.
        """
        logger.info("executor.drained", reason=reason)

    # Its own life.

    async def start(self) -> None:
        """Bring the engine up. Raises `ConfigurationError` if it cannot."""
        await asyncio.to_thread(self._engine.start)
        self._engine_started()
        self._timer.start()

    async def run(self) -> None:
        """Watch over the engine, for ever: a dead one is replaced once its attempts are told."""
        while True:
            await asyncio.sleep(_TICK)
            for attempt in list(self._attempts.values()):
                if not attempt.started and not attempt.trusted:
                    self._give_up(attempt)
            process = self._deadlines.engine
            if process is not None and self._refusal is None and not process.is_alive:
                await self._replace_engine(process)

    async def leave(self, reason: str, *, grace: timedelta) -> None:
        """Take no more, let what runs end within `grace`, then stop it, and wait until it has stopped."""
        self._leaving = reason
        self.changed.set()
        for attempt in [attempt for attempt in self._attempts.values() if not attempt.started]:
            self._give_up(attempt)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace.total_seconds()):
                await self._until(lambda: not self._attempts)
        for attempt in self._attempts.values():
            attempt.stop(StopReason.SHUTDOWN)
        self._timer.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_THREADS_END_WITHIN):
                await self._until(lambda: not self._attempts)

    async def told(self, *, within: timedelta) -> None:
        """Wait until every result is answered, but no longer than that: they are on disk."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within.total_seconds()):
                await self._until(lambda: not self._unanswered)

    async def stop(self) -> None:
        """Stop the engine and the timer. What still runs is told as unknown first."""
        self._refusal = "the executor is stopping"
        for attempt in [attempt for attempt in self._attempts.values() if attempt.started]:
            await self._abandon(attempt)
        await asyncio.to_thread(self._engine.stop)
        self._deadlines.engine = None
        await asyncio.to_thread(self._timer.close)

    def _running(self) -> Sequence[RunningAttempt]:
        return list(self._attempts.values())

    def _why_not(self, assignment: Assignment) -> str | None:
        if self._leaving is not None:
            return self._leaving
        if self._refusal is not None:
            return self._refusal
        if not self._free_slots(assignment):
            return "no slot is free"
        if assignment.solo and self._attempts:
            return "it has to run alone, and something runs"
        if any(attempt.assignment.solo for attempt in self._attempts.values()):
            return "what runs has to run alone"
        return None

    def _free_slots(self, assignment: Assignment) -> list[int]:
        """What rewrites no data has slots of its own first; a control plane that knows no lanes may give it more."""
        if assignment.rewrites_data or not self._free_for_metadata:
            return self._free
        return self._free_for_metadata

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._moved.clear()
            await self._moved.wait()

    def _give_up(self, attempt: RunningAttempt) -> None:
        """It has not started and will not: it goes back as it came, which is no attempt that failed.

        A lease whose Ack has arrived cannot go back so: it lapses, and evidence says that nothing was done.
        """
        if self._release(attempt):
            lease = attempt.lease
            logger.warning("attempt.given_up", operation=lease.operation, epoch=lease.epoch)
            self._given_back[lease] = self._leaving or "permission to start did not come before the lease's deadline"
            self.changed.set()

    def _end(self, attempt: RunningAttempt, result: Result) -> None:
        if self._release(attempt):
            self._unanswered[attempt.lease] = result
            self.changed.set()

    def _release(self, attempt: RunningAttempt) -> bool:
        """Free its slot. False if that was done before."""
        if self._attempts.get(attempt.lease) is not attempt:
            return False
        self._timer.release(attempt)
        del self._attempts[attempt.lease]
        self._plans.pop(attempt.lease, None)
        (self._free_for_metadata if attempt.slot in self._metadata else self._free).append(attempt.slot)
        self._moved.set()
        return True

    def _submit_plan(self, attempt: RunningAttempt, plan: Plan, stored: Future[None]) -> None:
        """Called in the engine's thread."""

        def submit() -> None:
            if attempt.lease in self._attempts:
                self._plans[attempt.lease] = (plan, stored)
                self.changed.set()

        self._loop.call_soon_threadsafe(submit)

    def _carry_out(self, attempt: RunningAttempt) -> None:
        """The thread of one attempt."""
        with structlog.contextvars.bound_contextvars(operation=attempt.lease.operation, epoch=attempt.lease.epoch):
            result = execute(self._engine, attempt)
            if attempt.ended.is_set():
                logger.warning("attempt.returned_late", outcome=result.outcome, effects=result.effects)
                return
            self._timer.release(attempt)
            try:
                self._store.save(attempt.lease, result)
            except OSError:
                # It is still told; only a crash before the answer would lose it, and then evidence decides.
                logger.exception("result.not_saved")
        # The loop may be gone: then the result is on disk.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, attempt, result)

    def _engine_started(self) -> None:
        pid = self._engine.process_id
        self._deadlines.engine = ProcessIdentity.of(pid) if pid is not None else None
        self._refusal = None

    async def _replace_engine(self, dead: ProcessIdentity) -> None:
        logger.error("engine.died", pid=dead.pid, watchdog_kills=self._deadlines.kills)
        self._refusal = "the engine died and is being replaced"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_THREADS_END_WITHIN):
                await self._until(lambda: not any(attempt.started for attempt in self._attempts.values()))
        for attempt in [attempt for attempt in self._attempts.values() if attempt.started]:
            await self._abandon(attempt)
        self._deadlines.engine = None
        delay = 1.0
        while True:
            await asyncio.to_thread(self._engine.stop)
            try:
                await asyncio.to_thread(self._engine.start)
                break
            except ConfigurationError:
                raise
            except Exception:
                logger.exception("engine.start_failed", retried_in=delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, 60.0)
        self._engine_started()
        logger.info("engine.replaced", pid=self._engine.process_id)

    async def _abandon(self, attempt: RunningAttempt) -> None:
        """Its thread does not come back: nobody knows what it did, and evidence has to say."""
        self._timer.release(attempt)
        result = abandoned(attempt)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._store.save, attempt.lease, result)
        self._end(attempt, result)
