"""A replica that schedules, on a store and a clock of the test's own: every step is taken when the test says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from control_plane.domain.catalog import Table
from control_plane.domain.discovery_rules import DiscoveryRules
from control_plane.domain.floors import Floors
from control_plane.domain.health import HealthMetrics
from control_plane.domain.identifiers import ReplicaId, TableName, TableUuid
from control_plane.domain.observation import Answer, LoadedTable, Measurements, Observation
from control_plane.domain.operation import Operation, OperationState
from control_plane.domain.policy import Policy
from control_plane.domain.scheduling import Decision, Term
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.ports.operations import OperationFilter
from control_plane.ports.records import Store
from control_plane.ports.scheduling import DecisionFilter
from control_plane.services.discovery import DiscoveryService
from control_plane.services.governing import GoverningPolicies
from control_plane.services.leadership import Leadership
from control_plane.services.recovery import RecoveryService
from control_plane.services.resolving import ResolvingService
from control_plane.services.scheduling import Scheduler
from control_plane.services.sightings import Sightings
from tests.support import factories
from tests.support.clock import ManualClock
from tests.support.factories import EVENTS
from tests.support.scene import Scene
from tests.support.stores import RULES

SECOND: Final = timedelta(seconds=1)
_MOST_STEPS: Final = 10_000


@dataclass
class Replica:
    """One replica of the control plane. `lead` makes it the leader if nobody leads."""

    store: Store
    clock: ManualClock
    name: str = "r1"
    rules: SchedulingRules = field(default_factory=SchedulingRules)
    discovery_rules: DiscoveryRules = field(default_factory=DiscoveryRules)
    enabled: bool = True
    term: Term | None = None

    def __post_init__(self) -> None:
        governing = GoverningPolicies(self.store, self.clock)
        self.sightings = Sightings(self.store, governing)
        self.discovery = DiscoveryService(
            self.store,
            self.clock,
            self.sightings,
            governing,
            rules=self.discovery_rules,
            scheduling=self.rules,
        )
        self.scheduler = Scheduler(
            self.store,
            self.clock,
            governing,
            ResolvingService(self.store, governing, rules=self.rules),
            self.discovery,
            rules=self.rules,
            floors=Floors(),
            enabled=self.enabled,
        )
        self.leadership = Leadership(self.store, self.clock, replica=ReplicaId(self.name))
        self.recovery = RecoveryService(self.store, self.clock, self.sightings, rules=RULES)

    @property
    def scene(self) -> Scene:
        return Scene(self.store)

    async def lead(self) -> bool:
        reign = await self.leadership.campaign()
        self.term = reign.term if reign is not None else None
        return reign is not None

    async def work(self) -> timedelta:
        """Do all that is to be done now, as the leader; how long there is nothing more."""
        if self.term is None or await self.store.leadership.renew(self.term, ttl=timedelta(seconds=6)) is None:
            assert await self.lead(), f"{self.name} is not elected"
        assert self.term is not None
        for _ in range(_MOST_STEPS):
            if pause := await self.scheduler.step(self.term):
                return pause
        raise AssertionError(f"there is still work after {_MOST_STEPS} steps")

    async def pass_time(self, by: timedelta, *, every: timedelta = SECOND) -> None:
        """Let time go by, and work as often as that."""
        end = self.clock.now() + by
        while self.clock.now() < end:
            self.clock.advance(min(every, end - self.clock.now()))
            await self.work()

    async def decisions(self, **where: Any) -> Sequence[Decision]:
        """Oldest slot first."""
        page = await self.store.scheduling.decisions(DecisionFilter(**where), after=None, limit=100_000)
        return sorted(page.decisions, key=lambda one: (one.slot, one.table, one.type.order))

    async def operations(self, *states: OperationState) -> Sequence[Operation]:
        """Oldest first."""
        page = await self.store.operations.list(OperationFilter(states=states), after=None, limit=100_000)
        return sorted(page.operations, key=lambda one: (one.create_time, one.type.order))

    async def register(self, *policies: Policy, tables: int = 1, catalog: bool = True) -> Sequence[Table]:
        """A catalog with tables, and these policies."""
        if catalog:
            await self.store.catalogs.create(factories.catalog())
        known = [self.table(number) for number in range(tables)]
        await self.store.tables.seen(known)
        for policy in policies:
            await self.store.policies.create(policy)
        return known

    def table(self, number: int = 0) -> Table:
        now = self.clock.now()
        name = replace(EVENTS, name=f"t{number}")
        return factories.table(name, first_seen_time=now, last_seen_time=now)

    def policy(self, name: str = "nightly", **document: Any) -> Policy:
        return replace(factories.policy(name, **document), create_time=self.clock.now(), update_time=self.clock.now())

    async def change(self, policy: Policy, **document: Any) -> Policy:
        """A new generation of the policy."""
        changed = factories.policy(policy.name, **document)
        now = self.clock.now()
        changed = replace(changed, generation=policy.generation + 1, create_time=policy.create_time, update_time=now)
        return await self.store.policies.update(changed, etag=None)

    async def succeed(self, operation: Operation) -> Operation:
        """Have an executor do it: nothing had to be done."""
        holder = await self.scene.attach(f"e-{operation.id[:8]}")
        (leased,) = [one for one in await self.scene.claim(holder) if one.id == operation.id]
        running = await self.scene.ack(leased, holder)
        return (await self.scene.report(running.lease, factories.result())).operation

    async def asked(self) -> Sequence[Observation]:
        """Hand out all looks that are wanted."""
        self._looker = await self.scene.attach("looker")
        return await self.store.observations.claim(factories.looks_by(self._looker, slots=1_000))

    async def answer(self, observation: Observation, answer: Answer) -> None:
        """Answer a look that `asked` handed out, and act on it."""
        session = self._looker.session
        assert session is not None
        done = await self.store.observations.answer(
            observation.id, epoch=observation.epoch, session=session, answer=answer
        )
        assert done is not None, "the answer came too late"
        await self.recovery.act_on_answers()


def loaded(table: Table, **changes: Any) -> LoadedTable:
    made = LoadedTable(table.uuid, table.location, table.metadata_location, 2)
    return replace(made, **changes)


def measured(table: Table, **metrics: Any) -> Measurements:
    return Measurements(loaded(table), HealthMetrics(metadata_location=table.metadata_location, **metrics))


def unknown_uuid(name: TableName) -> TableUuid:
    return TableUuid(f"uuid-of-{name}")


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    """An instant of the manual clock's day."""
    return ManualClock().now().replace(hour=hour, minute=minute, second=second)
