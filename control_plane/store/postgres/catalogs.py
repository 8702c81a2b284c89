"""Registered catalogs on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from control_plane.domain.catalog import Catalog
from control_plane.domain.errors import CatalogExists, CatalogInUse, CatalogNotFound, EtagMismatch
from control_plane.domain.identifiers import CatalogName
from control_plane.store.answers import dumped_answer, moved_away
from control_plane.store.codec import dumped, loaded
from control_plane.store.fences import catalog_capacity
from control_plane.store.postgres.database import Database

_COLUMNS: Final = (
    "name",
    "revision",
    "generation",
    "max_concurrent_operations",
    "create_time",
    "update_time",
    "last_list_time",
    "last_list_error",
    "list_begin_time",
    "earlier_list_begin_time",
    "move_time",
)
_BESIDE: Final = frozenset(_COLUMNS)
MOVING: Final = "(c.generation > 1 AND c.list_begin_time IS NULL)"
"""`Catalog.is_moving` of a row `c`."""

_GET: Final = "SELECT * FROM catalogs WHERE name = $1"
_FIRST_PAGE: Final = "SELECT * FROM catalogs ORDER BY name LIMIT $1"
_NEXT_PAGE: Final = "SELECT * FROM catalogs WHERE name > $2 ORDER BY name LIMIT $1"
_CREATE: Final = """
WITH written AS (
    INSERT INTO catalogs (name, revision, generation, max_concurrent_operations, create_time, update_time,
                          last_list_time, last_list_error, list_begin_time, earlier_list_begin_time, move_time,
                          document)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::jsonb)
    ON CONFLICT DO NOTHING
    RETURNING *
), capped AS (
    INSERT INTO capacity (key, maximum) SELECT $13, $4 FROM written
    ON CONFLICT (key) DO UPDATE SET maximum = EXCLUDED.maximum
)
SELECT * FROM written
"""
# Excludes every enqueue into this catalog: its foreign key asks for a share of this row.
_LOCK: Final = "SELECT revision FROM catalogs WHERE name = $1 FOR UPDATE"
_UNFINISHED: Final = "SELECT count(*) FROM operations WHERE catalog = $1"
# What listings have found stays, unless the catalog is elsewhere now.
_UPDATE: Final = """
WITH written AS (
    UPDATE catalogs SET
        revision = revision + 1, generation = $2, max_concurrent_operations = $3, update_time = $4,
        document = $5::jsonb,
        last_list_time = CASE WHEN generation = $2 THEN last_list_time END,
        last_list_error = CASE WHEN generation = $2 THEN last_list_error ELSE '' END,
        list_begin_time = CASE WHEN generation = $2 THEN list_begin_time END,
        earlier_list_begin_time = CASE WHEN generation = $2 THEN earlier_list_begin_time END,
        move_time = CASE WHEN generation = $2 THEN move_time ELSE clock_timestamp() END
    WHERE name = $1
    RETURNING *
), capped AS (
    UPDATE capacity SET maximum = $3 WHERE key = $6
)
SELECT * FROM written
"""
_DELETE: Final = "WITH uncapped AS (DELETE FROM capacity WHERE key = $2) DELETE FROM catalogs WHERE name = $1"
# Whoever was asked to look, looks at the place that was left: late answers find nobody waiting.
_END_LOOKS: Final = """
WITH found AS MATERIALIZED (
    SELECT v.id FROM observations v JOIN catalogs c ON c.name = v.catalog
    WHERE c.name = $1 AND c.generation <> $2 AND v.used_time IS NULL
    ORDER BY v.id FOR UPDATE OF v {locked}
)
UPDATE observations v SET
    state = 'DONE', used_time = clock_timestamp(), lease_expire_time = NULL,
    answer = CASE WHEN v.state = 'DONE' THEN v.answer ELSE $3::jsonb END,
    finish_time = coalesce(v.finish_time, clock_timestamp())
