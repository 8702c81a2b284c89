"""What only PostgreSQL can show of scheduling: who waits for whom, who is cut off, how little an idle pass reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from control_plane.domain.catalog import Table
from control_plane.domain.errors import StoreUnavailable
from control_plane.domain.identifiers import ReplicaId
from control_plane.domain.scheduling import LEADER_TTL, Settled, Term
from control_plane.ports.scheduling import TermOver
from control_plane.store.postgres.store import PostgresStore, open_postgres_store
from tests.integration.test_postgres_locks import held, waits_for_a_lock
from tests.support import factories
from tests.support.factories import EVENTS, LAKE
from tests.support.scene import Scene
from tests.support.scheduling import Leader, decision, target
from tests.support.stores import RULES
from tests.support.waiting import eventually

if TYPE_CHECKING:
    # Generic for type checkers only.
    Session = asyncpg.Connection[asyncpg.Record]

OTHER = ReplicaId("other")


@pytest.fixture
async def scene(postgres_store: PostgresStore) -> Scene:
    await postgres_store.catalogs.create(factories.catalog())
    await postgres_store.policies.create(factories.policy())
    return Scene(postgres_store)


@pytest.fixture
async def leader(scene: Scene) -> Leader:
    return await Leader.elected(scene)


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    """Somebody else on the database."""
    connection = await asyncpg.connect(database)
    try:
        yield connection
    finally:
        await connection.close()


async def runs_out(session: Session) -> None:
    """The term's time is over, though its leader does not know."""
    await session.execute("UPDATE leadership SET expire_time = clock_timestamp() - interval '1 ms'")


async def elect(store: PostgresStore) -> Term:
    term = await store.leadership.acquire(OTHER, ttl=LEADER_TTL)
    assert term is not None
    return term


# -- the term


async def test_an_election_waits_for_an_open_scheduling_transaction(
    leader: Leader, postgres_store: PostgresStore, session: Session
) -> None:
    async with asyncio.TaskGroup() as tasks, postgres_store.scheduling.in_term(leader.term):
        await runs_out(session)
        election = tasks.create_task(elect(postgres_store))
        await waits_for_a_lock(session)
        table = factories.table()
        await postgres_store.tables.seen([table])
        left: datetime = await session.fetchval("SELECT clock_timestamp()")

    assert election.result().number == leader.term.number + 1
    assert election.result().start_time > left, "the new term begins when the old one's work is over"
    assert await postgres_store.tables.get(EVENTS), "what was scheduled in the old term before that counts"


async def test_a_renewal_does_not_wait(leader: Leader, postgres_store: PostgresStore) -> None:
    async def renew() -> Term | None:
        await postgres_store.leadership.passed(leader.term)
        return await postgres_store.leadership.renew(leader.term, ttl=LEADER_TTL)

    async with asyncio.TaskGroup() as tasks, postgres_store.scheduling.in_term(leader.term):
        assert await tasks.create_task(renew()) is not None


async def test_a_scheduling_transaction_that_waited_for_an_election_is_over(
    leader: Leader, postgres_store: PostgresStore, session: Session
) -> None:
    async def enter() -> None:
        with pytest.raises(TermOver):
            async with postgres_store.scheduling.in_term(leader.term):
                pass

    async with asyncio.TaskGroup() as tasks, held(session, "UPDATE leadership SET term = term + 1"):
        tasks.create_task(enter())
        await waits_for_a_lock(session)


async def test_a_leader_that_is_frozen_inside_is_cut_off_and_nothing_of_its_step_is_kept(
    leader: Leader, postgres_store: PostgresStore, session: Session
) -> None:
    async def cut_off() -> bool:
        return not await session.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
        )

    table = factories.table()
    with pytest.raises(StoreUnavailable):
        async with postgres_store.scheduling.in_term(leader.term):
            await postgres_store.tables.seen([table])
            await runs_out(session)
            await eventually(cut_off)

    assert (await elect(postgres_store)).number == leader.term.number + 1
    assert not await postgres_store.tables.list(catalog=None, after=None, limit=1)


