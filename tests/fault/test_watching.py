"""A watcher whose streams break, on replicas that all change operations at once, misses nothing."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress

import pytest

from floe_client import Changed, FailedPrecondition, is_terminal
from tests.support.cluster import Cluster, FakeTables, register

_OPERATIONS = 500
_TABLES = 50
_AT_ONCE = 16
# Whatever the order in which they came, an event's number says where it belongs among those of its operation.
_EVENTS = "SELECT operation_id, sequence, event FROM events"
_UNFINISHED = """
SELECT o.id, o.state, o.state_reason, o.attempt, o.epoch, o.not_before, o.ack_deadline, o.lease_expire_time,
       o.cancel_request_time, f.holder
FROM operations o JOIN fences f ON f.key = o.fence_key
"""


@pytest.mark.timeout(300)
async def test_a_watcher_that_reconnects_by_cursor_misses_nothing(three_replicas: Cluster, fake: FakeTables) -> None:
    cluster = three_replicas
    await register(cluster.client(), "http://127.0.0.1:1")
    executors = [
        cluster.start_executor(f"executor-of-{replica.name}", environ=fake.environ, slots=8, replicas=[replica])
        for replica in cluster.replicas
    ]
    for executor in executors:
        await cluster.attached(executor)
    first = [page async for page in cluster.client().operations.list().pages()]
    try:
        async with asyncio.timeout(180), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(cluster, first[0].watch_cursor))
            await _trigger(cluster)
    except TimeoutError:
        unfinished = [dict(row) for row in await cluster.sql(_UNFINISHED)]
        pytest.fail(f"the watcher did not see every end; unfinished are {unfinished or 'none, so it missed some'}")
    seen, reconnections = watching.result()

    written = {(row["operation_id"], row["sequence"]): row["event"] for row in await cluster.sql(_EVENTS)}
    missed = {each: event for each, event in written.items() if each not in set(seen)}
    assert not missed, f"{len(missed)} of {len(written)} changes were missed, such as {list(missed.items())[:3]}"
    assert set(seen) == set(written)
    assert reconnections > 20
    for operation in {operation for operation, _ in seen}:
        # At least once: what came twice came in the same order again.
        order = list(dict.fromkeys(number for each, number in seen if each == operation))
        assert order == sorted(order)


async def _watch(cluster: Cluster, cursor: str) -> tuple[list[tuple[str, int]], int]:
    """Every change that was seen, and how often the stream was broken on purpose."""
    seen: list[tuple[str, int]] = []
    ended: set[str] = set()
    reconnections = 0
    while len(ended) < _OPERATIONS:
        patience = random.randint(1, 60)
        client = cluster.client(random.choice(cluster.replicas))
        async with aclosing(client.operations.watch(cursor=cursor, include_progress=False)) as updates:
            async for update in updates:
                assert isinstance(update, Changed)
                assert update.event is not None
                seen.append((update.operation.id, update.event.sequence))
                cursor = update.cursor
                if is_terminal(update.operation):
                    ended.add(update.operation.id)
                patience -= 1
                if not patience or len(ended) == _OPERATIONS:
                    break
        reconnections += 1
    return seen, reconnections


async def _trigger(cluster: Cluster) -> None:
    """All operations over all replicas, one in five of them cancelled, whatever it does at that moment."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        async with free:
            client = cluster.client(cluster.replicas[number % 3])
            trigger = await client.trigger(f"lake.sales.orders_{number % _TABLES}")
            if number % 5 == 0:
                other = cluster.client(cluster.replicas[(number + 1) % 3])
                for handle in trigger.operations:
                    with suppress(FailedPrecondition):  # It has ended already.
                        await other.operations.cancel(handle.id)

    async with asyncio.TaskGroup() as tasks:
        for number in range(_OPERATIONS):
            tasks.create_task(one(number))