FROM found WHERE v.id = found.id
"""
# Whoever keeps an answer locks it before the catalog: the first waits for them, the second must not.
_END_LOOKS_BEFORE: Final = _END_LOOKS.format(locked="")
_END_LOOKS_SINCE: Final = _END_LOOKS.format(locked="SKIP LOCKED")
# After a move the first complete listing lets go all the slots that waited for it, any other those of the tables that
# were seen.
_RECORD_LISTING: Final = f"""
WITH before AS MATERIALIZED (
    SELECT name, {MOVING} AS moving, move_time FROM catalogs c WHERE name = $1 FOR NO KEY UPDATE
), waiting AS MATERIALIZED (
    SELECT t.catalog, t.fence_key, t.type, t.mode FROM before b JOIN targets t ON t.catalog = b.name
    WHERE b.moving AND t.deferred AND ($3::timestamptz IS NOT NULL OR EXISTS (
        SELECT FROM tables k
        WHERE k.catalog = t.catalog AND k.fence_key = t.fence_key AND k.last_seen_time > b.move_time))
    ORDER BY t.catalog, t.fence_key, t.type, t.mode FOR UPDATE OF t
), woken AS (
    UPDATE targets t SET due = clock_timestamp() FROM waiting w
    WHERE (t.catalog, t.fence_key, t.type, t.mode) = (w.catalog, w.fence_key, w.type, w.mode)
)
UPDATE catalogs c SET
    last_list_time = CASE WHEN $2 = '' THEN clock_timestamp() ELSE last_list_time END,
    last_list_error = $2,
    list_begin_time = coalesce($3, list_begin_time),
    earlier_list_begin_time = CASE WHEN $3::timestamptz IS NULL THEN earlier_list_begin_time ELSE list_begin_time END
FROM before b
WHERE c.name = b.name
RETURNING c.*
"""


class PostgresCatalogs:
    """The whole of `ports.records.CatalogStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, catalog: Catalog) -> Catalog:
        row = await self._database.fetchrow(
            _CREATE,
            *(getattr(catalog, column) for column in _COLUMNS),
            _document(catalog),
            catalog_capacity(catalog.name),
        )
        if row is None:
            raise CatalogExists(catalog.name)
        return catalog_of(row)

    async def get(self, name: CatalogName) -> Catalog:
        row = await self._database.fetchrow(_GET, name)
        if row is None:
            raise CatalogNotFound(name)
        return catalog_of(row)

    async def list(self, *, after: CatalogName | None, limit: int) -> Sequence[Catalog]:
        if after is None:
            return [catalog_of(row) for row in await self._database.fetch(_FIRST_PAGE, limit)]
        return [catalog_of(row) for row in await self._database.fetch(_NEXT_PAGE, limit, after)]

    async def update(self, catalog: Catalog, *, revision: int | None, unused: bool) -> Catalog:
        async with self._database.transaction():
            looks = catalog.name, catalog.generation, dumped_answer(moved_away())
            await self._database.execute(_END_LOOKS_BEFORE, *looks)
            await self._lock(catalog.name, revision, unused=unused)
            await self._database.execute(_END_LOOKS_SINCE, *looks)
            row = await self._database.fetchrow(
                _UPDATE,
                catalog.name,
                catalog.generation,
                catalog.max_concurrent_operations,
                catalog.update_time,
                _document(catalog),
                catalog_capacity(catalog.name),
            )
            assert row is not None, "the row is locked"
            return catalog_of(row)

    async def delete(self, name: CatalogName, *, revision: int | None) -> None:
        async with self._database.transaction():
            await self._lock(name, revision, unused=True)
            await self._database.execute(_DELETE, name, catalog_capacity(name))

    async def record_listing(self, name: CatalogName, *, error: str, began: datetime | None = None) -> Catalog | None:
        row = await self._database.fetchrow(_RECORD_LISTING, name, error, began)
        return catalog_of(row) if row is not None else None

    async def _lock(self, name: CatalogName, revision: int | None, *, unused: bool) -> None:
        current = await self._database.fetchval(_LOCK, name)
        if current is None:
            raise CatalogNotFound(name)
        if revision is not None and revision != current:
            raise EtagMismatch(f'catalog "{name}"', sent=str(revision), current=str(current))
        if unused and (operations := await self._database.fetchval(_UNFINISHED, name)):
            raise CatalogInUse(name, operations=operations)


def _document(catalog: Catalog) -> str:
    return dumped(catalog, Catalog, leave_out=_BESIDE)


def catalog_of(row: Mapping[str, Any] | asyncpg.Record) -> Catalog:
    return loaded(row["document"], Catalog, **{column: row[column] for column in _COLUMNS})
