"""kill -9 of the control plane in the middle of a real compaction."""

from __future__ import annotations

import pytest

from floe_client import types as floe
from tests.fault.spark.conftest import Deployment
from tests.support.cluster import state_name
from tests.support.content import content, data_files, stamped

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]


async def test_killed_while_the_first_task_runs_the_compaction_ends_once(
    deployment: Deployment, namespace: str
) -> None:
    cluster = deployment.cluster
    table = deployment.table(namespace)
    before = content(table)
    executor = await deployment.executor()
    executor.gate("first_spark_task_running").arm()
    operation = await deployment.trigger(table)
    await cluster.reached(executor, "first_spark_task_running")

    (replica,) = cluster.replicas
    replica.child.kill()
    # The task goes on while nobody is there to be told.
    executor.gate("first_spark_task_running").open()
    await cluster.restart(replica)
    ended = await cluster.ended(operation)

    assert state_name(ended) == "SUCCEEDED", ended
    assert ended.verification.verdict == floe.VerificationVerdict.VERIFICATION_VERDICT_PASSED
    (snapshot,) = stamped(table, operation)
    assert list(ended.snapshot_ids) == [snapshot.snapshot_id]
    assert content(table) == before
    assert data_files(table) == 1
    ends = "SELECT event FROM events WHERE operation_id = $1 AND to_state = 'SUCCEEDED' AND from_state <> to_state"
    assert len(await cluster.sql(ends, operation)) == 1
