"""Answered requests on PostgreSQL."""

from __future__ import annotations

from typing import Final

from control_plane.domain.errors import RequestIdReused
from control_plane.ports.records import RequestKey
from control_plane.store.postgres.database import Database

# The unique key makes a concurrent duplicate wait for the first one's end. An answer past its day counts as none.
_BEGIN: Final = """
INSERT INTO requests AS r (caller, method, request_id, digest) VALUES ($1, $2, $3, $4)
ON CONFLICT (caller, method, request_id) DO UPDATE
    SET digest = EXCLUDED.digest, response = NULL, create_time = EXCLUDED.create_time
    WHERE r.create_time < clock_timestamp() - interval '24 hours'
RETURNING true
"""
_STORED: Final = "SELECT digest, response FROM requests WHERE caller = $1 AND method = $2 AND request_id = $3"
_ANSWER: Final = "UPDATE requests SET response = $4 WHERE caller = $1 AND method = $2 AND request_id = $3"


class PostgresRequests:
    """The whole of `ports.records.RequestStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, key: RequestKey) -> bytes | None:
        _require_transaction(self._database)
        name = (key.caller, key.method, key.request_id)
        if await self._database.fetchval(_BEGIN, *name, key.digest):
            return None
        row = await self._database.fetchrow(_STORED, *name)
        if row is None or row["digest"] != key.digest:
            raise RequestIdReused(key.request_id)
        response: bytes | None = row["response"]
        return response

    async def answer(self, key: RequestKey, response: bytes) -> None:
        _require_transaction(self._database)
        await self._database.execute(_ANSWER, key.caller, key.method, key.request_id, response)


def _require_transaction(database: Database) -> None:
    if not database.in_transaction:
        raise RuntimeError("a request is kept in the transaction of its mutation; open one with store.transaction()")
