"""Targets and what a decision about one reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg
from pydantic_core import to_json

from control_plane.domain.catalog import Table
from control_plane.domain.errors import TableNotFound
from control_plane.domain.identifiers import CatalogName, OperationId, OperationType, PolicyName, TableName
from control_plane.domain.operation import FailureClass
from control_plane.domain.scheduling import NO_OUTCOMES, Outcomes, PolicyMode, SlotFacts, Target, Wake
from control_plane.store.postgres.catalogs import MOVING
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.tables import BESIDE, table_of

COLUMNS: Final = (
    "catalog",
    "fence_key",
    "type",
    "mode",
    "policy",
    "policy_generation",
    "policy_create_time",
    "since",
    "slot",
    "due",
    "deferred",
    "awaiting",
    "waiting_since",
    "place",
    "unmeasured_since",
)
# What `targets_json` makes, as rows of the table: encoding arrays costs the loop more.
GIVEN: Final = "json_populate_recordset(NULL::targets, $1::json)"

# Each part is found by its key, whatever the planner thinks of their number: OFFSET 0 and LIMIT keep it from joining
# whole tables.
_FACTS: Final = f"""
SELECT g.*, k.*, o.id AS open_operation, t.*,
       c.moving AND (c.move_time IS NULL OR t.last_seen_time <= c.move_time) AS catalog_moved
FROM {{targets}} g
JOIN {{catalogs}} c ON c.name = g.catalog
CROSS JOIN LATERAL (
    SELECT t.namespace, t.name, t.uuid, t.location, t.metadata_location, t.format_version, t.state, t.first_seen_time,
           t.last_seen_time, t.maintenance_enabled, {BESIDE}
    FROM tables t WHERE t.catalog = g.catalog AND t.fence_key = g.fence_key OFFSET 0
) t
LEFT JOIN LATERAL (
    SELECT k.last_success_time, k.last_finish_time, k.last_metadata_location, k.consecutive_failures,
           k.last_failure_time, k.last_failure_class, k.last_failure_generation, k.consecutive_no_change, k.finished,
           k.failed, k.mean_bytes, k.mean_seconds
    FROM outcomes k WHERE k.fence_key = g.fence_key AND k.type = g.type OFFSET 0
) k ON true
LEFT JOIN LATERAL (
    SELECT o.id FROM operations o WHERE o.fence_key = g.fence_key AND o.type = g.type
    ORDER BY o.create_time, o.id LIMIT 1
) o ON true
"""
_CATALOGS: Final = f"(SELECT c.name, c.move_time, {MOVING} AS moving FROM catalogs c)"
# The clock is read once, by a subquery: a volatile function in the condition could not be looked up in the index, and
# every target would be read. A catalog that is being deleted is left alone, with its targets. Catalogs are looked up
# one by one, so that a pass with nothing due reads none.
_DUE: Final = f"""
WITH found AS MATERIALIZED (
    SELECT t.* FROM targets t WHERE t.due <= (SELECT clock_timestamp()) ORDER BY t.due LIMIT $1
    FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT l.* FROM (SELECT DISTINCT catalog FROM found) f
    CROSS JOIN LATERAL (
        SELECT c.name, c.move_time, {MOVING} AS moving FROM catalogs c WHERE c.name = f.catalog OFFSET 0
        FOR KEY SHARE SKIP LOCKED
    ) l
)
{_FACTS.format(targets="found", catalogs="held")}
ORDER BY g.due
"""
_APPROACHING: Final = f"""
WITH found AS MATERIALIZED (
    SELECT * FROM targets
    WHERE due < $1 AND due >= $2 AND (due, catalog, fence_key, type, mode) > ($2, $3, $4, $5, $6)
    ORDER BY due, catalog, fence_key, type, mode LIMIT $7
)
{_FACTS.format(targets="found", catalogs=_CATALOGS)}
ORDER BY g.due, g.catalog, g.fence_key, g.type, g.mode
"""
_OF_TABLE: Final = f"""
{_FACTS.format(targets="targets", catalogs=_CATALOGS)}
WHERE g.catalog = $1 AND g.fence_key = $2
"""
_FENCE_KEY: Final = """
SELECT fence_key FROM tables WHERE catalog = $1 AND namespace = $2 AND name = $3 AND state <> 'REPLACED'
"""
_OUTCOMES: Final = "SELECT * FROM outcomes WHERE fence_key = ANY ($1::text[])"
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEXT_DUE: Final = "SELECT due FROM targets WHERE due IS NOT NULL ORDER BY due LIMIT 1"
# An operation that somebody ends right now has looked for targets that await it, and may have missed this one: such a
# target is looked at again soon. The others' end waits for this transaction.
_UPDATE: Final = f"""
WITH s AS MATERIALIZED (
    SELECT * FROM {GIVEN}
), unfinished AS MATERIALIZED (
    SELECT id FROM operations WHERE id IN (SELECT awaiting FROM s) FOR KEY SHARE SKIP LOCKED
)
UPDATE targets t SET
    policy = s.policy, policy_generation = s.policy_generation, policy_create_time = s.policy_create_time,
    since = s.since, slot = s.slot, deferred = s.deferred, awaiting = s.awaiting,
    waiting_since = s.waiting_since, place = s.place, unmeasured_since = s.unmeasured_since,
    due = CASE WHEN s.awaiting IS NULL OR s.awaiting IN (SELECT id FROM unfinished) THEN s.due
               ELSE least(s.due, clock_timestamp() + interval '1 second') END
