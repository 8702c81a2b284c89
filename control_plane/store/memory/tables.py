"""Known tables and their health reports in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.errors import CatalogNotFound, TableNotFound
from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import CatalogName, TableName, TableUuid
from control_plane.store.memory.state import Memory, State

_KEPT_REPORTS: Final = 100


class MemoryTables:
    """The whole of `ports.records.TableStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def seen(self, tables: Sequence[Table]) -> None:
        async with self._memory.step() as state:
            for table in tables:
                if table.uuid:
                    _see(state, table)
                else:
                    self._list(state, table.name)

    async def listed(self, catalog: CatalogName, names: Sequence[TableName]) -> None:
        async with self._memory.step() as state:
            if names and catalog not in state.catalogs:
                raise CatalogNotFound(catalog)
            for name in names:
                self._list(state, name)

    async def get(self, name: TableName) -> Table:
        async with self._memory.step() as state:
            table = _named(state, name)
            if table is None:
                raise TableNotFound(str(name))
            return _whole(state, table)

    async def list(self, *, catalog: CatalogName | None, after: TableName | None, limit: int) -> Sequence[Table]:
        async with self._memory.step() as state:
            found = sorted(
                (
                    table
                    for table in state.tables
                    if table.state is not TableState.REPLACED
                    and catalog in (None, table.name.catalog)
                    and (after is None or table.name > after)
                ),
                key=lambda table: table.name,
            )
            return [_whole(state, table) for table in found[:limit]]

    async def save_report(self, name: TableName, uuid: TableUuid, report: HealthReport) -> None:
        async with self._memory.step() as state:
            table = _identified(state, name.catalog, uuid) if uuid else _named(state, name)
            if table is None:
                raise TableNotFound(str(name))
            reports = (*state.reports.get(_report_key(table), ()), report)
            state.reports[_report_key(table)] = reports[-_KEPT_REPORTS:]

    async def missing(self, name: TableName) -> None:
        async with self._memory.step() as state:
            table = _named(state, name)
            if table is not None:
                _put(state, table, replace(table, state=TableState.MISSING))

    def _list(self, state: State, name: TableName) -> None:
        now = self._memory.now()
        known = _named(state, name)
        if known is None:
            state.tables.append(Table(name, TableUuid(""), "", now, now))
        else:
            _put(state, known, replace(known, state=TableState.PRESENT, last_seen_time=now))


def _see(state: State, table: Table) -> None:
    if table.name.catalog not in state.catalogs:
        raise CatalogNotFound(table.name.catalog)
    namesake = _named(state, table.name)
    known = _identified(state, table.name.catalog, table.uuid)
    if namesake is not None and namesake.uuid != table.uuid:
        if namesake.uuid:
            _put(state, namesake, replace(namesake, state=TableState.REPLACED))
        elif known is None:
            known = namesake
            state.reports[_report_key(table)] = state.reports.pop(_report_key(namesake), ())
        else:
            state.tables.remove(namesake)
    kept = replace(table, health=None, active_operation=None)
    if known is None:
        state.tables.append(kept)
    else:
        _put(state, known, replace(kept, first_seen_time=known.first_seen_time))


def _put(state: State, old: Table, new: Table) -> None:
    state.tables[state.tables.index(old)] = new


def _named(state: State, name: TableName) -> Table | None:
    return next((t for t in state.tables if t.name == name and t.state is not TableState.REPLACED), None)


def _identified(state: State, catalog: CatalogName, uuid: TableUuid) -> Table | None:
    return next((t for t in state.tables if (t.name.catalog, t.uuid) == (catalog, uuid)), None)


def _report_key(table: Table) -> tuple[CatalogName, str]:
    return table.name.catalog, table.uuid or str(table.name)


def _whole(state: State, table: Table) -> Table:
    reports = state.reports.get(_report_key(table), ())
    fence = state.fences.get(table.uuid or str(table.name))
    return replace(table, health=reports[-1] if reports else None, active_operation=fence.holder if fence else None)
