"""Many triggers for one table at once, three replicas, three executors: judged by what was done to the table."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.support.cluster import Cluster, FakeTables, register, state_name
from tests.support.fake_tables import table_uuid

_TIMES = 50


@pytest.mark.timeout(240)
async def test_two_triggers_of_one_table_never_change_it_at_the_same_time(
    three_replicas: Cluster, fake: FakeTables
) -> None:
    cluster = three_replicas
    await register(cluster.client(), "http://127.0.0.1:1")
    # One each, so that all three replicas claim for the one table.
    executors = [
        cluster.start_executor(f"executor-of-{replica.name}", environ=fake.environ, slots=4, replicas=[replica])
        for replica in cluster.replicas
    ]
    for executor in executors:
        await cluster.attached(executor)

    ids: list[str] = []
    for _ in range(_TIMES):
        first, second = random.sample(cluster.replicas, 2)
        both = await asyncio.gather(
            *(cluster.client(replica).trigger("lake.sales.orders") for replica in (first, second))
        )
        ids += [handle.id for trigger in both for handle in trigger.operations]
    assert len(set(ids)) == 2 * _TIMES
    ended = [await cluster.ended(operation, within=120) for operation in ids]

    assert {state_name(operation) for operation in ended} == {"SUCCEEDED"}
    assert fake.log.overlaps() == []
    commits = fake.log.commits(table_uuid("lake", ["sales"], "orders"))
    assert sorted(commit.operation for commit in commits) == sorted(ids), "each operation changed the table once"
    epochs = [commit.epoch for commit in sorted(commits, key=lambda commit: commit.t_mono)]
    assert epochs == sorted(set(epochs)), "epochs rise with every grant"
    assert {operation.executor_id for operation in ended} == {executor.id for executor in executors}
