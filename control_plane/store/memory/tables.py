"""Known tables and their health reports in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.errors import CatalogNotFound, TableNotFound
from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import CatalogName, TableName, TableUuid
from control_plane.domain.scheduling import SlotVerdict
from control_plane.ports.records import ReportPage
from control_plane.store.memory.state import KeptReport, Memory, State, TableKey

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

    async def unloaded(self, *, after: TableName | None, limit: int) -> Sequence[TableName]:
        async with self._memory.step() as state:
            found = (t.name for t in state.tables if not t.uuid and t.state is TableState.PRESENT)
            return sorted(name for name in found if after is None or name > after)[:limit]

    async def unseen(
        self, catalog: CatalogName, *, since: datetime, after: TableName | None, limit: int
    ) -> Sequence[TableName]:
        async with self._memory.step() as state:
            found = (
                table.name
                for table in state.tables
                if table.name.catalog == catalog and table.state is TableState.PRESENT and table.last_seen_time < since
            )
            return sorted(name for name in found if after is None or name > after)[:limit]

    async def get(self, name: TableName) -> Table:
        async with self._memory.step() as state:
            table = named(state, name)
            if table is None:
                raise TableNotFound(str(name))
            return whole(state, table)

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
            return [whole(state, table) for table in found[:limit]]

    async def save_report(self, name: TableName, uuid: TableUuid, report: HealthReport) -> None:
        async with self._memory.step() as state:
            table = identified(state, name.catalog, uuid) if uuid else named(state, name)
            if table is None:
                raise TableNotFound(str(name))
            state.report_id += 1
            key = table_key(table)
            reports = (*state.reports.get(key, ()), KeptReport(state.report_id, report))
            state.reports[key] = reports[-_KEPT_REPORTS:]
            for identity, target in list(state.targets.items()):
                if identity[:2] == key and target.deferred:
                    state.targets[identity] = replace(target, due=self._memory.now())

    async def reports(self, name: TableName, *, after: int | None, limit: int) -> ReportPage:
        async with self._memory.step() as state:
            table = named(state, name)
            if table is None:
                raise TableNotFound(str(name))
            kept = state.reports.get(table_key(table), ())
            found = [report for report in reversed(kept) if after is None or report.id < after]
            page = found[:limit]
            more = len(found) > limit and bool(page)
            return ReportPage([kept.report for kept in page], page[-1].id if more else None)

    async def missing(self, name: TableName) -> bool:
        async with self._memory.step() as state:
            table = named(state, name)
            if table is None or table.state is not TableState.PRESENT:
                return False
            began = state.catalogs[name.catalog].earlier_list_begin_time
            if began is None or table.last_seen_time >= began:
                return False
            _put(state, table, replace(table, state=TableState.MISSING))
            return True

    def _list(self, state: State, name: TableName) -> None:
        now = self._memory.now()
        known = named(state, name)
        if known is None:
            _add(state, Table(name, TableUuid(""), "", now, now))
        else:
            _put(state, known, replace(known, state=TableState.PRESENT, last_seen_time=now))


def _see(state: State, table: Table) -> None:
    if table.name.catalog not in state.catalogs:
        raise CatalogNotFound(table.name.catalog)
    namesake = named(state, table.name)
    known = identified(state, table.name.catalog, table.uuid)
    if namesake is not None and namesake.uuid != table.uuid:
        if namesake.uuid:
            _put(state, namesake, replace(namesake, state=TableState.REPLACED))
        elif known is None:
            known = namesake
        else:
            state.tables.remove(namesake)
            _move(state, namesake, table)
            state.reports.pop(table_key(namesake), None)
    kept = replace(table, health=None, active_operation=None)
    if known is None:
        _add(state, kept)
    else:
        _put(state, known, replace(kept, first_seen_time=known.first_seen_time))


def _add(state: State, table: Table) -> None:
    state.tables.append(table)
    state.unresolved.add(table_key(table))


def _put(state: State, old: Table, new: Table) -> None:
    """Whatever changes which policies may govern it has it resolved anew."""
    state.tables[state.tables.index(old)] = new
    if (old.name, old.uuid, old.state) != (new.name, new.uuid, new.state):
        state.unresolved.add(table_key(new))
    if table_key(old) != table_key(new):
        _move(state, old, new)
        state.reports[table_key(new)] = state.reports.pop(table_key(old), ())


def _move(state: State, old: Table, new: Table) -> None:
    """The table has got its UUID: what stood under its name stands under that. What stands there already wins."""
    state.unresolved.discard(table_key(old))
    for identity, target in list(state.targets.items()):
        if identity[:2] == table_key(old):
            del state.targets[identity]
            moved = replace(target, table_key=table_key(new)[1])
            state.targets.setdefault((moved.catalog, moved.table_key, moved.type, moved.mode), moved)
    for key, decision in list(state.decisions.items()):
        if key[:2] == table_key(old) and decision.verdict is SlotVerdict.DEFERRED:
            del state.decisions[key]
            state.decisions.setdefault(
                (key[0], table_key(new)[1], *key[2:]), replace(decision, table_key=table_key(new)[1])
            )


def named(state: State, name: TableName) -> Table | None:
    """The table that bears the name now."""
    return next((t for t in state.tables if t.name == name and t.state is not TableState.REPLACED), None)


def identified(state: State, catalog: CatalogName, uuid: TableUuid) -> Table | None:
    return next((t for t in state.tables if (t.name.catalog, t.uuid) == (catalog, uuid)), None)


def table_key(table: Table) -> TableKey:
    """Its catalog and the key of its fence."""
    return table.name.catalog, table.uuid or str(table.name)


def whole(state: State, table: Table) -> Table:
    """With its newest report and the operation that has it now."""
    reports = state.reports.get(table_key(table), ())
    fence = state.fences.get(table.uuid or str(table.name))
    return replace(
        table, health=reports[-1].report if reports else None, active_operation=fence.holder if fence else None
    )
