"""What only PostgreSQL can show: rows that are locked, transactions that commit late, and a server that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from control_plane.domain.errors import CatalogInUse, CursorExpired, StoreUnavailable
from control_plane.domain.operation import Change, Operation, OperationState
from control_plane.ports.operations import OperationFilter, Retention
from control_plane.ports.records import RequestKey
from control_plane.store.postgres.database import Connecting
from control_plane.store.postgres.schema import UnusableDatabase, check_server
from control_plane.store.postgres.store import PostgresStore, open_postgres_store
from tests.support import factories
from tests.support.scene import Scene, returned
from tests.support.stores import RULES
from tests.support.waiting import eventually

S = OperationState


@pytest.fixture
async def scene(postgres_store: PostgresStore) -> Scene:
    await postgres_store.catalogs.create(factories.catalog())
    await postgres_store.policies.create(factories.policy())
    return Scene(postgres_store)


@pytest.fixture
async def session(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Somebody else on the database."""
    connection = await asyncpg.connect(database)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def held(session: asyncpg.Connection[asyncpg.Record], statement: str, *values: object) -> AsyncIterator[None]:
    """The statement's locks, held until the end of the context."""
    async with session.transaction():
        await session.execute(statement, *values)
        yield


async def waits_for_a_lock(session: asyncpg.Connection[asyncpg.Record]) -> None:
    """Until some session of the store waits for a lock."""

    async def waiting() -> bool | None:
        count = await session.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return True if count else None

    await eventually(waiting)


@pytest.mark.parametrize("table", ["operations", "fences"])
async def test_a_claim_passes_over_what_is_locked(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record], table: str
) -> None:
    holder = await scene.attach()
    now = await scene.store.now()
    busy = await scene.enqueue(virtual_deadline=now - timedelta(hours=1))
    free = await scene.enqueue()
    statement = {
        "operations": f"SELECT FROM operations WHERE id = '{busy.id}' FOR UPDATE",
        "fences": f"SELECT FROM fences WHERE key = '{busy.table_uuid}' FOR UPDATE",
    }[table]

    async with held(session, statement):
        claimed = await scene.claim(holder)

    assert [operation.id for operation in claimed] == [free.id]
    assert [operation.id for operation in await scene.claim(holder)] == [busy.id]


