"""The usual steps of an operation on a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from control_plane.domain import decisions
from control_plane.domain.executor import Executor
from control_plane.domain.identifiers import OperationId
from control_plane.domain.operation import Change, Lease, Operation, OperationState, Result, VerificationVerdict
from control_plane.domain.operation import Verification as Seen
from control_plane.ports.operations import OperationEvent, OperationFilter, OperationStore, Reported
from control_plane.ports.records import Store
from tests.support import factories
from tests.support.stores import RULES


@dataclass
class Scene:
    """A store with the catalog `lake` and the policy `nightly`, and the usual steps on it."""

    store: Store

    @property
    def operations(self) -> OperationStore:
        return self.store.operations

    async def enqueue(self, **changes: object) -> Operation:
        """An operation on a table of its own."""
        operation = factories.separate(**{**await self.times(), **changes})
        await self.operations.enqueue([operation])
        return operation

    async def times(self) -> dict[str, Any]:
        now = await self.store.now()
        return {
            "create_time": now,
            "update_time": now,
            "virtual_deadline": now,
            "queue_deadline": now + timedelta(days=1),
        }

    async def attach(self, identity: str = "e1", **changes: object) -> Executor:
        return await self.store.executors.attach(factories.executor(identity, **changes))

    async def claim(self, holder: Executor, **changes: object) -> Sequence[Operation]:
        return [claimed.operation for claimed in await self.operations.claim(factories.claim_by(holder, **changes))]

    async def leased(self, holder: Executor, **changes: object) -> Operation:
        queued = await self.enqueue(**changes)
        (leased,) = await self.claim(holder)
        assert leased.id == queued.id
        return leased

    async def running(self, holder: Executor, **changes: object) -> Operation:
        return await self.ack(await self.leased(holder, **changes), holder)

    async def ack(self, leased: Operation, holder: Executor) -> Operation:
        session = holder.session
        assert session is not None
        running = await self.operations.change(
            leased.id,
            lambda op, now: decisions.acked(op, now, session=session, rules=RULES),
            lease=leased.lease,
            session=session,
        )
        assert running is not None
        return running

    async def report(self, lease: Lease, result: Result) -> Reported:
        return await self.operations.report(
            lease, result, lambda op, now: decisions.reported(op, now, result=result, rules=RULES)
        )

    async def lapse(self, running: Operation) -> Operation:
        lapsed = await self.operations.change(running.id, lambda op, now: decisions.lapsed(op, now, rules=RULES))
        assert lapsed is not None
        return lapsed

    async def verify(self, operation: OperationId) -> Operation:
        verified = await self.operations.change(
            operation,
            lambda op, now: decisions.verified(
                op, now, verification=Seen(VerificationVerdict.PASSED, (), now), rules=RULES
            ),
        )
        assert verified is not None
        return verified

    async def cancel(self, operation: OperationId) -> Operation:
        cancelled = await self.operations.change(operation, cancel)
        assert cancelled is not None
        return cancelled

    async def state(self, operation: OperationId) -> OperationState:
        return (await self.operations.get(operation)).state

    async def history(self, operation: OperationId) -> list[OperationEvent]:
        """All events of the operation, from the first."""
        start = await self.operations.cursor()
        beginning = type(start)(start.store, 0, 0)
        read = await self.operations.events(beginning, OperationFilter(ids=(operation,)), limit=1000)
        return [event for _, event in read.events]


def cancel(operation: Operation, now: datetime) -> Change:
    return decisions.cancel_requested(operation, now, by="local:test", reason="not now")


def returned(operation: Operation, now: datetime) -> Change:
    return decisions.returned(operation, now, reason="not acknowledged", rules=RULES)
