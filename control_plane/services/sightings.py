"""What looks at catalogs and tables found, carried into the store: once, whoever comes first.

The mark that an answer was used stands in the transaction of what is done about it. So any replica may act on it, and
a caller who waited for it as well, and still a report is kept once and a listing counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from heapq import nsmallest
from typing import Final

import structlog

from control_plane.domain import health
from control_plane.domain.errors import TableNotFound
from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import CatalogName, TableName, TableUuid
from control_plane.domain.observation import (
    LoadedTable,
    Measurements,
    Observation,
    ObservationError,
    ObservationKind,
    ObservationRequest,
    TableNames,
)
from control_plane.ports.records import Store
from control_plane.services.governing import GoverningPolicies
from control_plane.services.triggering import remember

logger: Final = structlog.get_logger(__name__)

KINDS: Final = (ObservationKind.LIST_TABLES, ObservationKind.LOAD_TABLE, ObservationKind.INSPECT_TABLE)
"""The looks whose answers are carried by this."""

_LOOKED_FOR: Final = 50
"""How many tables that a listing did not name are looked for, and how many that moved are inspected, each time."""
_LOOK_WITHIN: Final = timedelta(minutes=10)
_LOOK_TIMEOUT: Final = timedelta(minutes=5)
_PAGE: Final = 500
# Nobody looked, so nothing is known of the table.
_NOBODY: Final = frozenset({"NO_EXECUTOR"})


class Sightings:
    """Keeps answers about catalogs and tables."""

    def __init__(self, store: Store, governing: GoverningPolicies) -> None:
        self._store = store
        self._governing = governing
        self._looked_to: dict[CatalogName, TableName] = {}

    async def keep(self, observation: Observation) -> None:
        """Carry the answer into the store. Nothing, if somebody has done it before."""
        match observation.request.kind:
            case ObservationKind.LIST_TABLES:
                await self._keep_listing(observation)
            case ObservationKind.LOAD_TABLE:
                await self._keep_load(observation)
            case ObservationKind.INSPECT_TABLE:
                await self._keep_inspection(observation)
            case other:
                raise ValueError(f"{other} says nothing about catalogs and tables")

    async def inspection(self, name: TableName) -> ObservationRequest:
        """The request to measure a table by the thresholds that it will be judged by."""
        thresholds = await self._governing.thresholds(name)
        return ObservationRequest(
            ObservationKind.INSPECT_TABLE,
            name.catalog,
            table=name,
            small_file_size_bytes=thresholds.small_file_size_bytes,
            large_file_size_bytes=thresholds.large_file_size_bytes,
        )

    async def look_at(self, request: ObservationRequest) -> None:
        """Have somebody look; its answer is kept when it comes."""
        await self._store.observations.open(request, within=_LOOK_WITHIN, timeout=_LOOK_TIMEOUT)
        self._store.hints.give("observations")

    # -- listings

    async def _keep_listing(self, observation: Observation) -> None:
        name, answer = observation.request.catalog, observation.answer
        async with self._store.transaction():
            if not await self._store.observations.used(observation.id):
                return
            match answer:
                case TableNames(names, complete):
                    await self._store.tables.listed(name, names)
                    error = "" if complete else "some namespaces could not be listed"
                    began = observation.begin_time if complete else None
                case ObservationError(message=error):
                    began = None
                case _:
                    return
            catalog = await self._store.catalogs.record_listing(name, error=error, began=began)
        self._store.hints.give("discovery")
        self._store.hints.give("targets")
        if catalog is None or not isinstance(answer, TableNames):
            return
        # In a catalog that moved, what listings cannot name is let go by a load.
        since = catalog.move_time if catalog.is_moving else catalog.earlier_list_begin_time if began else None
        if since is not None:
            for table in await self._unseen(name, since=since):
                await self.look_at(ObservationRequest(ObservationKind.LOAD_TABLE, name, table=table))
        if answer.metadata_locations:
            await self._inspect_moved(name, answer)

    async def _unseen(self, catalog: CatalogName, *, since: datetime) -> Sequence[TableName]:
        """Tables that were not seen since; those in turn that come after the ones looked for the last time, so that
        what can never be loaded hides no other.
        """
        last = self._looked_to.pop(catalog, None)
        found = list(await self._store.tables.unseen(catalog, since=since, after=last, limit=_LOOKED_FOR))
        if last is not None and len(found) < _LOOKED_FOR:
            room = _LOOKED_FOR - len(found)
            again = await self._store.tables.unseen(catalog, since=since, after=None, limit=room)
            found.extend(name for name in again if name <= last)
        if len(found) == _LOOKED_FOR:
            self._looked_to[catalog] = found[-1]
        return found

    async def _inspect_moved(self, catalog: CatalogName, listing: TableNames) -> None:
        """Measure again what somebody has measured and writers have changed since; what was measured longest ago goes
        first, so that tables which change all the time keep no other from its turn.
        """
        moved: list[tuple[datetime, TableName]] = []
        after = None
        while True:
            tables = await self._store.tables.list(catalog=catalog, after=after, limit=_PAGE)
            for table in tables:
                location, report = listing.metadata_locations.get(table.name), table.health
                if report is not None and location and report.metrics.metadata_location not in ("", location):
                    moved.append((report.measure_time, table.name))
            if len(tables) < _PAGE:
                break
            after = tables[-1].name
        for _, name in nsmallest(_LOOKED_FOR, moved):
            await self.look_at(await self.inspection(name))

    # -- loads

    async def _keep_load(self, observation: Observation) -> None:
        name = observation.request.table
        async with self._store.transaction():
            if not await self._store.observations.used(observation.id) or name is None:
                return
            match observation.answer:
                case LoadedTable() as loaded:
                    await remember(self._store, name, loaded)
                case ObservationError(kind="NOT_FOUND"):
                    if await self._store.tables.missing(name):
                        logger.info("table.missed", table=str(name))
                case _:
                    pass  # Nothing was learnt; the next look may.
        self._store.hints.give("targets")

    # -- inspections

    async def _keep_inspection(self, observation: Observation) -> None:
        name = observation.request.table
        if name is None:
            return
        thresholds = await self._governing.thresholds(name)
        async with self._store.transaction():
            if not await self._store.observations.used(observation.id):
                return
            now = await self._store.now()
            match observation.answer:
                case Measurements(loaded, metrics):
                    await remember(self._store, name, loaded)
                    report = health.assess(metrics, thresholds, now=now)
                    await self._store.tables.save_report(name, loaded.uuid, report)
                case ObservationError(kind=kind, message=message) if kind not in _NOBODY:
                    await self._keep_why(name, message)
                case _:
                    return
        self._store.hints.give("targets")

    async def _keep_why(self, name: TableName, error: str) -> None:
        try:
            known = await self._store.tables.get(name)
        except TableNotFound:
            return
        report = HealthReport.unreadable(error, now=await self._store.now())
        await self._store.tables.save_report(name, TableUuid(known.uuid), report)
