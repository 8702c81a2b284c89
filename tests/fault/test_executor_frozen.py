"""An executor whose Python stands still beyond its lease: nothing that it holds may go on meanwhile, nor afterwards."""

from __future__ import annotations

import pytest

from executor.processes import ProcessIdentity
from tests.support.cluster import Cluster, FakeTables, effects_name, register, state_name
from tests.support.fake_tables import Behaviour, table_uuid
from tests.support.waiting import eventually

_KEPT = "SELECT verdict, reason, payload->>'effects' AS effects FROM results WHERE operation = $1 AND epoch = $2"


@pytest.mark.timeout(180)
async def test_the_engine_of_a_frozen_executor_is_killed_and_its_late_result_changes_nothing(
    one_replica: Cluster, fake: FakeTables
) -> None:
    cluster, client = one_replica, one_replica.client()
    await register(client, "http://127.0.0.1:1")
    fake.behaviours.set(Behaviour(hang="inside"), table_uuid("lake", ["sales"], "orders"))
    frozen = cluster.start_executor("frozen", environ=fake.environ)
    await cluster.attached(frozen)
    (handle,) = (await client.trigger("lake.sales.orders")).operations
    running = await cluster.state(handle.id, "RUNNING")
    await fake.hangs(handle.id, running.epoch)
    (begun,) = fake.log.effects()
    engine = ProcessIdentity.of(begun.pid)
    assert engine is not None

    frozen.child.freeze()

    async def engine_is_dead() -> bool:
        return not engine.is_alive

    await eventually(engine_is_dead)
    await cluster.state(handle.id, "RECONCILING")
    # From here on another may have the table, and does what was left undone.
    fake.behaviours.set(Behaviour(), table_uuid("lake", ["sales"], "orders"))
    other = cluster.start_executor("other", environ=fake.environ)
    ended = await cluster.ended(handle.id)
    assert state_name(ended) == "SUCCEEDED"
    assert effects_name(ended) == "COMMITTED"
    assert ended.executor_id == other.id or ended.executor_id == (await cluster.attached(other)).id

    frozen.child.thaw()

    async def kept() -> list[str]:
        return [row["verdict"] for row in await cluster.sql(_KEPT, handle.id, running.epoch)]

    assert "ACCEPTED" not in await eventually(kept)
    assert await client.operations.get(handle.id) == ended
    commits = fake.log.commits(table_uuid("lake", ["sales"], "orders"))
    assert [(commit.operation, commit.epoch) for commit in commits] == [(handle.id, ended.epoch)]
    assert fake.log.overlaps() == []
    # It goes on as an executor with a new engine.
    await frozen.child.said("engine.replaced")
    known = await cluster.attached(frozen)
    assert known.id != ended.executor_id
