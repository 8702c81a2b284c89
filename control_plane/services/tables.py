"""Known tables: listed from the store, measured by executors on request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NoReturn

from control_plane.domain import health
from control_plane.domain.catalog import Table
from control_plane.domain.errors import CatalogUnreachable, TableNotFound
from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.observation import Measurements, ObservationError, ObservationKind, ObservationRequest
from control_plane.domain.pattern import Pattern
from control_plane.domain.thresholds import DEFAULT, Thresholds
from control_plane.ports.records import Store
from control_plane.services.observing import ObservingService, refuse
from control_plane.services.triggering import remember

_SCAN: Final = 1_000


class TableService:
    def __init__(
        self, store: Store, observing: ObservingService, *, inspect_within: timedelta, thresholds: Thresholds = DEFAULT
    ) -> None:
        self._store = store
        self._observing = observing
        self._inspect_within = inspect_within
        self._thresholds = thresholds

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

    async def inspect(self, name: TableName, *, traceparent: str = "") -> Table:
        """Have an executor measure it now, keep the report, and return the table with it.

        Raises CatalogNotFound, TableNotFound, NoExecutor, ObservationTimeout, CatalogUnreachable. A table that is known
        and could not be read keeps a report that says why.
        """
        await self._store.catalogs.get(name.catalog)
        request = ObservationRequest(
            ObservationKind.INSPECT_TABLE,
            name.catalog,
            table=name,
            small_file_size_bytes=self._thresholds.small_file_size_bytes,
            large_file_size_bytes=self._thresholds.large_file_size_bytes,
        )
        match await self._observing.observe(request, within=self._inspect_within, traceparent=traceparent):
            case Measurements(loaded, metrics):
                report = health.assess(metrics, self._thresholds, now=await self._store.now())
                await remember(self._store, name, loaded)
                await self._store.tables.save_report(name, loaded.uuid, report)
                return await self._store.tables.get(name)
            case ObservationError() as error:
                await self._unread(error, request, name)
            case other:
                raise CatalogUnreachable(
                    name.catalog, why=f"its executor answered {type(other).__name__} to an inspection"
                )

    async def _unread(self, error: ObservationError, request: ObservationRequest, name: TableName) -> NoReturn:
        if error.kind == "NOT_FOUND":
            await self._store.tables.missing(name)
        else:
            await self._keep_why(error, name)
        refuse(error, request)

    async def _keep_why(self, error: ObservationError, name: TableName) -> None:
        try:
            known = await self._store.tables.get(name)
        except TableNotFound:
            return
        report = HealthReport.unreadable(error.message, now=await self._store.now())
        await self._store.tables.save_report(name, known.uuid, report)