async def test_a_claim_waits_for_capacity_and_then_counts_what_its_rival_took(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    holder = await scene.attach()
    await scene.store.set_capacity({"engine:spark": 1})
    await scene.enqueue()

    async with (
        asyncio.TaskGroup() as tasks,
        held(session, "UPDATE capacity SET in_use = in_use + 1 WHERE key = 'engine:spark'"),
    ):
        claim = tasks.create_task(scene.claim(holder))
        await waits_for_a_lock(session)

    assert not claim.result(), "the rival's lease was counted, though it was committed after the claim had begun"


async def test_a_claim_waits_for_its_executor_s_new_session(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    holder = await scene.attach()
    await scene.enqueue()

    async with (
        asyncio.TaskGroup() as tasks,
        held(session, "UPDATE executors SET session = 'newer' WHERE id = $1", holder.id),
    ):
        claim = tasks.create_task(scene.claim(holder))
        await waits_for_a_lock(session)

    assert not claim.result()


async def test_a_lease_begins_after_the_wait_for_its_locks(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    holder = await scene.attach()
    await scene.store.set_capacity({"engine:spark": 5})
    await scene.enqueue()

    async with (
        asyncio.TaskGroup() as tasks,
        held(session, "SELECT FROM capacity WHERE key = 'engine:spark' FOR UPDATE"),
    ):
        claim = tasks.create_task(scene.claim(holder))
        await waits_for_a_lock(session)
        freed = await session.fetchval("SELECT clock_timestamp()")

    (leased,) = claim.result()
    assert leased.ack_deadline is not None
    assert leased.ack_deadline > freed + RULES.ack_within


async def test_a_lease_is_left_in_the_order_in_which_claims_lock(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    await scene.store.set_capacity({"engine:spark": 5})
    holder = await scene.attach()
    running = await scene.running(holder)

    async with (
        asyncio.TaskGroup() as tasks,
        held(session, "SELECT FROM fences WHERE holder = $1 FOR UPDATE", running.id),
    ):
        ending = tasks.create_task(scene.report(running.lease, factories.result()))
        await waits_for_a_lock(session)
        # A claim has fences and waits for the capacity: who waits for a fence must not have that.
        await session.execute("SELECT FROM capacity WHERE key = 'engine:spark' FOR UPDATE NOWAIT")

    assert ending.result().operation.state is S.SUCCEEDED


async def test_a_change_is_decided_at_the_time_of_its_turn(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    queued = await scene.enqueue()

    async with (
        asyncio.TaskGroup() as tasks,
        held(session, "SELECT FROM operations WHERE id = $1 FOR UPDATE", queued.id),
    ):
        change = tasks.create_task(scene.cancel(queued.id))
        await waits_for_a_lock(session)
        freed = await session.fetchval("SELECT clock_timestamp()")

    assert change.result().finish_time is not None
    assert change.result().finish_time > freed


async def test_a_second_live_operation_of_a_table_sets_off_the_alarm(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    twin = await scene.enqueue(table=running.table, table_uuid=running.table_uuid)

    with pytest.raises(asyncpg.UniqueViolationError, match="operations_one_live_per_table"):
        await session.execute("UPDATE operations SET state = 'RUNNING' WHERE id = $1", twin.id)


async def test_an_event_that_commits_late_is_not_skipped(scene: Scene) -> None:
    early, late = await scene.enqueue(), await scene.enqueue()
    start = await scene.operations.cursor()
    written, commit = asyncio.Event(), asyncio.Event()

    async def write_and_wait() -> None:
        async with scene.store.transaction():
            await scene.cancel(late.id)
            written.set()
            await commit.wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write_and_wait())
        await written.wait()
        await scene.cancel(early.id)
        before = await scene.operations.events(start, OperationFilter(), limit=10)
        commit.set()

    after = await scene.operations.events(before.cursor, OperationFilter(), limit=10)
    told = [event.operation.id for _, event in [*before.events, *after.events]]
    assert sorted(told) == sorted([early.id, late.id])
    assert told == [event.operation.id for _, event in after.events], "what may be overtaken is held back"


async def test_events_of_an_operation_are_in_order_though_the_earlier_transaction_writes_last(scene: Scene) -> None:
    queued = await scene.enqueue()
    start = await scene.operations.cursor()
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def begin_early_write_late() -> None:
        async with scene.store.transaction():
            # Takes its place among the transactions before the other one does.
            await scene.store.pauses.set(factories.pause())
            begun.set()
            await proceed.wait()
            await scene.operations.change(queued.id, lambda op, now: Change(op, event="second"))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(begin_early_write_late())
        await begun.wait()
        await scene.operations.change(queued.id, lambda op, now: Change(op, event="first"))
        proceed.set()

    page = await scene.operations.events(start, OperationFilter(), limit=10)
    assert [event.event for _, event in page.events] == ["first", "second"]


async def test_a_table_that_many_replicas_see_first_is_one_table(scene: Scene) -> None:
    for number in range(30):
        table = factories.table(replace(factories.EVENTS, name=f"events_{number}"))
        await asyncio.gather(
            *(scene.store.tables.seen([table]) for _ in range(6)),
            *(scene.store.tables.listed(table.name.catalog, [table.name]) for _ in range(2)),
        )
        assert (await scene.store.tables.get(table.name)).uuid == table.uuid


async def test_events_are_in_the_order_of_their_transactions_whatever_the_number_of_digits(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    start = await scene.operations.cursor()
    first, second = [await scene.enqueue() for _ in range(2)]
    for operation, transaction in ((first, "99"), (second, "100")):
        await session.execute(
            "UPDATE events SET xid = $2::text::xid8 WHERE operation_id = $1", operation.id, transaction
        )
    page = await scene.operations.events(replace(start, xid=0), OperationFilter(), limit=1)
    rest = await scene.operations.events(page.cursor, OperationFilter(), limit=10)
    told = [event.operation.id for _, event in [*page.events, *rest.events]]
    assert told == [first.id, second.id]


async def test_a_duplicate_request_waits_for_the_first_one(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    key = RequestKey("me", "Create", "r1", b"1")
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with scene.store.transaction():
            assert await scene.store.requests.begin(key) is None
            begun.set()
            await proceed.wait()
            await scene.store.requests.answer(key, b"answer")

    async def second() -> bytes | None:
        async with scene.store.transaction():
            return await scene.store.requests.begin(key)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(first())
        await begun.wait()
        duplicate = tasks.create_task(second())
        await waits_for_a_lock(session)
        proceed.set()

    assert duplicate.result() == b"answer"


async def test_an_answer_older_than_a_day_counts_no_more(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with scene.store.transaction():
        key = RequestKey("me", "Create", "r1", b"1")
        await scene.store.requests.begin(key)
        await scene.store.requests.answer(key, b"answer")
    await session.execute("UPDATE requests SET create_time = create_time - interval '25 hours'")

    async with scene.store.transaction():
        assert await scene.store.requests.begin(replace(key, digest=b"2")) is None


async def test_a_catalog_is_not_changed_under_what_is_being_queued(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    written, proceed = asyncio.Event(), asyncio.Event()

    async def enqueue() -> None:
        async with scene.store.transaction():
            await scene.enqueue()
            written.set()
            await proceed.wait()

    async def delete() -> None:
        with pytest.raises(CatalogInUse):
            await scene.store.catalogs.delete(factories.LAKE, revision=None)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(enqueue())
        await written.wait()
        tasks.create_task(delete())
        await waits_for_a_lock(session)
        proceed.set()


async def test_silent_executors_count_as_detached(scene: Scene, session: asyncpg.Connection[asyncpg.Record]) -> None:
    holder = await scene.attach()
    await session.execute("UPDATE executors SET last_heartbeat_time = last_heartbeat_time - interval '3 minutes'")
    assert await scene.store.executors.attached() == 0
    assert len(await scene.store.executors.list(after=None, limit=5, detached=False)) == 1

    await session.execute("UPDATE executors SET last_heartbeat_time = last_heartbeat_time - interval '1 hour'")
    assert not await scene.store.executors.list(after=None, limit=5, detached=False)
    (silent,) = await scene.store.executors.list(after=None, limit=5, detached=True)
    assert (silent.id, silent.session) == (holder.id, None)


async def test_a_statement_that_waits_too_long_says_that_the_store_did_not_answer(
    database: str, scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    queued = await scene.enqueue()
    impatient = Connecting(pool_size=2, lock_timeout=timedelta(milliseconds=50))
    async with open_postgres_store(database, rules=RULES, connecting=impatient) as store:
        async with held(session, "SELECT FROM operations WHERE id = $1 FOR UPDATE", queued.id):
            with pytest.raises(StoreUnavailable):
                await store.operations.change(queued.id, returned)
        assert (await store.operations.get(queued.id)).state is S.QUEUED


async def test_a_lost_connection_is_replaced(scene: Scene, session: asyncpg.Connection[asyncpg.Record]) -> None:
    await session.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    async def answers() -> bool | None:
        try:
            return (await scene.operations.claimable()) is False or None
        except StoreUnavailable:
            return None

    await eventually(answers)


async def test_a_transaction_whose_connection_is_lost_is_unavailable_and_undone(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    queued = await scene.enqueue()
    with pytest.raises(StoreUnavailable):
        async with scene.store.transaction():
            await scene.cancel(queued.id)
            await session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND state = 'idle in transaction'"
            )
            await scene.enqueue()
    assert await scene.state(queued.id) is S.QUEUED


async def test_hints_reach_the_other_replicas_and_come_again_after_a_lost_connection(
    database: str, session: asyncpg.Connection[asyncpg.Record], postgres_store: PostgresStore
) -> None:
    async with open_postgres_store(database, rules=RULES) as other:

        async def told() -> None:
            """Whoever listens already hears it; who does not yet takes every topic as hinted once it listens."""
            for _ in range(2):
                waiting = asyncio.create_task(other.hints.wait("cancels", timedelta(minutes=5)))
                while not waiting.done():
                    postgres_store.hints.give("cancels")
                    await asyncio.wait([waiting], timeout=0.1)
                await waiting

        async with asyncio.timeout(60):
            await told()
            await session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE '%floe_hints%' AND pid <> pg_backend_pid()"
            )
            await told()


async def test_the_last_hints_of_a_store_that_closes_are_heard(database: str, postgres_store: PostgresStore) -> None:
    async with asyncio.timeout(60):
        async with open_postgres_store(database, rules=RULES) as closing:
            for _ in range(2):
                heard = asyncio.create_task(postgres_store.hints.wait("cancels", timedelta(minutes=5)))
                while not heard.done():
                    closing.hints.give("cancels")
                    await asyncio.wait([heard], timeout=0.1)
                await heard
            waiting = asyncio.create_task(postgres_store.hints.wait("leader", timedelta(minutes=5)))
            await asyncio.wait([waiting], timeout=0.1)
            first = waiting.done()
            closing.hints.give("leader")
        if first:  # It had been hinted when the listening began.
            waiting = asyncio.create_task(postgres_store.hints.wait("leader", timedelta(minutes=5)))
        await waiting


async def test_it_works_behind_a_transaction_pooler_s_rules(database: str) -> None:
    async with open_postgres_store(database, rules=RULES, connecting=Connecting(behind_pooler=True)) as store:
        await store.catalogs.create(factories.catalog())
        await store.policies.create(factories.policy())
        scene = Scene(store)
        holder = await scene.attach()
        for _ in range(3):
            running = await scene.running(holder)
            await scene.report(running.lease, factories.result())


async def test_a_round_of_work_takes_few_statements(postgres_store: PostgresStore, scene: Scene) -> None:
    async def cost(step: Awaitable[object]) -> int:
        before = postgres_store.statements
        await step
        return postgres_store.statements - before

    operations: list[Operation] = [factories.separate(**await scene.times()) for _ in range(20)]
    holder = await scene.attach()

    assert await cost(postgres_store.operations.enqueue(operations)) == 1
    assert await cost(postgres_store.operations.claimable()) == 1
    assert await cost(postgres_store.operations.due_now()) == 1
    assert await cost(scene.claim(holder)) == 1
    assert await cost(scene.cancel(operations[-1].id)) == 4


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM operations WHERE state = 'QUEUED' ORDER BY virtual_deadline, id LIMIT 10",
        "SELECT * FROM operations ORDER BY create_time DESC, id DESC LIMIT 10",
        "SELECT * FROM operation_history WHERE (create_time, id) < (now(), 'x')"
        " ORDER BY create_time DESC, id DESC LIMIT 10",
        "SELECT * FROM policies WHERE name > 'x' ORDER BY name LIMIT 20",
        "SELECT * FROM tables WHERE state <> 'REPLACED' AND (catalog, namespace, name) > ('a', '{}', 'b')"
        " ORDER BY catalog, namespace, name LIMIT 20",
        "SELECT * FROM events WHERE (xid, sequence) > ('5'::xid8, 1) ORDER BY xid, sequence LIMIT 10",
    ],
)
async def test_pages_are_read_from_indexes(session: asyncpg.Connection[asyncpg.Record], statement: str) -> None:
    await session.execute("SET enable_seqscan = off")
    plan = "\n".join(row[0] for row in await session.fetch(f"EXPLAIN {statement}"))

    assert "Seq Scan" not in plan
    assert "Sort" not in plan or "Incremental" in plan, plan


async def test_a_server_that_may_lose_what_it_confirmed_is_refused(
    database: str, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    async def set_fsync(statement: str, value: str) -> None:
        await session.execute(statement)
        await session.execute("SELECT pg_reload_conf()")

        async def done() -> bool | None:
            return (await session.fetchval("SHOW fsync")) == value or None

        await eventually(done)

    await set_fsync("ALTER SYSTEM SET fsync = off", "off")
    try:
        with pytest.raises(UnusableDatabase, match="fsync=off"):
            async with open_postgres_store(database, rules=RULES):
                pass
    finally:
        await set_fsync("ALTER SYSTEM RESET fsync", "on")
    async with open_postgres_store(database, rules=RULES):
        pass


class _Old:
    """A server of before 14; none is at hand."""

    def get_server_version(self) -> asyncpg.ServerVersion:
        return asyncpg.ServerVersion(13, 22, 0, "final", 0)


async def test_a_server_that_is_too_old_is_refused() -> None:
    with pytest.raises(UnusableDatabase, match="needs 14 or newer"):
        await check_server(_Old())  # type: ignore[arg-type]  # as far as it is asked


async def test_late_rows_of_the_default_partitions_are_read_and_dropped(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    now = await scene.store.now()
    old = await scene.enqueue(create_time=now - timedelta(days=200))
    await scene.cancel(old.id)
    await session.execute("UPDATE operation_history SET finish_time = finish_time - interval '100 days'")
    kept = await scene.cancel((await scene.enqueue()).id)

    dropped = await scene.store.clean(Retention())

    assert dropped == 1
    page = await scene.operations.list(OperationFilter(), after=None, limit=5)
    assert [operation.id for operation in page.operations] == [kept.id]
    assert await scene.store.clean(Retention()) == 0


async def test_partitions_are_made_ahead_and_dropped_when_all_is_over(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = await scene.operations.cursor()
    for table in ("operation_history", "events"):
        await session.execute(
            f"CREATE TABLE {table}_2020_01 PARTITION OF {table} FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z')"
        )
    await scene.enqueue()
    # Moved between partitions, as if it had been written then.
    await session.execute("UPDATE events SET time = '2020-01-15Z'")

    assert await scene.store.clean(Retention()) == 2

    for table in ("operation_history", "events"):
        partitions = await session.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = $1::regclass", table)
        assert partitions == 3, "the default one and two months ahead"
    with pytest.raises(CursorExpired):
        await scene.operations.events(before, OperationFilter(), limit=1)


async def test_a_month_is_kept_while_something_that_began_in_it_is_not_past_retention(
    scene: Scene, session: asyncpg.Connection[asyncpg.Record]
) -> None:
    await session.execute(
        "CREATE TABLE operation_history_2020_01 PARTITION OF operation_history "
        "FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z')"
    )
    now = await scene.store.now()
    old = await scene.enqueue(create_time=now.replace(year=2020, month=1, day=5))
    await scene.cancel(old.id)

    await scene.store.clean(Retention())

    assert (await scene.operations.get(old.id)).state is S.CANCELLED
