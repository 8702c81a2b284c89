"""The scheduler's term: one row. An election changes its key and waits for scheduling transactions, a renewal does not.

See "row-level locks" in PostgreSQL's manual: FOR KEY SHARE conflicts with an update of a key column alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from control_plane.domain.identifiers import ReplicaId
from control_plane.domain.scheduling import Term
from control_plane.ports.scheduling import TermOver
from control_plane.store.postgres.database import Database

# The time is read once the row is locked: a term begins when the last scheduling transaction of the old one is over.
_ACQUIRE: Final = """
WITH free AS MATERIALIZED (
    SELECT term FROM leadership
    -- A term that ends later than one that began now was given by a clock that has been set back since.
    WHERE expire_time <= clock_timestamp() OR expire_time > clock_timestamp() + $2
    FOR UPDATE
), moment AS MATERIALIZED (
    SELECT term, clock_timestamp() AS now FROM free
)
UPDATE leadership l SET
    term = l.term + 1, holder = $1, start_time = moment.now, expire_time = moment.now + $2, last_pass_time = NULL
FROM moment
WHERE l.term = moment.term
RETURNING l.*
"""
_IN_FORCE: Final = "term = $1 AND expire_time > clock_timestamp()"
_RENEW: Final = f"UPDATE leadership SET expire_time = clock_timestamp() + $2 WHERE {_IN_FORCE} RETURNING *"
_RESIGN: Final = f"UPDATE leadership SET expire_time = clock_timestamp() WHERE {_IN_FORCE}"
_PASSED: Final = f"UPDATE leadership SET last_pass_time = clock_timestamp() WHERE {_IN_FORCE}"
_CURRENT: Final = "SELECT * FROM leadership WHERE expire_time > clock_timestamp()"

# A leader that is frozen in here is cut off by the database, so that it holds up no election.
_IDLE_AT_MOST: Final = "1s"
_STATEMENT_AT_MOST: Final = "2s"
# What it reads is found by indexes, whatever the planner knows of tables that have just grown.
_ENTER: Final = f"""
SELECT clock_timestamp() AS now,
       set_config('idle_in_transaction_session_timeout', '{_IDLE_AT_MOST}', true),
       set_config('statement_timeout', '{_STATEMENT_AT_MOST}', true),
       set_config('enable_seqscan', 'off', true)
FROM leadership
WHERE {_IN_FORCE}
FOR KEY SHARE
"""


class PostgresLeadership:
    """The whole of `ports.scheduling.LeadershipStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, holder: ReplicaId, *, ttl: timedelta) -> Term | None:
        return _term(await self._database.fetchrow(_ACQUIRE, holder, ttl))

    async def renew(self, term: Term, *, ttl: timedelta) -> Term | None:
        return _term(await self._database.fetchrow(_RENEW, term.number, ttl))

    async def resign(self, term: Term) -> None:
        await self._database.execute(_RESIGN, term.number)

    async def passed(self, term: Term) -> None:
        await self._database.execute(_PASSED, term.number)

    async def current(self) -> Term | None:
        return _term(await self._database.fetchrow(_CURRENT))


@asynccontextmanager
async def in_term(database: Database, term: Term) -> AsyncIterator[datetime]:
    """A transaction that an election waits for, at the time that it yields. Raises TermOver."""
    async with database.transaction():
        row = await database.fetchrow(_ENTER, term.number)
        if row is None:
            raise TermOver
        yield row["now"]


def _term(row: asyncpg.Record | None) -> Term | None:
    if row is None:
        return None
    return Term(row["term"], ReplicaId(row["holder"]), row["expire_time"], row["start_time"], row["last_pass_time"])
