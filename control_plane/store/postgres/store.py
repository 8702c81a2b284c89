"""The whole store on one PostgreSQL database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from typing import Final

from control_plane.domain.rules import Rules
from control_plane.ports.operations import Retention
from control_plane.store.postgres.catalogs import PostgresCatalogs
from control_plane.store.postgres.database import Connecting, Database, open_pool, translated
from control_plane.store.postgres.debts import PostgresDebts
from control_plane.store.postgres.executors import PostgresExecutors
from control_plane.store.postgres.hints import PostgresHints
from control_plane.store.postgres.leadership import PostgresLeadership
from control_plane.store.postgres.observations import PostgresObservations
from control_plane.store.postgres.operations import PostgresOperations
from control_plane.store.postgres.pauses import PostgresPauses
from control_plane.store.postgres.policies import PostgresPolicies
from control_plane.store.postgres.requests import PostgresRequests
from control_plane.store.postgres.retention import clean
from control_plane.store.postgres.scheduling import PostgresScheduling
from control_plane.store.postgres.schema import check_schema, check_server
from control_plane.store.postgres.tables import PostgresTables

_NOW: Final = "SELECT clock_timestamp()"
_SET_CAPACITY: Final = """
INSERT INTO capacity (key, maximum)
SELECT key, maximum FROM unnest($1::text[], $2::integer[]) AS c (key, maximum) ORDER BY key
ON CONFLICT (key) DO UPDATE SET maximum = EXCLUDED.maximum
"""


class PostgresStore:
    """The whole of `ports.records.Store`. Open it with `open_postgres_store`."""

    def __init__(self, database: Database, hints: PostgresHints, *, rules: Rules, schema_version: int) -> None:
        self.policies = PostgresPolicies(database)
        self.catalogs = PostgresCatalogs(database)
        self.tables = PostgresTables(database)
        self.debts = PostgresDebts(database)
        self.executors = PostgresExecutors(database)
        self.operations = PostgresOperations(database, rules)
        self.observations = PostgresObservations(database)
        self.pauses = PostgresPauses(database)
        self.requests = PostgresRequests(database)
        self.leadership = PostgresLeadership(database)
        self.scheduling = PostgresScheduling(database)
        self.hints = hints
        self.database = database
        self._schema_version = schema_version
        self._now = database.together(self._now_for_all)

    def transaction(self) -> AbstractAsyncContextManager[None]:
        return self.database.transaction()

    async def now(self) -> datetime:
        return await self._now(None)

    async def schema_version(self) -> int:
        return self._schema_version

    async def set_capacity(self, limits: Mapping[str, int]) -> None:
        if limits:
            await self.database.execute(_SET_CAPACITY, list(limits), list(limits.values()))

    async def clean(self, retention: Retention) -> int:
        return await clean(self.database, retention)

    async def _now_for_all(self, calls: Sequence[None]) -> Sequence[datetime]:
        return [await self.database.fetchval(_NOW)] * len(calls)

    @property
    def statements(self) -> int:
        """How many statements this store has sent."""
        return self.database.statements


@asynccontextmanager
async def open_postgres_store(
    dsn: str, *, rules: Rules, connecting: Connecting | None = None
) -> AsyncIterator[PostgresStore]:
    """The store, for as long as the context is open. An unreachable database is waited for, within `connecting`.

    Raises StoreUnavailable if it stays unreachable, and UnusableDatabase if it must not be used as it is.
    """
    connecting = connecting or Connecting()
    async with open_pool(dsn, connecting) as pool:
        with translated():
            async with pool.acquire() as connection:
                await check_server(connection)
                version = await check_schema(connection)
        hints = PostgresHints(dsn, replica=secrets.token_hex(8))
        exchange = asyncio.create_task(hints.run(), name="hints")
        try:
            store = PostgresStore(Database(pool, connecting), hints, rules=rules, schema_version=version)
            async with store.database.serving():
                yield store
        finally:
            exchange.cancel()
            with suppress(asyncio.CancelledError):
                await exchange
