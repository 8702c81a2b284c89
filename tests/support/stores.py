"""The stores under test: one suite runs on each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from control_plane.domain.identifiers import OperationId, TableName
from control_plane.domain.operation import Change, Operation
from control_plane.domain.rules import Rules
from control_plane.ports.records import Store
from control_plane.store.postgres.schema import migrate
from control_plane.store.postgres.store import PostgresStore, open_postgres_store
from tests.support.clock import ManualClock
from tests.support.postgres import PostgresServer

RULES = Rules(ack_within=timedelta(seconds=30), lock_delay=timedelta())


@pytest.fixture
def clock() -> ManualClock:
    """Beside the present, like the factories' times and the database's clock."""
    return ManualClock(datetime.now(UTC))


@pytest_asyncio.fixture
async def database(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The DSN of a migrated database of this test's own."""
    async with postgres_server.database(migrate) as dsn:
        yield dsn


@pytest_asyncio.fixture
async def postgres_store(database: str) -> AsyncIterator[PostgresStore]:
    """A PostgreSQL store on a database of this test's own."""
    async with open_postgres_store(database, rules=RULES) as store:
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


async def lose(store: Store, name: TableName) -> None:
    """Make the table MISSING: two complete listings after it was seen did not name it, nor did a load find it."""
    seen = (await store.tables.get(name)).last_seen_time
    for number in (1, 2):
        began = seen + timedelta(seconds=number)
        await store.catalogs.record_listing(name.catalog, error="", began=began)
    assert await store.tables.missing(name), f"{name} is still there"


async def age(store: Store, operation: OperationId, *instants: str, by: timedelta = timedelta(days=1)) -> Operation:
    """The operation with these instants in the past: how time passes for one operation, on either store."""

    def decide(current: Operation, now: datetime) -> Change:
        return Change(replace(current, **dict.fromkeys(instants, now - by)))  # type: ignore[arg-type]  # named instants

    changed = await store.operations.change(operation, decide)
    assert changed is not None
    return changed
