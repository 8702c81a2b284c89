"""What callers and executors get wrong, seen over real processes."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from floe_client import AlreadyExists
from floe_client import types as floe
from tests.support.cluster import Cluster, FakeTables, register, state_name
from tests.support.fake_tables import Behaviour, table_uuid
from tests.support.waiting import eventually


async def test_an_executor_with_another_protocol_version_is_refused_with_the_reason(
    one_replica: Cluster, fake: FakeTables
) -> None:
    stranger = one_replica.start_executor("stranger", environ=fake.environ, points=["another_protocol_version"])
    assert await stranger.child.ended() not in (0, 1), "a code that says that the operator has something to do"
    assert "Traceback" not in stranger.child.text()
    last = stranger.child.text().splitlines()[-1]
    assert "the executor speaks protocol 99" in last, last
    assert "upgrade the older of the two" in last, last
    executors = [known async for known in one_replica.client().executors.list(include_detached=True)]
    assert executors == []


@pytest.mark.timeout(180)
async def test_a_second_trigger_with_the_same_request_id_is_the_same_run_on_every_replica(
    three_replicas: Cluster, fake: FakeTables
) -> None:
    cluster = three_replicas
    await register(cluster.client(), "http://127.0.0.1:1")
    executor = cluster.start_executor("executor", environ=fake.environ)
    await cluster.attached(executor)
    request_id = str(uuid4())
    triggers = await asyncio.gather(
        *(
            cluster.client(replica).trigger("lake.sales.orders", request_id=request_id)
            for replica in cluster.replicas
            for _ in range(3)
        )
    )
    assert len({trigger.id for trigger in triggers}) == 1
    assert len({run.id for trigger in triggers for run in trigger.runs}) == 1
    (operation,) = {handle.id for trigger in triggers for handle in trigger.operations}
    assert state_name(await cluster.ended(operation)) == "SUCCEEDED"
    with pytest.raises(AlreadyExists) as reused:
        await cluster.client().trigger("lake.sales.customers", request_id=request_id)
    assert reused.value.reason == "REQUEST_ID_REUSED"
    assert len(fake.log.commits(table_uuid("lake", ["sales"], "orders"))) == 1


async def test_an_operation_whose_catalog_is_down_is_retried_and_not_lost(
    one_replica: Cluster, fake: FakeTables
) -> None:
    cluster, client = one_replica, one_replica.client()
    await register(client, "http://127.0.0.1:1")
    fake.behaviours.set(Behaviour(fails="UNAVAILABLE"))
    await cluster.attached(cluster.start_executor("executor", environ=fake.environ))
    (handle,) = (await client.trigger("lake.sales.orders")).operations

    async def failed_once() -> floe.Operation | None:
        known = await handle.get()
        ended = [attempt for attempt in known.attempts if attempt.HasField("finish_time")]
        return known if state_name(known) == "QUEUED" and ended else None

    waiting = await eventually(failed_once, within=30)
    (attempt,) = waiting.attempts
    assert getattr(attempt.failure, "class") == floe.FailureClass.FAILURE_CLASS_UNAVAILABLE
    assert waiting.HasField("not_before")
    assert fake.log.effects() == []

    fake.behaviours.set(Behaviour())
    ended = await cluster.ended(handle.id)
    assert state_name(ended) == "SUCCEEDED"
    assert ended.attempt == 2
    assert len(fake.log.commits(table_uuid("lake", ["sales"], "orders"))) == 1


async def test_a_table_that_is_busy_has_its_next_operation_wait_and_says_so(
    one_replica: Cluster, fake: FakeTables
) -> None:
    cluster, client = one_replica, one_replica.client()
    await register(client, "http://127.0.0.1:1")
    fake.behaviours.set(Behaviour(hang="inside"))
    await cluster.attached(cluster.start_executor("executor", environ=fake.environ, slots=2))
    (first,) = (await client.trigger("lake.sales.orders")).operations
    running = await cluster.state(first.id, "RUNNING")
    await fake.hangs(first.id, running.epoch)

    behind = await client.trigger("lake.sales.orders")
    ((said,),) = [run.operations for run in behind.runs]
    assert any(first.id in blocker for blocker in said.blockers), said.blockers
    fake.behaviours.release()
    for handle in (first, *behind.operations):
        assert state_name(await cluster.ended(handle.id)) == "SUCCEEDED"
    assert fake.log.overlaps() == []
