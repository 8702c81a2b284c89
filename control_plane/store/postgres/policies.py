"""Policies and their generations on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import asyncpg

from control_plane.domain.errors import EtagMismatch, PolicyExists, PolicyNotFound
from control_plane.domain.identifiers import PolicyName
from control_plane.domain.policy import Policy, PolicySpec
from control_plane.ports.records import Enabled
from control_plane.store.postgres.database import Database

_GET: Final = "SELECT * FROM policies WHERE name = $1"
# Of the newest life of that name: a policy that was deleted and made again begins at generation 1.
_GENERATION: Final = """
SELECT name, create_time, generation, spec, time FROM policy_generations
WHERE name = $1 AND generation = $2
  AND create_time = (SELECT max(create_time) FROM policy_generations WHERE name = $1)
"""
_FIRST_PAGE: Final = "SELECT * FROM policies ORDER BY name LIMIT $1"
_NEXT_PAGE: Final = "SELECT * FROM policies WHERE name > $2 ORDER BY name LIMIT $1"
# One row without a name if there is none: the time is always wanted.
_ENABLED: Final = """
SELECT moment.now, p.* FROM (SELECT clock_timestamp() AS now) moment LEFT JOIN policies p ON p.enabled ORDER BY p.name
"""
# Every change has an etag of its own, so the sum of their digests is another one after it.
_VERSION: Final = "SELECT coalesce(sum(hashtextextended(name || etag, 0)), 0)::text FROM policies"
_KEEP_GENERATION: Final = """
, kept AS (
    INSERT INTO policy_generations (name, create_time, generation, spec)
    SELECT name, create_time, generation, spec FROM written
    ON CONFLICT DO NOTHING
)
"""
_CREATE: Final = f"""
WITH written AS (
    INSERT INTO policies (name, enabled, generation, etag, create_time, update_time, spec)
    VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb)
    ON CONFLICT DO NOTHING
    RETURNING *
){_KEEP_GENERATION}
, changed AS (
    INSERT INTO policy_changes (policy, patterns) SELECT name, ARRAY[spec->>'tablePattern'] FROM written
)
SELECT * FROM written
"""
_UPDATE: Final = f"""
WITH old AS MATERIALIZED (
    SELECT name, generation, spec FROM policies WHERE name = $1 AND ($8::text IS NULL OR etag = $8) FOR UPDATE
), written AS (
    UPDATE policies p SET
        enabled = $2, generation = $3, etag = $4, create_time = $5, update_time = $6, spec = $7::jsonb
    FROM old WHERE p.name = old.name
    RETURNING p.*
){_KEEP_GENERATION}
, changed AS (
    INSERT INTO policy_changes (policy, patterns)
    SELECT w.name, CASE WHEN w.spec->>'tablePattern' = old.spec->>'tablePattern' THEN ARRAY[w.spec->>'tablePattern']
                        ELSE ARRAY[old.spec->>'tablePattern', w.spec->>'tablePattern'] END
    FROM written w JOIN old ON old.name = w.name
    WHERE w.generation > old.generation
)
SELECT * FROM written
"""
_DELETE: Final = """
WITH gone AS (
    DELETE FROM policies WHERE name = $1 AND ($2::text IS NULL OR etag = $2) RETURNING *
), changed AS (
    INSERT INTO policy_changes (policy, patterns) SELECT name, ARRAY[spec->>'tablePattern'] FROM gone
)
SELECT true FROM gone
"""


class PostgresPolicies:
    """The whole of `ports.records.PolicyStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._enabled = database.together(self._enabled_for_all)

    async def create(self, policy: Policy) -> Policy:
        row = await self._database.fetchrow(_CREATE, *_values(policy))
        if row is None:
            raise PolicyExists(policy.name)
        return _policy(row)

    async def get(self, name: PolicyName) -> Policy:
        row = await self._database.fetchrow(_GET, name)
        if row is None:
            raise PolicyNotFound(name)
        return _policy(row)

    async def generation(self, name: PolicyName, generation: int) -> Policy:
        current = await self._database.fetchrow(_GET, name)
        if current is not None and current["generation"] == generation:
            return _policy(current)
        row = await self._database.fetchrow(_GENERATION, name, generation)
        if row is None:
            raise PolicyNotFound(name, generation=generation)
        return Policy(
            _spec(row["spec"]), row["generation"], "", create_time=row["create_time"], update_time=row["time"]
        )

    async def list(self, *, after: PolicyName | None, limit: int) -> Sequence[Policy]:
        if after is None:
            return [_policy(row) for row in await self._database.fetch(_FIRST_PAGE, limit)]
        return [_policy(row) for row in await self._database.fetch(_NEXT_PAGE, limit, after)]

    async def enabled(self) -> Enabled:
        return await self._enabled(None)

    async def version(self) -> str:
        return str(await self._database.fetchval(_VERSION))

    async def update(self, policy: Policy, *, etag: str | None) -> Policy:
        row = await self._database.fetchrow(_UPDATE, *_values(policy), etag)
        if row is None:
            raise await self._refusal(policy.name, etag)
        return _policy(row)

    async def delete(self, name: PolicyName, *, etag: str | None) -> None:
        if not await self._database.fetchval(_DELETE, name, etag):
            raise await self._refusal(name, etag)

    async def _enabled_for_all(self, calls: Sequence[None]) -> Sequence[Enabled]:
        rows = await self._database.fetch(_ENABLED)
        policies = tuple(_policy(row) for row in rows if row["name"] is not None)
        return [Enabled(policies, rows[0]["now"])] * len(calls)

    async def _refusal(self, name: PolicyName, etag: str | None) -> EtagMismatch:
        current = await self.get(name)
        return EtagMismatch(f'policy "{name}"', sent=etag or "", current=current.etag)


def _values(policy: Policy) -> tuple[object, ...]:
    spec = policy.spec
    return (
        policy.name,
        spec.is_enabled,
        policy.generation,
        policy.etag,
        policy.create_time,
        policy.update_time,
        json.dumps(spec.document),
    )


@lru_cache(maxsize=8192)
def _spec(document: str) -> PolicySpec:
    """Kept, since every trigger reads all policies."""
    return PolicySpec.stored(json.loads(document))


def _policy(row: asyncpg.Record) -> Policy:
    return Policy(
        _spec(row["spec"]),
        generation=row["generation"],
        etag=row["etag"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )
