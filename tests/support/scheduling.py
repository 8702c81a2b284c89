"""Targets and decisions for tests, and the usual steps of a leader on a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from control_plane.domain import decisions
from control_plane.domain.catalog import Table
from control_plane.domain.identifiers import OperationType, PolicyName, ReplicaId, TableName
from control_plane.domain.operation import Change, Effects, Failure, FailureClass, Operation, Outcome
from control_plane.domain.scheduling import (
    LEADER_TTL,
    Charge,
    Decision,
    DecisionId,
    DecisionReason,
    PolicyMode,
    Settled,
    SlotFacts,
    SlotVerdict,
    Step,
    Target,
    Term,
)
from control_plane.ports.records import Store
from tests.support import factories
from tests.support.scene import Scene

FAILED: Final = factories.result(
    outcome=Outcome.PARTIAL, effects=Effects.NONE, failure=Failure(FailureClass.ENGINE, "out of memory")
)


def skip(reason: str) -> Callable[[Operation, datetime], Change]:
    """The decision that an operation is no longer wanted."""
    return lambda operation, now: decisions.skipped(operation, now, reason=reason)


def target(table: Table, **changes: Any) -> Target:
    """Compaction of the table under `nightly`, due a minute ago."""
    now = factories.now()
    made = Target(
        table.name.catalog,
        table.uuid or str(table.name),
        OperationType.REWRITE_DATA_FILES,
        PolicyMode.ACTIVE,
        PolicyName("nightly"),
        1,
        policy_create_time=now - timedelta(days=30),
        since=now - timedelta(days=30),
        slot=now - timedelta(minutes=1),
        due=now - timedelta(minutes=1),
    )
    return replace(made, **changes)


def decision(of: Target, table: Table, **changes: Any) -> Decision:
    """The slot was skipped, since its conditions were not met."""
    assert of.slot is not None
    made = Decision(
        DecisionId(str(uuid4())),
        of.catalog,
        of.table_key,
        table.name,
        of.type,
        of.mode,
        of.policy,
        of.policy_generation,
        of.slot,
        slot_text=f"{of.slot:%Y-%m-%d %H:%M:%S} UTC",
        verdict=SlotVerdict.SKIPPED,
        reason=DecisionReason.CONDITIONS_NOT_MET,
        text="1 of 2 conditions is not met",
        steps=(Step("conditions", "small files: 3 of 10", False), Step("health", "no report", None)),
        time=factories.now(),
        term=1,
    )
    return replace(made, **changes)


@dataclass
class Leader:
    """The replica that schedules on a scene's store."""

    scene: Scene
    term: Term

    @classmethod
    async def elected(cls, scene: Scene) -> Leader:
        term = await scene.store.leadership.acquire(ReplicaId("r1"), ttl=LEADER_TTL * 100)
        assert term is not None
        return cls(scene, term)

    async def resolve(self, table: Table, *targets: Target) -> None:
        """Have the store know the table, with these targets and no others."""
        await self.scene.store.tables.seen([table])
        await self.resolved(table, *targets)

    async def resolved(self, table: Table, *targets: Target) -> None:
        async with self.scene.store.scheduling.in_term(self.term):
            await self.scene.store.scheduling.resolved([(table, targets)])

    async def unresolved(self) -> Sequence[tuple[Table, Sequence[Target]]]:
        async with self.scene.store.scheduling.in_term(self.term):
            return await self.scene.store.scheduling.unresolved(limit=100)

    async def due(self, *, limit: int = 100) -> Sequence[SlotFacts]:
        async with self.scene.store.scheduling.in_term(self.term):
            return await self.scene.store.scheduling.due(limit=limit)

    async def settle(self, *settled: Settled) -> None:
        async with self.scene.store.scheduling.in_term(self.term):
            await self.scene.store.scheduling.settle(settled)

    async def fire(self, of: Target, table: Table, *, charge: Charge | None = None, **changes: object) -> Operation:
        """Decide that the slot runs; the target awaits its operation."""
        operation = factories.operation(
            **{
                **await self.scene.times(),
                "table": table.name,
                "table_uuid": table.uuid,
                "type": of.type,
                "policy": of.policy,
                "policy_generation": of.policy_generation,
                "slot": of.slot,
                **changes,
            }
        )
        fired = decision(
            of, table, verdict=SlotVerdict.FIRED, reason=DecisionReason.NO_CONDITIONS, operation=operation.id
        )
        waits = replace(of, slot=None, due=None, awaiting=operation.id)
        await self.settle(Settled(waits, (fired,), operation, charge))
        return operation


async def decided(store: Store, name: TableName, *, later: timedelta = timedelta(), **changes: Any) -> Decision:
    """A decision about a slot of the table that is stored as a leader would; `later` moves slot and decision on."""
    table = await store.tables.get(name)
    now = await store.now() + later
    of = target(table, type=OperationType.EXPIRE_SNAPSHOTS, slot=now, due=now, policy=PolicyName("tidy"))
    made = decision(of, table, time=now, **changes)
    term = await store.leadership.acquire(ReplicaId(str(uuid4())), ttl=LEADER_TTL)
    assert term is not None
    try:
        async with store.scheduling.in_term(term):
            await store.scheduling.settle([Settled(of, [made])])
    finally:
        await store.leadership.resign(term)
    return made
