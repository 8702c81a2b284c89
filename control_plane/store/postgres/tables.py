"""Known tables and their health reports on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import asyncpg

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.errors import CatalogNotFound, TableNotFound
from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import CatalogName, OperationId, TableName, TableUuid
from control_plane.ports.records import ReportPage
from control_plane.store.codec import dumped, loaded
from control_plane.store.postgres.database import Database, missing_key
from control_plane.store.postgres.operation_filters import Conditions

KEPT_REPORTS: Final = 100

# What `table_of` reads beside the row itself.
BESIDE: Final = """
(SELECT r.report FROM health_reports r WHERE r.table_id = t.id ORDER BY r.id DESC LIMIT 1) AS report,
(SELECT f.holder FROM fences f WHERE f.key = t.fence_key) AS active
"""
_SELECT: Final = f"SELECT t.*, {BESIDE} FROM tables t WHERE t.state <> 'REPLACED'"
_ORDER: Final = "ORDER BY t.catalog, t.namespace, t.name"
_NAMED: Final = "catalog = $1 AND namespace = $2 AND name = $3 AND state <> 'REPLACED'"
# Names of tables, as `names_json` writes them.
ASKED: Final = """
WITH asked AS MATERIALIZED (
    SELECT catalog, ARRAY(SELECT jsonb_array_elements_text(namespace)) AS namespace, name
    FROM jsonb_to_recordset($1::jsonb) AS n (catalog text, namespace jsonb, name text)
)
"""
_GET_ALL: Final = f"""
{ASKED}
{_SELECT} AND (t.catalog, t.namespace, t.name) IN (SELECT catalog, namespace, name FROM asked)
"""

# A table has two keys, its UUID and its name, and an insert can only wait for one of them: whoever writes tables of a
# catalog does it alone.
_ALONE: Final = "SELECT FROM catalogs WHERE name = ANY ($1) ORDER BY name FOR NO KEY UPDATE"
# Whoever bears the name now under another UUID, or under none, makes room for the table that was seen.
_REPLACE: Final = f"UPDATE tables SET state = 'REPLACED', unresolved = true WHERE {_NAMED} AND uuid NOT IN ('', $4)"
_LEARN_UUID: Final = f"""
UPDATE tables SET uuid = $4, unresolved = true
WHERE {_NAMED} AND uuid = '' AND NOT EXISTS (SELECT FROM tables k WHERE k.catalog = $1 AND k.uuid = $4)
"""
_FORGET_LISTED: Final = f"DELETE FROM tables WHERE {_NAMED} AND uuid = ''"
# The table has got its UUID: what stood under its name stands under that. What stands there already wins.
_MOVE: Final = """
WITH moved AS (
    UPDATE targets t SET fence_key = $3
    WHERE t.catalog = $1 AND t.fence_key = $2 AND NOT EXISTS (
        SELECT FROM targets k WHERE (k.catalog, k.fence_key, k.type, k.mode) = (t.catalog, $3, t.type, t.mode))
    RETURNING t.type, t.mode
), dropped AS (
    DELETE FROM targets t
    WHERE t.catalog = $1 AND t.fence_key = $2 AND EXISTS (
        SELECT FROM targets k WHERE (k.catalog, k.fence_key, k.type, k.mode) = (t.catalog, $3, t.type, t.mode))
)
UPDATE decisions d SET fence_key = $3
WHERE d.catalog = $1 AND d.fence_key = $2 AND d.verdict = 'DEFERRED' AND NOT EXISTS (
    SELECT FROM decisions k
    WHERE (k.catalog, k.fence_key, k.type, k.mode) = (d.catalog, $3, d.type, d.mode)
      AND (k.policy, k.slot) = (d.policy, d.slot))
"""
_SEE: Final = """
INSERT INTO tables AS t (catalog, namespace, name, uuid, table_key, location, metadata_location, format_version, state,
                         first_seen_time, last_seen_time, maintenance_enabled)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (catalog, uuid) WHERE uuid <> '' DO UPDATE SET
    namespace = EXCLUDED.namespace, name = EXCLUDED.name, table_key = EXCLUDED.table_key, location = EXCLUDED.location,
    metadata_location = EXCLUDED.metadata_location, format_version = EXCLUDED.format_version, state = EXCLUDED.state,
    last_seen_time = EXCLUDED.last_seen_time, maintenance_enabled = EXCLUDED.maintenance_enabled,
    -- Under another name, or back.
    unresolved = t.unresolved OR (t.table_key, t.state) <> (EXCLUDED.table_key, EXCLUDED.state)
