"""What the leader has executors look at: catalogs to list, new names to load, tables to measure before their slots."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from control_plane.domain.catalog import Catalog
from control_plane.domain.discovery_rules import DiscoveryRules
from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.observation import ObservationKind, ObservationRequest
from control_plane.domain.policy import Policy
from control_plane.domain.scheduling import SlotFacts, Target
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.triggers import evaluate
from control_plane.ports.records import Clock, Store
from control_plane.services.governing import GoverningPolicies
from control_plane.services.sightings import Sightings

_PAGE: Final = 200
_LISTING_TIMEOUT: Final = timedelta(minutes=10)
_AHEAD_EVERY: Final = timedelta(seconds=30)


class DiscoveryService:
    """Opens observations on behalf of the whole deployment. What comes of them, `Sightings` keeps."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        sightings: Sightings,
        governing: GoverningPolicies,
        *,
        rules: DiscoveryRules,
        scheduling: SchedulingRules,
    ) -> None:
        self._store = store
        self._clock = clock
        self._sightings = sightings
        self._governing = governing
        self._rules = rules
        self._scheduling = scheduling
        self._asked: dict[CatalogName, float] = {}
        self._loaded_to: TableName | None = None
        self._looked_to: Target | None = None
        self._looks_ahead_at = 0.0
        self._wanted: dict[TableName, None] = {}

    async def ask(self) -> None:
        """One round."""
        await self._list_catalogs()
        await self._load_names()
        await self._inspect()

    def inspect_soon(self, name: TableName) -> None:
        """A slot waits for a report on this table."""
        self._wanted[name] = None
        self._store.hints.give("discovery")

    # -- catalogs

    async def _list_catalogs(self) -> None:
        now = await self._store.now()
        after: CatalogName | None = None
        known: dict[CatalogName, float] = {}
        while True:
            catalogs = await self._store.catalogs.list(after=after, limit=_PAGE)
            for catalog in catalogs:
                if self._is_due(catalog, now):
                    request = ObservationRequest(ObservationKind.LIST_TABLES, catalog.name)
                    await self._store.observations.open(
                        request, within=max(self._rules.interval, _LISTING_TIMEOUT), timeout=_LISTING_TIMEOUT
                    )
                    self._store.hints.give("observations")
                    known[catalog.name] = self._clock.monotonic()
                elif catalog.name in self._asked:
                    known[catalog.name] = self._asked[catalog.name]
            if len(catalogs) < _PAGE:
                break
            after = catalogs[-1].name
        self._asked = known

    def _is_due(self, catalog: Catalog, now: datetime) -> bool:
        """Whether the last listing is old, and this replica has not asked for another one lately."""
        asked = self._asked.get(catalog.name)
        if asked is not None and self._clock.monotonic() - asked < self._rules.interval.total_seconds():
            return False
        # One that failed is asked for again as seldom as the others.
        return catalog.last_list_time is None or now - catalog.last_list_time >= self._rules.interval

    # -- names

    async def _load_names(self) -> None:
        room = self._rules.loads - await self._store.observations.unanswered(ObservationKind.LOAD_TABLE)
        if room <= 0:
            return
        names = await self._store.tables.unloaded(after=self._loaded_to, limit=room)
        # From the beginning again in the next round: what could not be loaded holds up nothing behind it.
        self._loaded_to = names[-1] if len(names) == room else None
        for name in names:
            await self._sightings.look_at(ObservationRequest(ObservationKind.LOAD_TABLE, name.catalog, table=name))

    # -- reports

    async def _inspect(self) -> None:
        await self._look_ahead()
        if not self._wanted:
            return
        room = self._rules.inspections - await self._store.observations.unanswered(ObservationKind.INSPECT_TABLE)
        for name in list(self._wanted)[: max(room, 0)]:
            del self._wanted[name]
            await self._sightings.look_at(await self._sightings.inspection(name))

    async def _look_ahead(self) -> None:
        """Have tables measured that wait for a report, or will when their slots come."""
        if self._clock.monotonic() < self._looks_ahead_at or len(self._wanted) >= self._rules.inspections:
            return
        now = await self._store.now()
        # What waits for a report is due when it has waited long enough.
        before = now + max(self._rules.ahead, self._scheduling.health_wait)
        soon = await self._store.scheduling.approaching(after=self._looked_to, before=before, limit=_PAGE)
        governance = await self._governing.current()
        for facts in soon:
            policy = governance.of(facts.target)
            if policy is not None and self._needs_report(facts, policy, now):
                self._wanted[facts.table.name] = None
        if len(soon) == _PAGE:
            self._looked_to = soon[-1].target
        else:
            self._looked_to = None
            self._looks_ahead_at = self._clock.monotonic() + _AHEAD_EVERY.total_seconds()

    def _needs_report(self, facts: SlotFacts, policy: Policy, now: datetime) -> bool:
        """Whether the conditions will ask for a newer report than there is."""
        target = facts.target
        due = max(target.due or now, now)
        # A report that is made now must still be young enough then.
        ahead = min(self._rules.ahead, self._scheduling.health_max_age / 2)
        if not target.deferred and due - now > ahead:
            return False
        return evaluate(
            policy.spec.conditions(target.type),
            target.type,
            report=facts.table.health,
            outcomes=facts.outcomes,
            first_seen=facts.table.first_seen_time,
            now=now if target.deferred else due,
            health_max_age=self._scheduling.health_max_age,
        ).wants_inspection
