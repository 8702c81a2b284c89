"""Executors and their sessions on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import asyncpg

from control_plane.domain.errors import ExecutorLeaving, ExecutorNotFound
from control_plane.domain.executor import Executor
from control_plane.domain.identifiers import ExecutorId, Lane, OperationType, SessionId
from control_plane.store.codec import dumped, loaded
from control_plane.store.postgres.database import Database

_COLUMNS: Final = ("session", "drained", "leaving", "attach_time", "last_heartbeat_time")
_BESIDE: Final = frozenset({"id", "operations", "metadata_slots_in_use", *_COLUMNS})

# An executor that was not heard of for an hour has no session worth the name.
_SELECT: Final = """
SELECT id, drained, leaving, attach_time, last_heartbeat_time, document,
       CASE WHEN last_heartbeat_time > clock_timestamp() - interval '1 hour' THEN session END AS session,
       ARRAY(
           SELECT o.id FROM operations o
           WHERE o.executor = e.id AND o.state IN ('LEASED', 'RUNNING', 'RECONCILING') ORDER BY o.id
       ) AS operations,
       ARRAY(
           SELECT o.type FROM operations o
           WHERE o.executor = e.id AND o.state IN ('LEASED', 'RUNNING', 'RECONCILING') ORDER BY o.id
       ) AS types
FROM executors e
"""
_GET: Final = f"{_SELECT} WHERE id = $1"
_LIST: Final = f"""
{_SELECT}
WHERE ($1::text IS NULL OR id > $1)
  AND ($3 OR session IS NOT NULL AND last_heartbeat_time > clock_timestamp() - interval '1 hour')
ORDER BY id
LIMIT $2
"""
_HEARD: Final = "session IS NOT NULL AND last_heartbeat_time > clock_timestamp() - interval '2 minutes'"
ATTACHED: Final = f"{_SELECT} WHERE {_HEARD} ORDER BY id"
_COUNT: Final = f"SELECT count(*) FROM executors WHERE {_HEARD}"
_ATTACH: Final = """
INSERT INTO executors (id, session, drained, leaving, attach_time, last_heartbeat_time, document)
VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp(), $5::jsonb)
ON CONFLICT (id) DO UPDATE SET
    session = EXCLUDED.session,
    drained = executors.drained OR EXCLUDED.drained,
    leaving = EXCLUDED.leaving,
    attach_time = EXCLUDED.attach_time,
    last_heartbeat_time = EXCLUDED.last_heartbeat_time,
    document = EXCLUDED.document
"""
# In id order, like every statement that locks several executors.
_TOUCH: Final = """
WITH heard AS (SELECT id FROM executors WHERE session = ANY ($1) ORDER BY id FOR NO KEY UPDATE)
UPDATE executors e SET last_heartbeat_time = clock_timestamp() FROM heard WHERE e.id = heard.id
"""
_DETACH: Final = "UPDATE executors SET session = NULL WHERE session = $1"
_LEAVE: Final = "UPDATE executors SET leaving = true WHERE session = $1"
_SET_DRAINED: Final = "UPDATE executors SET drained = $2 WHERE id = $1 AND ($2 OR NOT leaving)"


class PostgresExecutors:
    """The whole of `ports.records.ExecutorStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def attach(self, executor: Executor) -> Executor:
        document = dumped(executor, Executor, leave_out=_BESIDE)
        await self._database.execute(
            _ATTACH, executor.id, executor.session, executor.drained, executor.leaving, document
        )
        return await self.get(executor.id)

    async def touch(self, sessions: Sequence[SessionId]) -> None:
        await self._database.execute(_TOUCH, list(sessions))

    async def detach(self, session: SessionId) -> None:
        await self._database.execute(_DETACH, session)

    async def leave(self, session: SessionId) -> None:
        await self._database.execute(_LEAVE, session)

    async def set_drained(self, executor: ExecutorId, drained: bool) -> Executor:
        if not await self._database.execute(_SET_DRAINED, executor, drained):
            raise ExecutorLeaving((await self.get(executor)).id)
        return await self.get(executor)

    async def get(self, executor: ExecutorId) -> Executor:
        row = await self._database.fetchrow(_GET, executor)
        if row is None:
            raise ExecutorNotFound(executor)
        return executor_of(row)

    async def list(self, *, after: ExecutorId | None, limit: int, detached: bool) -> Sequence[Executor]:
        return [executor_of(row) for row in await self._database.fetch(_LIST, after, limit, detached)]

    async def attached(self) -> int:
        return int(await self._database.fetchval(_COUNT))


def executor_of(row: Mapping[str, Any] | asyncpg.Record) -> Executor:
    columns = {name: row[name] for name in _COLUMNS}
    executor = loaded(row["document"], Executor, id=row["id"], operations=tuple(row["operations"]), **columns)
    lanes = [executor.capabilities.lane(OperationType(kind)) for kind in row["types"]]
    return replace(executor, metadata_slots_in_use=lanes.count(Lane.METADATA))