"""
_LISTED: Final = """
INSERT INTO tables AS t (catalog, namespace, name, uuid, table_key, location, metadata_location, format_version, state,
                         first_seen_time, last_seen_time)
SELECT $1, ARRAY(SELECT jsonb_array_elements_text(n.namespace)) AS namespace, n.name, '', n.key, '', '', 0, 'PRESENT',
       now, now
FROM jsonb_to_recordset($2::jsonb) AS n (namespace jsonb, name text, key text), clock_timestamp() AS now
ORDER BY 2, 3
ON CONFLICT (catalog, namespace, name) WHERE state <> 'REPLACED' DO UPDATE SET
    state = 'PRESENT', last_seen_time = EXCLUDED.last_seen_time, unresolved = t.unresolved OR t.state <> 'PRESENT'
"""
_UNLOADED: Final = """
SELECT catalog, namespace, name FROM tables
WHERE uuid = '' AND state = 'PRESENT' AND ($2::text IS NULL OR (catalog, namespace, name) > ($2, $3, $4))
ORDER BY catalog, namespace, name LIMIT $1
"""
_UNSEEN: Final = """
SELECT catalog, namespace, name FROM tables
WHERE catalog = $1 AND state = 'PRESENT' AND last_seen_time < $2
  AND ($4::text[] IS NULL OR (namespace, name) > ($4, $5))
ORDER BY namespace, name LIMIT $3
"""
_FIND: Final = """
SELECT id FROM tables
WHERE catalog = $1 AND CASE WHEN $4 <> '' THEN uuid = $4 ELSE namespace = $2 AND name = $3 AND state <> 'REPLACED' END
"""
_SAVE_REPORT: Final = """
WITH saved AS (
    INSERT INTO health_reports (table_id, report, time) VALUES ($1, $2::jsonb, $3)
)
UPDATE targets g SET due = clock_timestamp()
FROM tables t WHERE t.id = $1 AND g.catalog = t.catalog AND g.fence_key = t.fence_key AND g.deferred
"""
_REPORTS: Final = """
SELECT r.id, r.report
FROM tables t LEFT JOIN LATERAL (
    SELECT * FROM health_reports r WHERE r.table_id = t.id AND ($4::bigint IS NULL OR r.id < $4)
    ORDER BY r.id DESC LIMIT $5
) r ON true
WHERE t.catalog = $1 AND t.namespace = $2 AND t.name = $3 AND t.state <> 'REPLACED'
ORDER BY r.id DESC
"""
_DROP_OLD_REPORTS: Final = """
DELETE FROM health_reports WHERE table_id = $1 AND id <= (
    SELECT id FROM health_reports WHERE table_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1
)
"""
_MISSING: Final = """
UPDATE tables t SET state = 'MISSING', unresolved = true
FROM catalogs c
WHERE c.name = $1 AND t.catalog = $1 AND t.namespace = $2 AND t.name = $3 AND t.state = 'PRESENT'
  AND t.last_seen_time < c.earlier_list_begin_time
