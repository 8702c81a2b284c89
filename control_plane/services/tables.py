"""Known tables: listed from the store, measured by executors on request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from control_plane.domain.catalog import Table
from control_plane.domain.errors import CatalogUnreachable
from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.observation import Measurements, ObservationError
from control_plane.domain.pattern import Pattern
from control_plane.ports.records import ReportPage, Store
from control_plane.services.observing import ObservingService, refuse
from control_plane.services.sightings import Sightings

_SCAN: Final = 1_000


class TableService:
    def __init__(
        self, store: Store, observing: ObservingService, sightings: Sightings, *, inspect_within: timedelta
    ) -> None:
        self._store = store
        self._observing = observing
        self._sightings = sightings
        self._inspect_within = inspect_within

    async def get(self, name: TableName) -> Table:
        """Raises CatalogNotFound, TableNotFound."""
        await self._store.catalogs.get(name.catalog)
        return await self._store.tables.get(name)

    async def list(
        self, *, catalog: CatalogName | None, pattern: Pattern | None, after: TableName | None, limit: int
    ) -> Sequence[Table]:
        """By name, at most `limit` that match, those after `after`."""
        if pattern is None:
            return await self._store.tables.list(catalog=catalog, after=after, limit=limit)
        found: list[Table] = []
        while True:
            tables = await self._store.tables.list(catalog=catalog, after=after, limit=_SCAN)
            found.extend(table for table in tables if pattern.matches(table.name))
            if len(found) >= limit or len(tables) < _SCAN:
                return found[:limit]
            after = tables[-1].name

    async def reports(self, name: TableName, *, after: int | None, limit: int) -> ReportPage:
        """The kept reports, newest first. Raises CatalogNotFound, TableNotFound."""
        await self._store.catalogs.get(name.catalog)
        return await self._store.tables.reports(name, after=after, limit=limit)

    async def inspect(self, name: TableName, *, traceparent: str = "") -> Table:
        """Have an executor measure it now, keep the report, and return the table with it.

        Raises CatalogNotFound, TableNotFound, NoExecutor, ObservationTimeout, CatalogUnreachable. A table that is known
        and could not be read keeps a report that says why.
        """
        await self._store.catalogs.get(name.catalog)
        request = await self._sightings.inspection(name)
        observation = await self._observing.look(request, within=self._inspect_within, traceparent=traceparent)
        # The loop that acts on answers keeps it too; here, so that who asked sees it at once.
        await self._sightings.keep(observation)
        match observation.answer:
            case Measurements():
                return await self._store.tables.get(name)
            case ObservationError() as error:
                if error.kind == "NOT_FOUND":
                    await self._store.tables.missing(name)
                refuse(error, request)
            case other:
                raise CatalogUnreachable(
                    name.catalog, why=f"its executor answered {type(other).__name__} to an inspection"
                )