async def test_a_statement_that_takes_too_long_ends_the_scheduling_transaction(
    leader: Leader, postgres_store: PostgresStore
) -> None:
    with pytest.raises(StoreUnavailable):
        async with postgres_store.scheduling.in_term(leader.term):
            await postgres_store.database.execute("SELECT pg_sleep(60)")
    # The limits were those of the transaction alone.
    assert await postgres_store.database.fetchval("SHOW statement_timeout") == "10s"


async def test_two_leaders_are_never_inside_at_once_and_terms_do_not_interleave(
    database: str, session: Session
) -> None:
    await session.execute("CREATE TABLE passes (sequence bigint GENERATED ALWAYS AS IDENTITY, term bigint)")
    inside: set[int] = set()
    terms: set[int] = set()
    ttl = timedelta(milliseconds=40)

    async def contend(store: PostgresStore, holder: str) -> None:
        while len(terms) < 12:
            term = await store.leadership.acquire(ReplicaId(holder), ttl=ttl)
            if term is None:
                await asyncio.sleep(0.005)
                continue
            try:
                while True:
                    async with store.scheduling.in_term(term):
                        inside.add(term.number)
                        assert inside == {term.number}
                        await store.database.execute("INSERT INTO passes (term) VALUES ($1)", term.number)
                        await asyncio.sleep(0.01)
                        inside.remove(term.number)
            except TermOver:
                terms.add(term.number)

    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_postgres_store(database, rules=RULES)) for _ in range(3)]
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for number, store in enumerate(stores):
                tasks.create_task(contend(store, f"r{number}"))

    passes = [row["term"] for row in await session.fetch("SELECT term FROM passes ORDER BY sequence")]
    assert passes == sorted(passes)
    assert len(set(passes)) > 1


# -- targets


async def known(leader: Leader, number: int) -> list[Table]:
    tables = [factories.table(replace(EVENTS, name=f"t{place}")) for place in range(number)]
    await leader.scene.store.tables.seen(tables)
    async with leader.scene.store.scheduling.in_term(leader.term):
        await leader.scene.store.scheduling.resolved([(table, [target(table)]) for table in tables])
    return tables


async def test_due_targets_that_are_locked_are_passed_over(leader: Leader, postgres_store: PostgresStore) -> None:
    await known(leader, 3)

    async with asyncio.TaskGroup() as tasks, postgres_store.scheduling.in_term(leader.term):
        first = await postgres_store.scheduling.due(limit=2)
        second = await tasks.create_task(leader.due(limit=2))

    assert len(first) == 2
    assert len(second) == 1
    assert not {facts.target.table_key for facts in first} & {facts.target.table_key for facts in second}


async def test_a_catalog_that_is_being_deleted_is_left_alone(leader: Leader, session: Session) -> None:
    await known(leader, 1)
    await leader.scene.store.tables.seen([factories.table(replace(EVENTS, name="new"))])
    async with held(session, "SELECT FROM catalogs WHERE name = $1 FOR UPDATE", LAKE):
        assert not await leader.due()
        assert not await leader.unresolved()
    assert len(await leader.due()) == 1
    assert len(await leader.unresolved()) == 1


async def test_an_end_that_comes_while_a_target_begins_to_await_it_still_wakes_it(
    leader: Leader, postgres_store: PostgresStore, session: Session
) -> None:
    (table,) = await known(leader, 1)
    running = await leader.scene.enqueue(table=table.name, table_uuid=table.uuid)
    (facts,) = await leader.due()
    waits = replace(facts.target, slot=None, due=None, awaiting=running.id)

    async with asyncio.TaskGroup() as tasks, postgres_store.scheduling.in_term(leader.term):
        await postgres_store.scheduling.settle([Settled(waits)])
        tasks.create_task(leader.scene.cancel(running.id))
        await waits_for_a_lock(session)

    (woken,) = await leader.due()
    assert woken.open_operation is None