"""


class PostgresTables:
    """The whole of `ports.records.TableStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._get = database.together(self._get_all)

    async def seen(self, tables: Sequence[Table]) -> None:
        async with _registered(), self._database.transaction():
            await self._database.execute(_ALONE, sorted({table.name.catalog for table in tables}))
            for table in sorted(tables, key=lambda table: table.name):
                await self._see(table)

    async def listed(self, catalog: CatalogName, names: Sequence[TableName]) -> None:
        listing = [{"namespace": name.namespace, "name": name.name, "key": str(name)} for name in dict.fromkeys(names)]
        if listing:
            async with _registered(), self._database.transaction():
                await self._database.execute(_ALONE, [catalog])
                await self._database.execute(_LISTED, catalog, json.dumps(listing))

    async def unloaded(self, *, after: TableName | None, limit: int) -> Sequence[TableName]:
        begin = _name(after) if after is not None else (None, None, None)
        return [_table_name(row) for row in await self._database.fetch(_UNLOADED, limit, *begin)]

    async def unseen(
        self, catalog: CatalogName, *, since: datetime, after: TableName | None, limit: int
    ) -> Sequence[TableName]:
        begin = (list(after.namespace), after.name) if after is not None else (None, None)
        return [_table_name(row) for row in await self._database.fetch(_UNSEEN, catalog, since, limit, *begin)]

    async def get(self, name: TableName) -> Table:
        table = await self._get(name)
        if table is None:
            raise TableNotFound(str(name))
        return table

    async def list(self, *, catalog: CatalogName | None, after: TableName | None, limit: int) -> Sequence[Table]:
        conditions = Conditions(limit)
        if catalog is not None:
            conditions.add("t.catalog = {}", catalog)
        if after is not None:
            conditions.add("(t.catalog, t.namespace, t.name) > ({}, {}, {})", *_name(after))
        statement = f"{_SELECT} AND {conditions.sql} {_ORDER} LIMIT $1"
        return [table_of(row) for row in await self._database.fetch(statement, *conditions.values)]

    async def save_report(self, name: TableName, uuid: TableUuid, report: HealthReport) -> None:
        async with self._database.transaction():
            table = await self._database.fetchval(_FIND, *_name(name), uuid)
            if table is None:
                raise TableNotFound(str(name))
            await self._database.execute(_SAVE_REPORT, table, dumped(report, HealthReport), report.measure_time)
            await self._database.execute(_DROP_OLD_REPORTS, table, KEPT_REPORTS)

    async def reports(self, name: TableName, *, after: int | None, limit: int) -> ReportPage:
        rows = await self._database.fetch(_REPORTS, *_name(name), after, limit + 1)
        if not rows:
            raise TableNotFound(str(name))
        found = [(row["id"], loaded(row["report"], HealthReport)) for row in rows if row["id"] is not None]
        page = found[:limit]
        more = len(found) > limit and bool(page)
        return ReportPage([report for _, report in page], page[-1][0] if more else None)

    async def missing(self, name: TableName) -> bool:
        return bool(await self._database.execute(_MISSING, *_name(name)))

    async def _get_all(self, names: Sequence[TableName]) -> Sequence[Table | None]:
        rows = await self._database.fetch(_GET_ALL, names_json(names))
        found = {(table := table_of(row)).name: table for row in rows}
        return [found.get(name) for name in names]

    async def _see(self, table: Table) -> None:
        if not table.uuid:
            await self.listed(table.name.catalog, [table.name])
            return
        name = _name(table.name)
        await self._database.execute(_REPLACE, *name, table.uuid)
        learnt = await self._database.execute(_LEARN_UUID, *name, table.uuid)
        if learnt or await self._database.execute(_FORGET_LISTED, *name):
            await self._database.execute(_MOVE, table.name.catalog, str(table.name), table.uuid)
        await self._database.execute(
            _SEE,
            *name,
            table.uuid,
            str(table.name),
            table.location,
            table.metadata_location,
            table.format_version,
            table.state,
            table.first_seen_time,
            table.last_seen_time,
            table.maintenance_enabled,
        )


@asynccontextmanager
async def _registered() -> AsyncIterator[None]:
    """The foreign key says when a table's catalog is not, or no longer, registered."""
    try:
        yield
    except asyncpg.ForeignKeyViolationError as error:
        raise CatalogNotFound(missing_key(error)) from error


def names_json(names: Iterable[TableName]) -> str:
    return json.dumps(
        [{"catalog": n.catalog, "namespace": list(n.namespace), "name": n.name} for n in dict.fromkeys(names)]
    )


def _name(name: TableName) -> tuple[str, list[str], str]:
    return name.catalog, list(name.namespace), name.name


def _table_name(row: asyncpg.Record) -> TableName:
    return TableName(CatalogName(row["catalog"]), tuple(row["namespace"]), row["name"])


def table_of(row: asyncpg.Record) -> Table:
    """The table of a row with the columns BESIDE it."""
    return Table(
        _table_name(row),
        TableUuid(row["uuid"]),
        location=row["location"],
        first_seen_time=row["first_seen_time"],
        last_seen_time=row["last_seen_time"],
        metadata_location=row["metadata_location"],
        format_version=row["format_version"],
        state=TableState(row["state"]),
        maintenance_enabled=row["maintenance_enabled"],
        health=loaded(row["report"], HealthReport) if row["report"] is not None else None,
        active_operation=OperationId(row["active"]) if row["active"] is not None else None,
    )
