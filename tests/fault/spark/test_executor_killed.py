"""kill -9 of an executor at named points of a real compaction: evidence decides, and a commit is never run twice."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from pyiceberg.table import Table

from floe_client import types as floe
from tests.fault.spark.conftest import Deployment
from tests.support.cluster import effects_name, state_name
from tests.support.content import Content, content, data_files, stamped

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]


async def test_killed_while_the_first_task_runs_another_executor_does_it_all(
    deployment: Deployment, namespace: str
) -> None:
    table = deployment.table(namespace)
    before = content(table)
    victim = await deployment.executor()
    victim.gate("first_spark_task_running").arm()
    operation = await deployment.trigger(table)
    await deployment.cluster.reached(victim, "first_spark_task_running")
    # Python alone is killed: its driver, frozen in a task, has to go with it.
    victim.child.kill()
    assert stamped(table, operation) == []

    survivor = await deployment.executor()
    ended = await deployment.cluster.ended(operation)
    _done_once(table, ended, before)
    assert [attempt.decided_by for attempt in ended.attempts] == ["evidence", "result"]
    assert ended.executor_id == survivor.id


async def test_lost_with_its_machine_when_the_commit_was_sent_and_not_answered_the_commit_counts(
    deployment: Deployment, namespace: str
) -> None:
    table = deployment.table(namespace)
    before = content(table)
    victim = await deployment.executor()
    path = urlsplit(deployment.catalog.uri).path.rstrip("/")
    deployment.proxy.swallow_answer_to(f"POST {path}/v1/namespaces/{namespace}/tables/messy")
    operation = await deployment.trigger(table)
    async with asyncio.timeout(60):
        await deployment.proxy.swallowed.wait()
    victim.child.kill_tree()
    (committed,) = stamped(table, operation)

    await deployment.executor()
    ended = await deployment.cluster.ended(operation)
    _done_once(table, ended, before)
    assert list(ended.snapshot_ids) == [committed.snapshot_id]
    assert [attempt.decided_by for attempt in ended.attempts] == ["evidence"]


async def test_killed_when_it_had_committed_and_not_reported_the_commit_counts(
    deployment: Deployment, namespace: str
) -> None:
    table = deployment.table(namespace)
    before = content(table)
    victim = await deployment.executor()
    victim.gate("committed_not_reported").arm()
    operation = await deployment.trigger(table)
    await deployment.cluster.reached(victim, "committed_not_reported")
    victim.child.kill()
    (committed,) = stamped(table, operation)

    await deployment.executor()
    ended = await deployment.cluster.ended(operation)
    _done_once(table, ended, before)
    assert list(ended.snapshot_ids) == [committed.snapshot_id]
    assert [attempt.decided_by for attempt in ended.attempts] == ["evidence"]


def _done_once(table: Table, ended: floe.Operation, before: Content) -> None:
    assert state_name(ended) == "SUCCEEDED", ended
    assert effects_name(ended) == "COMMITTED"
    assert ended.verification.verdict == floe.VerificationVerdict.VERIFICATION_VERDICT_PASSED
    assert [snapshot.snapshot_id for snapshot in stamped(table, ended.id)] == list(ended.snapshot_ids)
    assert len(ended.snapshot_ids) == 1
    assert content(table) == before
    assert data_files(table) == 1
