"""What may happen to a compaction that runs or waits: a cancel, another table under its name, a lost catalog."""

from __future__ import annotations

import pytest

from floe_client import DeadlineExceeded, Unavailable
from floe_client import types as floe
from tests.fault.spark.conftest import Deployment
from tests.support.cluster import effects_name, state_name
from tests.support.content import content, data_files, stamped
from tests.support.iceberg import messy_table
from tests.support.waiting import eventually

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]


async def test_a_cancelled_compaction_leaves_no_job_and_no_snapshot(deployment: Deployment, namespace: str) -> None:
    cluster = deployment.cluster
    # Many times longer than a cancel takes.
    table = deployment.table(namespace, megabytes=40)
    before, snapshots = content(table), len(table.snapshots())
    executor = await deployment.executor()
    operation = await deployment.trigger(table)
    await executor.child.said("engine.started", operation=operation)

    cancelled = await cluster.client().operations.cancel(operation, reason="a test")
    assert cancelled.HasField("cancel_request_time")
    ended = await cluster.ended(operation)
    assert state_name(ended) == "CANCELLED", ended
    assert effects_name(ended) == "NONE"
    jobs = executor.gate("active_spark_jobs")

    async def no_job_is_active() -> bool:
        jobs.arm()
        await cluster.reached(executor, "active_spark_jobs")
        return jobs.said() == "[]"

    # Spark's own books are a moment behind it.
    await eventually(no_job_is_active, within=5)
    table.refresh()
    assert len(table.snapshots()) == snapshots
    assert stamped(table, operation) == []
    assert content(table) == before

    # The slot is free, and no interrupt is left in it.
    other = messy_table(deployment.catalog.open(), (namespace, "other"), files=4, commits=2)
    again = await cluster.ended(await deployment.trigger(other))
    assert state_name(again) == "SUCCEEDED", again
    assert data_files(other) == 1


async def test_an_expiry_does_not_wait_for_a_compaction(deployment: Deployment, namespace: str) -> None:
    cluster, client = deployment.cluster, deployment.cluster.client()
    slow = deployment.table(namespace, megabytes=40)
    quick = messy_table(deployment.catalog.open(), (namespace, "quick"), files=4, commits=2)
    name = ".".join(("lake", *quick.name()))
    policy = floe.Policy(name="expiry", table_pattern=name)
    policy.expire_snapshots.SetInParent()
    await client.policies.create(policy)
    executor = await deployment.executor()
    compaction = await deployment.trigger(slow)
    await executor.child.said("engine.started", operation=compaction)

    (handle,) = (await client.trigger(name, policy="expiry")).operations
    expiry = await cluster.ended(handle.id)

    assert state_name(expiry) == "SUCCEEDED", expiry
    assert state_name(await client.operations.get(compaction)) == "RUNNING"
    await client.operations.cancel(compaction, reason="the test is over")
    assert state_name(await cluster.ended(compaction)) == "CANCELLED"
    await client.policies.delete("expiry")


async def test_a_table_that_was_replaced_while_its_operation_waited_is_left_alone(
    deployment: Deployment, namespace: str
) -> None:
    cluster, client = deployment.cluster, deployment.cluster.client()
    await deployment.executor()
    catalog = deployment.catalog.open()
    first = messy_table(catalog, (namespace, "messy"), files=4, commits=2)
    await client.system.pause(catalog="lake", reason="a test")
    try:
        operation = await deployment.trigger(first)
        catalog.drop_table((namespace, "messy"))
        second = messy_table(catalog, (namespace, "messy"), files=6, commits=3)
    finally:
        await client.system.resume(catalog="lake")
    ended = await cluster.ended(operation)
    assert state_name(ended) == "SKIPPED", ended
    assert ended.state_reason == "table_replaced"
    assert effects_name(ended) == "NONE"
    assert data_files(second) == 6

    # The control plane has learnt of the new one by then, or does so now.
    async def compacted() -> bool:
        known = await cluster.ended(await deployment.trigger(second))
        return state_name(known) == "SUCCEEDED"

    await eventually(compacted, within=60, pause=0.5)
    assert data_files(second) == 1


async def test_a_catalog_that_is_down_loses_nothing(deployment: Deployment, namespace: str) -> None:
    cluster, client = deployment.cluster, deployment.cluster.client()
    await deployment.executor()
    table = messy_table(deployment.catalog.open(), (namespace, "messy"), files=4, commits=2)
    before = content(table)
    name = ".".join(("lake", *table.name()))
    assert _status(await client.tables.inspect(name)) not in ("UNKNOWN", "UNSPECIFIED")
    deployment.proxy.break_down()
    try:
        operation = await deployment.trigger(table)

        async def failed_once() -> floe.Operation | None:
            known = await client.operations.get(operation)
            ended = [attempt for attempt in known.attempts if attempt.HasField("finish_time")]
            return known if state_name(known) == "QUEUED" and ended else None

        waiting = await eventually(failed_once, within=120, pause=0.1)
        assert getattr(waiting.attempts[0].failure, "class") == floe.FailureClass.FAILURE_CLASS_UNAVAILABLE
        with pytest.raises((Unavailable, DeadlineExceeded)):
            await client.tables.inspect(name)
        unread = await client.tables.get(name)
        assert _status(unread) == "UNKNOWN"
        assert unread.health.error
    finally:
        deployment.proxy.repair()
    ended = await cluster.ended(operation)
    assert state_name(ended) == "SUCCEEDED", ended
    assert ended.attempt == 2
    assert content(table) == before
    assert data_files(table) == 1
    assert _status(await client.tables.inspect(name)) != "UNKNOWN"


def _status(table: floe.Table) -> str:
    return floe.HealthStatus.Name(table.health.status).removeprefix("HEALTH_STATUS_")
