"""Three replicas on one database, and the one that leads is killed, frozen and stopped while slots come every second.

Judged by the rows of the database alone: when the next leader began and decided, whether each slot was decided exactly
once, and whether what the terms stored ever interleaved.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import pytest
import pytest_asyncio

from floe_client import types as floe
from tests.support.cluster import Cluster, FakeTables, Replica, cluster, compaction
from tests.support.postgres import PostgresServer
from tests.support.processes import Processes
from tests.support.waiting import eventually

TTL: Final = timedelta(seconds=6)
AFTER_TTL: Final = timedelta(seconds=2)
GRACEFUL: Final = timedelta(seconds=1)
SECOND: Final = timedelta(seconds=1)
TABLES: Final = 5
POINT: Final = "frozen_while_scheduling"

_FIRST_DECISION: Final = "SELECT min(time) AS time FROM decisions WHERE term > $1"
_SLOTS: Final = """
SELECT table_key, slot, coalesce(last_slot, slot) AS last_slot, slots, verdict, operation FROM decisions
ORDER BY table_key, slot
"""
_TERMS: Final = """
SELECT term, min(time) AS first, max(time) AS last, min(xmin::text::bigint) AS first_xid,
       max(xmin::text::bigint) AS last_xid
FROM decisions GROUP BY term ORDER BY term
"""
_FIRED_TWICE: Final = """
SELECT table_key, type, slot, count(*) FROM (
    SELECT id, table_key, type, slot FROM operations
    UNION ALL SELECT id, table_key, type, slot FROM operation_history
) o WHERE slot IS NOT NULL GROUP BY table_key, type, slot HAVING count(*) > 1
"""
_QUEUED: Final = """
SELECT id, table_key, slot FROM operations WHERE slot IS NOT NULL
UNION ALL SELECT id, table_key, slot FROM operation_history WHERE slot IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Term:
    """As the database has it."""

    number: int
    replica: Replica


@pytest_asyncio.fixture
async def scheduling(processes: Processes, postgres_server: PostgresServer, fake: FakeTables) -> AsyncIterator[Cluster]:
    """Three replicas, an executor, and tables that are compacted every second."""
    async with cluster(processes, postgres_server, replicas=3, points=[POINT]) as running:
        client = running.client()
        rest = floe.CatalogType.CATALOG_TYPE_REST
        await client.catalogs.create(floe.Catalog(name="lake", type=rest, uri="http://127.0.0.1:1"))
        await running.attached(running.start_executor("executor", environ=fake.environ, slots=TABLES))
        for number in range(TABLES):
            await client.tables.inspect(f"lake.sales.t{number}")
        policy = compaction("every-second", "lake.**")
        policy.rewrite_data_files_schedule.cron_expression = "* * * * * *"
        await client.policies.create(policy)
        yield running


async def leads(running: Cluster, *, after: int = 0) -> Term:
    """The leader of a term after that one, once it has decided something in it."""

    async def look() -> Term | None:
        in_force = await running.sql("SELECT term, holder FROM leadership WHERE expire_time > clock_timestamp()")
        if not in_force or in_force[0]["term"] <= after:
            return None
        (row,) = in_force
        if not await running.sql("SELECT FROM decisions WHERE term = $1 LIMIT 1", row["term"]):
            return None
        for replica in running.replicas:
            if replica.child.code is None and (await running.client(replica).system.info()).replica_id == row["holder"]:
                return Term(row["term"], replica)
        return None

    return await eventually(look, within=30, pause=0.05)


async def now(running: Cluster) -> datetime:
    (row,) = await running.sql("SELECT clock_timestamp() AS now")
    time: datetime = row["now"]
    return time


async def first_decision(running: Cluster, *, after: Term) -> datetime:
    async def look() -> datetime | None:
        (row,) = await running.sql(_FIRST_DECISION, after.number)
        time: datetime | None = row["time"]
        return time

    return await eventually(look, within=30, pause=0.05)


async def killed(running: Cluster, leader: Term) -> timedelta:
    began = await now(running)
    leader.replica.child.kill()
    took = await first_decision(running, after=leader) - began
    await running.restart(leader.replica)
    return took


