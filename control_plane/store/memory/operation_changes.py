"""Changes of operations in memory: the same decisions, guards and consequences as on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from control_plane.domain.errors import CatalogNotFound, OperationNotFound
from control_plane.domain.identifiers import ExecutorId, OperationId, SessionId
from control_plane.domain.operation import Attempt, Change, Lease, Operation, OperationState, Progress, Result
from control_plane.domain.rules import Rules
from control_plane.domain.scheduling import Charge
from control_plane.ports.operations import Decide, Due, OperationEvent, Renewal, Reported, Verdict
from control_plane.store.changes import accepts_result, effect_of, is_current, stale_lease
from control_plane.store.fences import fence_key
from control_plane.store.memory.feedback import feed_back
from control_plane.store.memory.operation_lists import blockers_in
from control_plane.store.memory.operation_sweeps import is_due
from control_plane.store.memory.state import Fence, KeptCharge, KeptResult, Memory, State
from control_plane.store.results import result_digest

S = OperationState


class MemoryChanges:
    """Operations as they are added and changed, and leases while they are held."""

    def __init__(self, memory: Memory, rules: Rules) -> None:
        self._memory = memory
        self._rules = rules

    async def enqueue(self, operations: Sequence[Operation]) -> Mapping[OperationId, Sequence[str]]:
        async with self._memory.step() as state:
            for operation in operations:
                add(state, operation, self._memory.now())
                # Budgets count what people ask for too; what it costs is known when it ends.
                state.charges[operation.id] = KeptCharge(
                    operation.policy, fence_key(operation), self._memory.now(), Charge()
                )
            return blockers_in(state, operations, self._memory.now())

    async def change(
        self,
        operation: OperationId,
        decide: Decide,
        *,
        lease: Lease | None = None,
        session: SessionId | None = None,
        due: Due | None = None,
    ) -> Operation | None:
        async with self._memory.step() as state:
            current, now = _find(state, operation), self._memory.now()
            if lease is not None and not is_current(lease, current):
                return None
            if session is not None and not _is_session_of(state, current.executor, session):
                return None
            if due is not None and not is_due(state, current, due, now):
                return None
            change = decide(current, now)
            return None if change is None else apply(state, current, change, now)

    async def report(self, lease: Lease, result: Result, decide: Decide) -> Reported:
        digest = result_digest(result)
        async with self._memory.step() as state:
            current, now = _find(state, lease.operation), self._memory.now()
            kept = state.results.get(lease, ())
            accepted = [earlier.digest for earlier in kept if earlier.verdict is Verdict.ACCEPTED]
            verdict, reason, after = Verdict.REJECTED, "", current
            if accepted:
                if accepted[0] == digest:
                    return Reported(Verdict.REPEATED, current)
                reason = "another result of this lease was accepted before"
            elif not accepts_result(lease, current):
                reason = stale_lease(lease, current)
            else:
                change = decide(current, now)
                if change is None:
                    reason = "nothing follows from it any more"
                else:
                    after = apply(state, current, change, now)
                    verdict = Verdict.ACCEPTED
            state.results[lease] = (*kept, KeptResult(digest, verdict, now))
            return Reported(verdict, after, reason)

    async def renew(self, session: SessionId, leases: Sequence[Lease], *, heartbeat: bool) -> Renewal:
        async with self._memory.step() as state:
            now = self._memory.now()
            executor = next((e.id for e in state.executors.values() if e.session == session), None)
            held = {} if executor is None else {o.lease: o for o in state.leased_by(executor)}
            for lease, operation in held.items():
                if operation.state is not S.RUNNING:
                    continue
                if lease in leases:
                    renewed = replace(operation, lease_expire_time=now + self._rules.lease_ttl, missed_renewals=0)
                    state.operations[operation.id] = renewed
                elif heartbeat:
                    missed = replace(operation, missed_renewals=operation.missed_renewals + 1)
                    state.operations[operation.id] = missed
            lapsed = [lease for lease in leases if lease in held and held[lease].state is S.RECONCILING]
            lost = [lease for lease in leases if lease not in held]
            renewed_leases = [lease for lease in leases if lease not in lapsed and lease not in lost]
            cancelled = [lease.operation for lease in renewed_leases if held[lease].cancel_requested]
            return Renewal(renewed_leases, lapsed, lost, cancelled)

    async def progress(self, operations: Sequence[OperationId]) -> Mapping[OperationId, Progress]:
        async with self._memory.step() as state:
            return {id_: state.progress[id_] for id_ in operations if id_ in state.progress}

    async def record_progress(self, progress: Mapping[OperationId, Progress], *, leases: Sequence[Lease]) -> None:
        async with self._memory.step() as state:
            for lease in leases:
                operation = state.operations.get(lease.operation)
                if operation is not None and lease.operation in progress and is_current(lease, operation):
                    state.progress[lease.operation] = replace(progress[lease.operation], time=self._memory.now())

    async def cancel_requests(self, executors: Sequence[ExecutorId]) -> Sequence[Lease]:
        async with self._memory.step() as state:
            held = (operation for executor in executors for operation in state.leased_by(executor))
            return [operation.lease for operation in held if operation.cancel_requested]


def add(state: State, operation: Operation, now: datetime) -> None:
    """A new operation, with its fence and its event."""
    if operation.catalog not in state.catalogs:
        raise CatalogNotFound(operation.catalog)
    state.operations[operation.id] = operation
    state.fences.setdefault(fence_key(operation), Fence())
    note(state, "queued", None, operation, now)


def apply(state: State, current: Operation, change: Change, now: datetime) -> Operation:
    """Store the change with everything that follows from it."""
    effect = effect_of(current, change, now)
    if effect is None:
        return current
    if current.state not in effect.sources:
        raise ValueError(f"operation {current.id} is {current.state}; {effect.event} is not allowed there")
    after = effect.operation
    state.operations.pop(current.id, None)
    (state.history if after.is_terminal else state.operations)[after.id] = after
    if after.is_terminal:
        state.progress.pop(after.id, None)
        if not current.is_terminal:
            feed_back(state, after, now)
    key = fence_key(current)
    fence = state.fences[key]
    if fence.holder == current.id:
        holder = None if effect.opens_fence else fence.holder
        state.fences[key] = Fence(fence.epoch + (1 if effect.leaves_lease else 0), holder)
    if effect.leaves_lease:
        state.capacity_keys.pop(current.id, None)
    if change.attempt is not None:
        keep_attempt(state, current.id, change.attempt)
    if effect.event:
        note(state, effect.event, current.state, after, now)
    return after


def keep_attempt(state: State, operation: OperationId, attempt: Attempt) -> None:
    """One for each epoch; an attempt began when it was handed out, whatever its end says."""
    kept = {earlier.epoch: earlier for earlier in state.attempts.get(operation, ())}
    if attempt.epoch in kept:
        attempt = replace(attempt, start_time=kept[attempt.epoch].start_time)
    kept[attempt.epoch] = attempt
    state.attempts[operation] = tuple(kept[epoch] for epoch in sorted(kept))


def note(state: State, event: str, source: OperationState | None, operation: Operation, now: datetime) -> None:
    """Write the event; an event's operation has no token."""
    state.sequence += 1
    row = OperationEvent(state.sequence, event, now, source, operation.state, replace(operation, token=b""))
    state.events.append((state.transaction, row))


def _find(state: State, operation: OperationId) -> Operation:
    found = state.operations.get(operation) or state.history.get(operation)
    if found is None:
        raise OperationNotFound(operation)
    return found


def _is_session_of(state: State, executor: ExecutorId | None, session: SessionId) -> bool:
    holder = state.executors.get(executor) if executor is not None else None
    return holder is not None and holder.session == session
