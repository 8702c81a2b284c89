"""Operations as callers see and steer them: get, list, watch, cancel, retry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from control_plane.domain import decisions
from control_plane.domain.errors import EtagMismatch, OperationNotFinished, OperationNotRetryable, PolicyDisabled
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationId, RunId, TriggerId
from control_plane.domain.operation import Attempt, Change, Operation, OperationState, Progress
from control_plane.ports.operations import Cursor, OperationEvent, OperationFilter, OperationStats
from control_plane.ports.records import Store
from control_plane.services.new_operations import Request, new_operation

_HEARTBEAT: Final = timedelta(seconds=15)
_POLL: Final = timedelta(seconds=1)
_BATCH: Final = 200
_REPLACED: Final = frozenset({"table_replaced", "table_gone"})


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation with what is kept beside it."""

    operation: Operation
    blockers: Sequence[str] = ()
    progress: Progress | None = None
    attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True)
class OperationList:
    views: Sequence[OperationView]
    next: tuple[datetime, OperationId] | None
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class WatchUpdate:
    """One message of a watch: an event, a progress, or neither: nothing happened up to the cursor."""

    cursor: Cursor | None = None
    event: OperationEvent | None = None
    progress: tuple[OperationId, Progress] | None = None


class OperationsService:
    def __init__(self, store: Store, *, floors: Floors) -> None:
        self._store = store
        self._floors = floors

    async def get(self, operation_id: OperationId) -> OperationView:
        operation = await self._store.operations.get(operation_id)
        attempts = await self._store.operations.attempts(operation_id)
        return replace((await self._views([operation]))[0], attempts=attempts)

    async def list(
        self, where: OperationFilter, *, after: tuple[datetime, OperationId] | None, limit: int
    ) -> OperationList:
        """One page, newest first. The cursor is read before the page, so a watch from it misses nothing that came
        later.
        """
        cursor = await self._store.operations.cursor()
        page = await self._store.operations.list(where, after=after, limit=limit)
        return OperationList(await self._views(page.operations), page.next, cursor)

    async def stats(self, where: OperationFilter, *, since: datetime) -> OperationStats:
        return await self._store.operations.stats(where, since=since)

    async def now(self) -> datetime:
        """The store's time, which every operation's times are of."""
        return await self._store.now()

    async def cancel(
        self, operation_id: OperationId, *, by: str, reason: str, etag: str | None = None
    ) -> OperationView:
        """Ask it to stop; asking again changes nothing. Raises OperationFinished for a terminal one."""

        def decide(operation: Operation, now: datetime) -> Change:
            if etag is not None and etag != str(operation.revision):
                raise EtagMismatch(f"operation {operation_id}", sent=etag, current=str(operation.revision))
            return decisions.cancel_requested(operation, now, by=by, reason=reason)

        operation = await self._store.operations.change(operation_id, decide)
        return (await self._views([operation or await self._store.operations.get(operation_id)]))[0]

    async def retry(self, operation_id: OperationId, *, by: str, traceparent: str = "") -> OperationView:
        """A new operation like a finished one, planned now under the policy as it is now."""
        done = await self._store.operations.get(operation_id)
        if not done.is_terminal:
            raise OperationNotFinished(operation_id, done.state)
        if done.state is OperationState.SUCCEEDED:
            raise OperationNotRetryable(
                operation_id, state=done.state, why="it succeeded; trigger the table again instead"
            )
        if done.state_reason in _REPLACED:
            raise OperationNotRetryable(
                operation_id, state=done.state, why=f"{done.state_reason}; trigger the table by its name"
            )
        policy = await self._store.policies.get(done.policy)
        if not policy.spec.runs:
            raise PolicyDisabled(policy.spec.name, shadow=policy.spec.is_enabled)
        if done.type not in policy.spec.operation_types:
            raise OperationNotRetryable(
                operation_id, state=done.state, why=f"policy {done.policy!r} no longer configures {done.type}"
            )
        table = await self._store.tables.get(done.table)
        if table.uuid != done.table_uuid:
            raise OperationNotRetryable(
                operation_id, state=done.state, why="another table has its name now; trigger it by its name"
            )
        request = Request(TriggerId(str(uuid4())), RunId(str(uuid4())), by, traceparent, retry_of=operation_id)
        now = await self._store.now()
        again = new_operation(table, policy, done.type, request, now=now, floors=self._floors)
        await self._store.operations.enqueue([again])
        return (await self._views([again]))[0]

    async def watch(
        self, where: OperationFilter, cursor: Cursor | None, *, progress: bool = False
    ) -> AsyncIterator[WatchUpdate]:
        """Every change after `cursor` (None: from now on): complete, at least once, in order per operation."""
        position = cursor if cursor is not None else await self._store.operations.cursor()
        yield WatchUpdate(cursor=position)
        idle = timedelta()
        shown: dict[OperationId, Progress] = {}
        while True:
            page = await self._store.operations.events(position, where, limit=_BATCH)
            for at, event in page.events:
                yield WatchUpdate(cursor=at, event=event)
            position = page.cursor
            if progress:
                async for update in self._progress(where, shown):
                    yield update
            if len(page.events) == _BATCH:
                continue
            idle = timedelta() if page.events else idle + _POLL
            if idle >= _HEARTBEAT:
                yield WatchUpdate(cursor=position)
                idle = timedelta()
            await self._store.hints.wait("events", _POLL)

    async def _progress(self, where: OperationFilter, shown: dict[OperationId, Progress]) -> AsyncIterator[WatchUpdate]:
        running = replace(where, states=(OperationState.RUNNING,))
        page = await self._store.operations.list(running, after=None, limit=_BATCH)
        for operation_id, now in (await self._store.operations.progress([o.id for o in page.operations])).items():
            if shown.get(operation_id) != now:
                shown[operation_id] = now
                yield WatchUpdate(progress=(operation_id, now))

    async def _views(self, operations: Sequence[Operation]) -> Sequence[OperationView]:
        queued = [o for o in operations if o.state is OperationState.QUEUED]
        running = [o.id for o in operations if o.state is OperationState.RUNNING]
        blockers = await self._store.operations.blockers(queued) if queued else {}
        progress = await self._store.operations.progress(running) if running else {}
        return [OperationView(o, blockers.get(o.id, ()), progress.get(o.id)) for o in operations]
