"""The debt scores of tables, and what may have changed them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic_core import to_json

from control_plane.domain.catalog import Table
from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.ports.records import ChangedHealth
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_filters import Conditions
from control_plane.store.postgres.tables import BESIDE, table_of

_CHANGED: Final = """
SELECT time, id, clock_timestamp() AS now FROM (
    (SELECT r.time, r.table_id AS id FROM health_reports r WHERE r.time > $1
     ORDER BY r.time FETCH FIRST $2 ROWS WITH TIES)
    UNION ALL
    (SELECT k.last_finish_time, t.id FROM outcomes k JOIN tables t ON t.fence_key = k.fence_key
     WHERE k.last_finish_time > $1
     ORDER BY k.last_finish_time FETCH FIRST $2 ROWS WITH TIES)
) changed ORDER BY time
"""
_NOW: Final = "SELECT clock_timestamp()"
_TABLES: Final = f"SELECT t.*, {BESIDE} FROM tables t WHERE t.id = ANY ($1::bigint[])"
# Only rows that differ, in the order in which listings lock tables.
_KEEP: Final = """
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1::json) AS g (catalog text, fence_key text, debt double precision)
), held AS MATERIALIZED (
    SELECT t.id, g.debt FROM given g JOIN tables t ON (t.catalog, t.fence_key) = (g.catalog, g.fence_key)
    WHERE t.debt IS DISTINCT FROM g.debt
    ORDER BY t.catalog, t.namespace, t.name
    FOR NO KEY UPDATE OF t
)
UPDATE tables t SET debt = held.debt FROM held WHERE t.id = held.id
"""
_KEPT: Final = "UPDATE debts_kept SET until = $1 WHERE until < $1"
_UNTIL: Final = "SELECT until FROM debts_kept"
_RANKING: Final = f"""
SELECT t.*, {BESIDE} FROM (
    SELECT * FROM tables
    WHERE debt IS NOT NULL AND state = 'PRESENT' AND {{where}}
    ORDER BY {{order}} LIMIT $1
) t
ORDER BY -t.debt, t.catalog, t.namespace, t.name
"""


class PostgresDebts:
    """The whole of `ports.records.DebtStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def changed(self, *, since: datetime, limit: int) -> ChangedHealth:
        now = await self._database.fetchval(_NOW)
        # One more of each list than is asked for: whether there is more can be told, and all before it is known.
        rows = await self._database.fetch(_CHANGED, since, limit + 1)
        more = len(rows) > limit
        until = rows[limit - 1]["time"] if more else now
        ids = sorted({row["id"] for row in rows if row["time"] <= until})
        tables = [table_of(row) for row in await self._database.fetch(_TABLES, ids)] if ids else []
        return ChangedHealth(tables, until, more)

    async def keep(self, debts: Sequence[tuple[Table, float | None]], *, up_to: datetime) -> None:
        async with self._database.transaction():
            if debts:
                given = [
                    {"catalog": table.name.catalog, "fence_key": table.uuid or str(table.name), "debt": debt}
                    for table, debt in debts
                ]
                await self._database.execute(_KEEP, to_json(given).decode())
            await self._database.execute(_KEPT, up_to)

    async def kept_until(self) -> datetime:
        until: datetime = await self._database.fetchval(_UNTIL)
        return until

    async def ranking(
        self, *, catalog: CatalogName | None, after: tuple[float, TableName] | None, limit: int
    ) -> Sequence[tuple[Table, float]]:
        conditions = Conditions(limit)
        order = "-debt, catalog, namespace, name"
        if catalog is not None:
            conditions.add("catalog = {}", catalog)
            order = "-debt, namespace, name"
        if after is not None:
            debt, name = after
            values = (-debt, name.catalog, list(name.namespace), name.name)
            if catalog is None:
                conditions.add("(-debt, catalog, namespace, name) > ({}, {}, {}, {})", *values)
            else:
                conditions.add("(-debt, namespace, name) > ({}, {}, {})", values[0], *values[2:])
        statement = _RANKING.format(where=conditions.sql, order=order)
        return [(table_of(row), row["debt"]) for row in await self._database.fetch(statement, *conditions.values)]
