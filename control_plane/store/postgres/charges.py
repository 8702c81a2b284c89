"""What operations cost the budgets of their policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from control_plane.domain.identifiers import PolicyName
from control_plane.domain.operation import Operation
from control_plane.domain.scheduling import Charge, Spent
from control_plane.store.fences import fence_key
from control_plane.store.postgres.database import Database

_WRITE: Final = """
INSERT INTO charges (operation, policy, fence_key, time, bytes, engine_seconds)
SELECT operation, policy, fence_key, clock_timestamp(), bytes, engine_seconds
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::float8[])
    AS c (operation, policy, fence_key, bytes, engine_seconds)
"""
_SPENT: Final = """
SELECT policy, count(DISTINCT fence_key) AS tables, count(*) AS operations, sum(bytes)::bigint AS bytes,
       sum(engine_seconds) AS engine_seconds
FROM charges WHERE policy = ANY ($1) AND time >= $2
GROUP BY policy
"""


class Charges:
    """One row an operation: the estimate, until its end corrects it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, charged: Sequence[tuple[Operation, Charge]]) -> None:
        if not charged:
            return
        await self._database.execute(
            _WRITE,
            [operation.id for operation, _ in charged],
            [operation.policy for operation, _ in charged],
            [fence_key(operation) for operation, _ in charged],
            [charge.bytes for _, charge in charged],
            [charge.engine_seconds for _, charge in charged],
        )

    async def spent(self, policies: Sequence[PolicyName], *, since: datetime) -> Mapping[PolicyName, Spent]:
        return {
            PolicyName(row["policy"]): Spent(row["tables"], row["operations"], row["bytes"], row["engine_seconds"])
            for row in await self._database.fetch(_SPENT, list(policies), since)
        }
