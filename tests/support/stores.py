"""The stores under test: one suite runs on each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from control_plane.domain.decisions import Rules
from control_plane.ports.records import Store
from control_plane.store.postgres.schema import migrate
from control_plane.store.postgres.store import PostgresStore, open_postgres_store
from tests.support.clock import ManualClock
from tests.support.postgres import PostgresServer

RULES = Rules(ack_within=timedelta(seconds=30), lock_delay=timedelta())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def postgres_store(postgres_server: PostgresServer) -> AsyncIterator[PostgresStore]:
    """A PostgreSQL store on a database of this test's own."""
    async with postgres_server.database(migrate) as dsn, open_postgres_store(dsn, rules=RULES) as store:
        yield store


@pytest_asyncio.fixture(params=["memory", "postgres"])
async def any_store(
    request: pytest.FixtureRequest, clock: ManualClock, postgres_server: PostgresServer
) -> AsyncIterator[Store]:
    """Each store in turn. The memory store goes by `clock`, PostgreSQL by its own."""
    if request.param == "memory":
        from control_plane.store.memory import MemoryStore

        yield MemoryStore(clock, rules=RULES)
    else:
        async with postgres_server.database(migrate) as dsn, open_postgres_store(dsn, rules=RULES) as store:
            yield store