FROM s
WHERE (t.catalog, t.fence_key, t.type, t.mode) = (s.catalog, s.fence_key, s.type, s.mode)
"""
_COUNTS: Final = """
SELECT count(*) AS targets,
       count(*) FILTER (WHERE due <= clock_timestamp()) AS due,
       count(*) FILTER (WHERE deferred) AS deferred,
       (SELECT count(*) FROM tables WHERE unresolved) AS unresolved
FROM targets
"""


_FIRST_WAITING: Final = """
SELECT a.policy, w.place FROM unnest($1::text[]) AS a (policy)
CROSS JOIN LATERAL (
    SELECT t.place FROM targets t
    WHERE t.policy = a.policy AND t.place IS NOT NULL AND (t.catalog, t.fence_key, t.type, t.mode) NOT IN (
        SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]))
    ORDER BY t.place LIMIT 1
) w
"""
_WAKE: Final = """
WITH first AS MATERIALIZED (
    SELECT w.*, a.due FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS a (policy, most, due)
    CROSS JOIN LATERAL (
        SELECT t.catalog, t.fence_key, t.type, t.mode FROM targets t
        WHERE t.policy = a.policy AND t.place IS NOT NULL ORDER BY t.place LIMIT a.most
        FOR NO KEY UPDATE SKIP LOCKED
    ) w
)
UPDATE targets t SET due = f.due FROM first f
WHERE (t.catalog, t.fence_key, t.type, t.mode) = (f.catalog, f.fence_key, f.type, f.mode) AND t.due > f.due
"""


class Targets:
    """What is decided next, and about what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, *, limit: int) -> Sequence[SlotFacts]:
        return _facts(await self._database.fetch(_DUE, limit))

    async def next_due(self) -> datetime | None:
        due: datetime | None = await self._database.fetchval(_NEXT_DUE)
        return due

    async def facts(self, table: TableName) -> Sequence[SlotFacts]:
        key = await self._database.fetchval(_FENCE_KEY, table.catalog, list(table.namespace), table.name)
        if key is None:
            raise TableNotFound(str(table))
        found = _facts(await self._database.fetch(_OF_TABLE, table.catalog, key))
        return sorted(found, key=lambda one: (one.target.type.order, one.target.mode))

    async def outcomes(self, table_keys: Sequence[str]) -> Mapping[str, Mapping[OperationType, Outcomes]]:
        found: dict[str, dict[OperationType, Outcomes]] = {}
        for row in await self._database.fetch(_OUTCOMES, list(table_keys)):
            found.setdefault(row["fence_key"], {})[OperationType(row["type"])] = _outcomes(row)
        return found

    async def approaching(self, *, after: Target | None, before: datetime, limit: int) -> Sequence[SlotFacts]:
        place = ("", "", "", "") if after is None else (after.catalog, after.table_key, after.type, after.mode)
        due = _EVER if after is None or after.due is None else after.due
        return _facts(await self._database.fetch(_APPROACHING, before, due, *place, limit))

    async def update(self, targets: Sequence[Target]) -> None:
        """Where these stand from now on; those that are gone stay gone."""
        if targets:
            await self._database.execute(_UPDATE, targets_json(targets))

    async def first_waiting(
        self, policies: Sequence[PolicyName], *, besides: Sequence[Target]
    ) -> Mapping[PolicyName, datetime]:
        keys = [(t.catalog, t.table_key, t.type, t.mode) for t in besides]
        left_out = [list(column) for column in zip(*keys, strict=True)] or [[], [], [], []]
        rows = await self._database.fetch(_FIRST_WAITING, list(policies), *left_out)
        return {PolicyName(row["policy"]): row["place"] for row in rows}

    async def wake(self, wakes: Sequence[Wake]) -> None:
        if wakes:
            await self._database.execute(
                _WAKE, [one.policy for one in wakes], [one.most for one in wakes], [one.due for one in wakes]
            )

    async def counts(self) -> Mapping[str, int]:
        row = await self._database.fetchrow(_COUNTS)
        assert row is not None, "an aggregate has one row"
        return dict(row)


