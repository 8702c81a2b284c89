"""Reading operations and events in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from control_plane.domain.errors import CursorExpired, OperationNotFound
from control_plane.domain.identifiers import CatalogName, OperationId
from control_plane.domain.operation import Attempt, Operation, OperationState
from control_plane.ports.operations import Cursor, Events, OperationFilter, OperationPage
from control_plane.store.blockers import Step, Surroundings, blockers_of
from control_plane.store.fences import fence_key
from control_plane.store.memory.state import Memory, State
from control_plane.store.memory.tables import table_key

_HEARD_WITHIN: Final = timedelta(minutes=2)


class MemoryLists:
    """Operations as they are read."""

    _memory: Memory

    async def get(self, operation: OperationId) -> Operation:
        async with self._memory.step() as state:
            found = state.operations.get(operation) or state.history.get(operation)
            if found is None:
                raise OperationNotFound(operation)
            return found

    async def attempts(self, operation: OperationId) -> Sequence[Attempt]:
        async with self._memory.step() as state:
            current = await self.get(operation)
            return [
                attempt if attempt.finish_time is not None else replace(attempt, plan=current.plan)
                for attempt in state.attempts.get(operation, ())
            ]

    async def list(
        self, where: OperationFilter, *, after: tuple[datetime, OperationId] | None, limit: int
    ) -> OperationPage:
        async with self._memory.step() as state:
            everything = [*state.operations.values(), *state.history.values()]
        found = sorted(
            (o for o in everything if matches(where, o) and (after is None or (o.create_time, o.id) < after)),
            key=lambda o: (o.create_time, o.id),
            reverse=True,
        )
        page = found[:limit]
        more = len(found) > limit and bool(page)
        return OperationPage(page, (page[-1].create_time, page[-1].id) if more else None)

    async def unfinished(self, catalog: CatalogName) -> int:
        async with self._memory.step() as state:
            return sum(o.catalog == catalog for o in state.operations.values())

    async def counts(self) -> Mapping[OperationState, int]:
        async with self._memory.step() as state:
            return Counter(operation.state for operation in state.operations.values())

    async def blockers(self, operations: Sequence[Operation]) -> Mapping[OperationId, Sequence[str]]:
        async with self._memory.step() as state:
            return blockers_in(state, operations, self._memory.now())

    async def cursor(self) -> Cursor:
        async with self._memory.step() as state:
            return Cursor(self._memory.id, state.transaction, 0)

    async def events(self, after: Cursor, where: OperationFilter, *, limit: int) -> Events:
        async with self._memory.step() as state:
            if after.store != self._memory.id or not state.events_from <= after.xid <= state.transaction:
                raise CursorExpired
            found = [
                (Cursor(after.store, transaction, event.sequence), event)
                for transaction, event in state.events
                if (after.xid, after.sequence) < (transaction, event.sequence)
                and transaction < state.transaction
                and matches(where, event.operation)
            ][:limit]
            if len(found) == limit:
                return Events(found, found[-1][0])
            settled = Cursor(after.store, state.transaction, 0)
            return Events(found, max(after, settled, key=lambda cursor: (cursor.xid, cursor.sequence)))


def matches(where: OperationFilter, operation: Operation) -> bool:
    """Whether every field that is set matches."""
    return (
        where.catalog in (None, operation.catalog)
        and where.table in (None, operation.table)
        and where.run in (None, operation.run_id)
        and where.trigger in (None, operation.trigger_id)
        and where.policy in (None, operation.policy)
        and (not where.states or operation.state in where.states)
        and (not where.types or operation.type in where.types)
        and (not where.ids or operation.id in where.ids)
    )


def is_maintained(state: State, operation: Operation) -> bool:
    """Whether its table, if it is known, is to be maintained at all."""
    return not any(
        not table.maintenance_enabled and table_key(table) == (operation.catalog, fence_key(operation))
        for table in state.tables
    )


def blockers_in(state: State, operations: Sequence[Operation], now: datetime) -> Mapping[OperationId, Sequence[str]]:
    """What keeps each of those that are QUEUED from starting."""
    around = Surroundings(
        now=now,
        holders={key: fence.holder for key, fence in state.fences.items() if fence.holder is not None},
        steps=[Step.of(o) for o in ({o.id: o for o in operations} | state.operations).values()],
        pauses=list(state.pauses.values()),
        full=state.full(),
        generations={name: policy.generation for name, policy in state.policies.items() if policy.spec.is_enabled},
        displaced=state.displaced,
        unmaintained={operation.id for operation in operations if not is_maintained(state, operation)},
        executors=[
            executor
            for _, executor in sorted(state.executors.items())
            if executor.session is not None and executor.last_heartbeat_time > now - _HEARD_WITHIN
        ],
    )
    waiting = [operation for operation in operations if operation.state is OperationState.QUEUED]
    return {operation.id: blockers_of(operation, around) for operation in waiting}