async def test_a_target_that_begins_to_await_what_is_being_ended_is_looked_at_again_soon(
    leader: Leader, session: Session
) -> None:
    (table,) = await known(leader, 1)
    ending = await leader.scene.enqueue(table=table.name, table_uuid=table.uuid)
    (facts,) = await leader.due()
    async with held(session, "SELECT FROM operations WHERE id = $1 FOR UPDATE", ending.id):
        await leader.settle(Settled(replace(facts.target, slot=None, due=None, awaiting=ending.id)))
    due = await leader.scene.store.scheduling.next_due()
    assert due is not None
    assert due < await leader.scene.store.now() + timedelta(seconds=2)


async def test_the_end_of_an_operation_waits_for_the_decision_about_who_awaits_it(
    leader: Leader, postgres_store: PostgresStore, session: Session
) -> None:
    (table,) = await known(leader, 1)
    (facts,) = await leader.due()
    fired = await leader.fire(facts.target, table)
    await session.execute("UPDATE targets SET due = clock_timestamp()")

    async with asyncio.TaskGroup() as tasks, postgres_store.scheduling.in_term(leader.term):
        (again,) = await postgres_store.scheduling.due(limit=5)
        tasks.create_task(leader.scene.cancel(fired.id))
        await waits_for_a_lock(session)
        await postgres_store.scheduling.settle([Settled(replace(again.target, due=None))])

    assert len(await leader.due()) == 1


async def rows_read(store: PostgresStore) -> dict[str, int]:
    """How many rows of each table this session has read; in a transaction, so that it stays the same session."""
    found = await store.database.fetch(
        "SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows "
        "FROM pg_stat_xact_user_tables WHERE schemaname = 'public' AND relname <> 'leadership'"
    )
    return {row["relname"]: row["rows"] for row in found}


@pytest.mark.parametrize("number", [10, 1_000])
async def test_an_idle_pass_reads_the_same_whatever_the_number_of_targets(
    leader: Leader, postgres_store: PostgresStore, session: Session, number: int
) -> None:
    await known(leader, number)
    await session.execute("UPDATE targets SET due = clock_timestamp() + interval '1 hour'")
    for change in await postgres_store.scheduling.policy_changes(limit=10):
        await postgres_store.scheduling.spread(change, marked=(), after=None)
    await session.execute("VACUUM ANALYZE")

    async with postgres_store.scheduling.in_term(leader.term):
        before, statements = await rows_read(postgres_store), postgres_store.statements
        assert not await postgres_store.scheduling.due(limit=500)
        assert not await postgres_store.scheduling.unresolved(limit=500)
        assert not await postgres_store.scheduling.policy_changes(limit=10)
        assert postgres_store.statements - statements == 3
        assert await rows_read(postgres_store) == before
    assert await postgres_store.scheduling.next_due() is not None


async def test_a_policy_change_reads_only_the_tables_that_it_marks(
    leader: Leader, postgres_store: PostgresStore, session: Session
) -> None:
    tables = await known(leader, 2_000)
    await session.execute("VACUUM ANALYZE")
    (change,) = await postgres_store.scheduling.policy_changes(limit=1)
    names = [table.name for table in tables[:5]]

    async with postgres_store.scheduling.in_term(leader.term):
        read = await rows_read(postgres_store)
        await postgres_store.scheduling.spread(change, marked=names, after=None)
        marked = await postgres_store.scheduling.unresolved(limit=500)
        await postgres_store.scheduling.resolved([(table, [target(table)]) for table, _ in marked])
        after = await rows_read(postgres_store)

    assert sorted(table.name for table, _ in marked) == sorted(names)
    assert after["tables"] - read["tables"] < 100
    assert after["targets"] - read["targets"] < 100


async def test_settling_a_full_set_takes_few_statements(leader: Leader, postgres_store: PostgresStore) -> None:
    await known(leader, 500)
    async with postgres_store.scheduling.in_term(leader.term):
        found = await postgres_store.scheduling.due(limit=500)
        settled = []
        for facts in found:
            operation = factories.operation(
                **await leader.scene.times(),
                table=facts.table.name,
                table_uuid=facts.table.uuid,
                slot=facts.target.slot,
            )
            settled.append(Settled(replace(facts.target, due=None), (decision(facts.target, facts.table),), operation))
        before = postgres_store.statements
        await postgres_store.scheduling.settle(settled)
        assert postgres_store.statements - before == 3
    assert not await leader.due()
