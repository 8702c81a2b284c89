"""Which tables have to be matched with policies anew, and the targets that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.identifiers import CatalogName, OperationType, PolicyName, TableName
from control_plane.domain.scheduling import PolicyChange, PolicyMode, Target, TargetKey
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_filters import Conditions
from control_plane.store.postgres.tables import ASKED, BESIDE, names_json, table_of
from control_plane.store.postgres.targets import COLUMNS, GIVEN, target_of, targets_json

_CHANGES: Final = "SELECT * FROM policy_changes ORDER BY id LIMIT $1"
# Each name is looked up by itself, and locked in the order in which listings lock tables.
_MARK: Final = f"""
{ASKED}
, found AS MATERIALIZED (
    SELECT t.id FROM asked a, LATERAL (
        SELECT t.id FROM tables t
        WHERE t.catalog = a.catalog AND t.namespace = a.namespace AND t.name = a.name AND t.state <> 'REPLACED'
        OFFSET 0
    ) t
), held AS MATERIALIZED (
    SELECT t.id FROM found JOIN tables t ON t.id = found.id ORDER BY t.catalog, t.namespace, t.name
    FOR NO KEY UPDATE OF t
)
UPDATE tables t SET unresolved = true FROM held WHERE t.id = held.id AND NOT t.unresolved
"""
_FORGET_CHANGE: Final = "DELETE FROM policy_changes WHERE id = $1"
_KEEP_PLACE: Final = """
UPDATE policy_changes SET after_catalog = $2, after_namespace = $3, after_name = $4 WHERE id = $1
"""
_TOUCHED: Final = """
SELECT catalog, namespace, name FROM tables
WHERE state = 'PRESENT' AND {where}
ORDER BY catalog, namespace, name
LIMIT $1
"""
# A catalog that is being deleted is left alone, with its tables.
_UNRESOLVED: Final = f"""
WITH found AS MATERIALIZED (
    SELECT * FROM tables WHERE unresolved ORDER BY id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT name FROM catalogs WHERE name IN (SELECT catalog FROM found) ORDER BY name FOR KEY SHARE SKIP LOCKED
)
SELECT t.*, {BESIDE} FROM found t WHERE t.catalog IN (SELECT name FROM held) ORDER BY t.id
"""
_TARGETS: Final = """
SELECT t.* FROM targets t
WHERE (t.catalog, t.fence_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY t.catalog, t.fence_key, t.type, t.mode
FOR UPDATE
"""
# What was decided later than now is found by its time, and hardly ever there.
_DECIDED_AHEAD: Final = """
SELECT catalog, fence_key, type, mode, max(greatest(slot, last_slot)) AS slot FROM decisions
WHERE time > $3 AND greatest(slot, last_slot) > $3
  AND (catalog, fence_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
GROUP BY catalog, fence_key, type, mode
"""
# Under the same generation of the same policy a schedule goes on where it stands.
_RESOLVED: Final = f"""
WITH s AS MATERIALIZED (
    SELECT {", ".join(COLUMNS)} FROM {GIVEN}
), named AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::text[]) AS n (catalog, fence_key)
), gone AS (
    DELETE FROM targets t USING named n
    WHERE (t.catalog, t.fence_key) = (n.catalog, n.fence_key) AND NOT EXISTS (
        SELECT FROM s WHERE (s.catalog, s.fence_key, s.type, s.mode) = (t.catalog, t.fence_key, t.type, t.mode))
), kept AS (
    INSERT INTO targets AS t ({", ".join(COLUMNS)}) SELECT * FROM s
    ON CONFLICT (catalog, fence_key, type, mode) DO UPDATE SET
        policy = EXCLUDED.policy, policy_generation = EXCLUDED.policy_generation,
        policy_create_time = EXCLUDED.policy_create_time, since = EXCLUDED.since, slot = EXCLUDED.slot,
        due = EXCLUDED.due, deferred = EXCLUDED.deferred, awaiting = EXCLUDED.awaiting,
        waiting_since = EXCLUDED.waiting_since, place = EXCLUDED.place, unmeasured_since = EXCLUDED.unmeasured_since
    WHERE (t.policy, t.policy_generation, t.policy_create_time)
          <> (EXCLUDED.policy, EXCLUDED.policy_generation, EXCLUDED.policy_create_time)
)
UPDATE tables t SET unresolved = false FROM named n WHERE (t.catalog, t.fence_key) = (n.catalog, n.fence_key)
"""
# An operation that somebody changes right now is being handed out or ended; it is let be.
_DISPLACE: Final = """
WITH judged AS MATERIALIZED (
    SELECT o.id, NOT EXISTS (
               SELECT FROM targets t
               WHERE (t.catalog, t.fence_key, t.type, t.mode) = (o.catalog, o.fence_key, o.type, 'ACTIVE')
                 AND (t.policy, t.policy_generation) = (o.policy, o.policy_generation)) AS displaced
    FROM unnest($1::text[], $2::text[]) AS n (catalog, fence_key)
    JOIN operations o ON o.fence_key = n.fence_key AND o.catalog = n.catalog
    WHERE o.state = 'QUEUED' AND o.slot IS NOT NULL
    FOR NO KEY UPDATE OF o SKIP LOCKED
)
UPDATE operations o SET displaced = j.displaced FROM judged j WHERE o.id = j.id AND o.displaced <> j.displaced
"""


class Resolution:
    """Marks on tables, and the policy changes that put them there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def policy_changes(self, *, limit: int) -> Sequence[PolicyChange]:
        return [_change(row) for row in await self._database.fetch(_CHANGES, limit)]

    async def spread(self, change: PolicyChange, *, marked: Sequence[TableName], after: TableName | None) -> None:
        if marked:
            await self._database.execute(_MARK, names_json(marked))
        if after is None:
            await self._database.execute(_FORGET_CHANGE, change.id)
        else:
            await self._database.execute(_KEEP_PLACE, change.id, after.catalog, list(after.namespace), after.name)

    async def tables_touched(
        self, *, catalog: CatalogName | None, namespace: Sequence[str] | None, after: TableName | None, limit: int
    ) -> Sequence[TableName]:
        conditions = Conditions(limit)
        if catalog is not None:
            conditions.add("catalog = {}", catalog)
        if namespace:
            # Names hold no control characters, so nothing lies between the last level and what follows it here.
            end = [*namespace[:-1], namespace[-1] + "\x01"]
            conditions.add("namespace >= {} AND namespace < {}", list(namespace), end)
        if after is not None:
            conditions.add(
                "(catalog, namespace, name) > ({}, {}, {})", after.catalog, list(after.namespace), after.name
            )
        rows = await self._database.fetch(_TOUCHED.format(where=conditions.sql), *conditions.values)
        return [TableName(CatalogName(row["catalog"]), tuple(row["namespace"]), row["name"]) for row in rows]

    async def unresolved(self, *, limit: int) -> Sequence[tuple[Table, Sequence[Target]]]:
        rows = await self._database.fetch(_UNRESOLVED, limit)
        if not rows:
            return ()
        targets: dict[tuple[str, str], list[Target]] = {(row["catalog"], row["fence_key"]): [] for row in rows}
        for row in await self._database.fetch(_TARGETS, *_columns(list(targets))):
            targets[row["catalog"], row["fence_key"]].append(target_of(row))
        return [(table_of(row), targets[row["catalog"], row["fence_key"]]) for row in rows]

    async def decided_ahead(self, tables: Sequence[Table], *, now: datetime) -> Mapping[TargetKey, datetime]:
        rows = await self._database.fetch(_DECIDED_AHEAD, *_columns([_key(table) for table in tables]), now)
        return {
            (CatalogName(row["catalog"]), row["fence_key"], OperationType(row["type"]), PolicyMode(row["mode"])): row[
                "slot"
            ]
            for row in rows
        }

    async def resolved(self, tables: Sequence[tuple[Table, Sequence[Target]]]) -> None:
        if not tables:
            return
        targets = [target for _, wanted in tables for target in wanted]
        await self._database.execute(_RESOLVED, targets_json(targets), *_columns([_key(table) for table, _ in tables]))
        present = [_key(table) for table, _ in tables if table.state is TableState.PRESENT]
        await self._database.execute(_DISPLACE, *_columns(present))


def _key(table: Table) -> tuple[str, str]:
    return table.name.catalog, table.uuid or str(table.name)


def _columns(keys: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [catalog for catalog, _ in keys], [key for _, key in keys]


def _change(row: asyncpg.Record) -> PolicyChange:
    after = None
    if row["after_name"] is not None:
        after = TableName(CatalogName(row["after_catalog"]), tuple(row["after_namespace"]), row["after_name"])
    return PolicyChange(row["id"], PolicyName(row["policy"]), tuple(row["patterns"]), row["time"], after)