def targets_json(targets: Iterable[Target]) -> str:
    """The rows that `GIVEN` takes."""
    rows = [
        {
            "catalog": t.catalog,
            "fence_key": t.table_key,
            "type": t.type,
            "mode": t.mode,
            "policy": t.policy,
            "policy_generation": t.policy_generation,
            "policy_create_time": t.policy_create_time,
            "since": t.since,
            "slot": t.slot,
            "due": t.due,
            "deferred": t.deferred,
            "awaiting": t.awaiting,
            "waiting_since": t.waiting_since,
            "place": t.place,
            "unmeasured_since": t.unmeasured_since,
        }
        for t in targets
    ]
    return to_json(rows).decode()


def target_of(row: asyncpg.Record) -> Target:
    return Target(
        CatalogName(row["catalog"]),
        row["fence_key"],
        OperationType(row["type"]),
        PolicyMode(row["mode"]),
        PolicyName(row["policy"]),
        row["policy_generation"],
        row["policy_create_time"],
        row["since"],
        row["slot"],
        row["due"],
        row["deferred"],
        OperationId(row["awaiting"]) if row["awaiting"] is not None else None,
        row["waiting_since"],
        row["place"],
        row["unmeasured_since"],
    )


def _facts(rows: Sequence[asyncpg.Record]) -> Sequence[SlotFacts]:
    # The targets of a table share it, and reading its report is most of the work.
    tables: dict[tuple[str, str], Table] = {}
    facts = []
    for row in rows:
        key = (row["catalog"], row["fence_key"])
        if key not in tables:
            tables[key] = table_of(row)
        operation = row["open_operation"]
        facts.append(
            SlotFacts(
                target_of(row),
                tables[key],
                _outcomes(row),
                OperationId(operation) if operation is not None else None,
                catalog_moved=row["catalog_moved"],
            )
        )
    return facts


def _outcomes(row: asyncpg.Record) -> Outcomes:
    if row["finished"] is None:
        return NO_OUTCOMES
    failure = row["last_failure_class"]
    return Outcomes(
        last_success_time=row["last_success_time"],
        last_finish_time=row["last_finish_time"],
        last_metadata_location=row["last_metadata_location"],
        consecutive_failures=row["consecutive_failures"],
        last_failure_time=row["last_failure_time"],
        last_failure_class=FailureClass(failure) if failure is not None else None,
        last_failure_generation=row["last_failure_generation"],
        consecutive_no_change=row["consecutive_no_change"],
        finished=row["finished"],
        failed=row["failed"],
        mean_bytes=row["mean_bytes"],
        mean_seconds=row["mean_seconds"],
    )