async def frozen(running: Cluster, leader: Term) -> timedelta:
    began = await now(running)
    leader.replica.child.freeze()
    took = await first_decision(running, after=leader) - began
    leader.replica.child.thaw()
    return took


async def frozen_inside(running: Cluster, leader: Term) -> timedelta:
    """Frozen while it holds locks on the term and on targets, and the database waits for what it will say."""
    gate = leader.replica.gate(POINT)
    began = await now(running)
    gate.arm()

    async def reached() -> bool:
        return gate.is_reached

    await eventually(reached, pause=0.005)
    took = await first_decision(running, after=leader) - began
    leader.replica.child.thaw()
    return took


async def stopped(running: Cluster, leader: Term) -> timedelta:
    """How long nobody was elected; the next slot comes up to a second later."""
    began = await now(running)
    ending = asyncio.create_task(leader.replica.child.stop())

    async def elected() -> datetime | None:
        (row,) = await running.sql("SELECT term, start_time FROM leadership")
        return row["start_time"] if row["term"] > leader.number else None

    took = await eventually(elected, pause=0.01) - began
    assert await first_decision(running, after=leader) - began < GRACEFUL + AFTER_TTL
    assert await ending == 0
    await running.restart(leader.replica)
    return took


def judged(number: int, inside: int) -> Sequence[str]:
    rounds = ["killed"] * number + ["stopped"] * number + ["frozen"] * (number - inside) + ["frozen_inside"] * inside
    random.shuffle(rounds)
    return rounds


@pytest.mark.parametrize("number", [2, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
async def test_whatever_befalls_the_leader_another_follows_and_every_slot_is_decided_once(
    scheduling: Cluster, number: int
) -> None:
    befall = {"killed": killed, "stopped": stopped, "frozen": frozen, "frozen_inside": frozen_inside}
    bounds = dict.fromkeys(befall, TTL + AFTER_TTL) | {"stopped": GRACEFUL}
    took: list[tuple[str, timedelta]] = []
    leader = await leads(scheduling)
    for what in judged(number, 1):
        took.append((what, await befall[what](scheduling, leader)))
        leader = await leads(scheduling, after=leader.number)
    print("took", sorted((what, round(time.total_seconds(), 2)) for what, time in took))  # noqa: T201 - the measurement

    assert [(what, time) for what, time in took if time > bounds[what]] == []
    # A leader that was frozen has had time to do what it should not.
    await asyncio.gather(*(scheduling.client(replica).system.info() for replica in scheduling.replicas))
    await eventually(lambda: _caught_up(scheduling))
    await scheduling.client().policies.delete("every-second")
    assert not await scheduling.sql(_FIRED_TWICE)
    await _assert_terms_follow_one_another(scheduling, at_least=3 * number)
    await _assert_each_slot_was_decided_once(scheduling)


async def _caught_up(running: Cluster) -> bool:
    """Whether everything that is due was decided a moment ago."""
    (row,) = await running.sql("SELECT count(*) AS late FROM targets WHERE due < clock_timestamp() - interval '1.5 s'")
    return not row["late"]


async def _assert_terms_follow_one_another(running: Cluster, *, at_least: int) -> None:
    terms = await running.sql(_TERMS)
    assert len(terms) > at_least
    for before, after in pairwise(terms):
        assert before["last"] < after["first"], "by the clock of the database"
        assert before["last_xid"] < after["first_xid"], "by the order of its transactions"


async def _assert_each_slot_was_decided_once(running: Cluster) -> None:
    """From its first slot on each table has every second exactly once, counted without the product's own evaluation."""
    rows = await running.sql(_SLOTS)
    tables = {row["table_key"] for row in rows}
    assert len(tables) == TABLES
    for table in tables:
        decided = [row for row in rows if row["table_key"] == table]
        for row in decided:
            assert row["slots"] == (row["last_slot"] - row["slot"]) / SECOND + 1
        for before, after in pairwise(decided):
            assert after["slot"] - before["last_slot"] == SECOND, f"{table}: {before} and {after}"
    fired = {row["operation"]: row["slot"] for row in rows if row["verdict"] == "FIRED"}
    queued = {row["id"]: row["slot"] for row in await running.sql(_QUEUED)}
    assert fired == queued, "each operation of the schedule has the decision that fired it, and each such decision one"
