"""The debt scores of tables in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.ports.records import ChangedHealth
from control_plane.store.memory.state import Memory
from control_plane.store.memory.tables import named, table_key, whole


class MemoryDebts:
    """The whole of `ports.records.DebtStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def changed(self, *, since: datetime, limit: int) -> ChangedHealth:
        async with self._memory.step() as state:
            times = [
                (kept.report.measure_time, key)
                for key, reports in state.reports.items()
                for kept in reports
                if kept.report.measure_time > since
            ]
            for (fence, _), outcomes in state.outcomes.items():
                if outcomes.last_finish_time is not None and outcomes.last_finish_time > since:
                    keys = (table_key(table) for table in state.tables)
                    times.extend((outcomes.last_finish_time, key) for key in keys if key[1] == fence)
            times.sort()
            more = len(times) > limit
            until = times[limit - 1][0] if more else self._memory.now()
            keys_found = {key for time, key in times if time <= until}
            tables = [whole(state, table) for table in state.tables if table_key(table) in keys_found]
            return ChangedHealth(tables, until, more)

    async def keep(self, debts: Sequence[tuple[Table, float | None]], *, up_to: datetime) -> None:
        async with self._memory.step() as state:
            for table, debt in debts:
                if debt is None:
                    state.debts.pop(table_key(table), None)
                else:
                    state.debts[table_key(table)] = debt
            state.debts_kept_until = max(state.debts_kept_until, up_to)

    async def kept_until(self) -> datetime:
        async with self._memory.step() as state:
            return state.debts_kept_until

    async def ranking(
        self, *, catalog: CatalogName | None, after: tuple[float, TableName] | None, limit: int
    ) -> Sequence[tuple[Table, float]]:
        async with self._memory.step() as state:
            ranked = sorted(
                (-state.debts[table_key(table)], table.name)
                for table in state.tables
                if table.state is TableState.PRESENT
                and table_key(table) in state.debts
                and catalog in (None, table.name.catalog)
            )
            behind = [each for each in ranked if after is None or each > (-after[0], after[1])][:limit]
            found = [(named(state, name), -debt) for debt, name in behind]
            return [(whole(state, table), debt) for table, debt in found if table is not None]
