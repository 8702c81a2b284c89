"""Operations of the schedule: what keeps them from starting, and what they cost their policies."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.identifiers import OperationType, PolicyName
from control_plane.domain.operation import Operation, OperationState
from control_plane.domain.scheduling import Charge, PolicyMode, Spent
from control_plane.ports.operations import Due
from tests.support import factories
from tests.support.clock import ManualClock
from tests.support.factories import EVENTS
from tests.support.scene import Scene
from tests.support.scheduling import FAILED, Leader, skip, target
from tests.support.services import recovery
from tests.support.stores import age

HOUR = timedelta(hours=1)
NIGHTLY = PolicyName("nightly")


@pytest.fixture
async def leader(scene: Scene) -> Leader:
    return await Leader.elected(scene)


async def blockers(scene: Scene, operation: Operation) -> str:
    return " ".join((await scene.operations.blockers([operation]))[operation.id])


async def spent(leader: Leader) -> Spent | None:
    since = await leader.scene.store.now() - HOUR
    return (await leader.scene.store.scheduling.spent([NIGHTLY], since=since)).get(NIGHTLY)


# -- what keeps them


async def test_what_was_scheduled_under_an_older_generation_does_not_start(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table))
    fired = await leader.fire(target(table), table)
    by_hand = await scene.enqueue()
    policy = await scene.store.policies.get(NIGHTLY)
    await scene.store.policies.update(replace(policy, generation=2), etag=None)

    holder = await scene.attach()

    assert [operation.id for operation in await scene.claim(holder)] == [by_hand.id]
    assert "has changed since this was scheduled" in await blockers(scene, fired)


async def test_it_is_skipped_once_its_table_has_been_matched_anew(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table))
    fired = await leader.fire(target(table), table)
    policy = await scene.store.policies.get(NIGHTLY)
    await scene.store.policies.update(replace(policy, generation=2), etag=None)
    assert Due.POLICY_CHANGED not in await scene.operations.due_now()

    await leader.resolved(table, target(table, policy_generation=2))

    assert Due.POLICY_CHANGED in await scene.operations.due_now()
    assert list(await scene.operations.due(Due.POLICY_CHANGED, limit=5)) == [fired.id]
    skipped = await scene.operations.change(fired.id, skip("policy_changed"), due=Due.POLICY_CHANGED)
    assert skipped is not None
    assert skipped.state is OperationState.SKIPPED
    assert Due.POLICY_CHANGED not in await scene.operations.due_now()


@pytest.mark.parametrize("what", ["another policy governs", "nothing governs", "it is a shadow now"])
async def test_it_is_skipped_where(leader: Leader, what: str) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table))
    fired = await leader.fire(target(table), table)
    now = {
        "another policy governs": [target(table, policy=PolicyName("weekly"))],
        "nothing governs": [],
        "it is a shadow now": [target(table, mode=PolicyMode.SHADOW)],
    }[what]

    await leader.resolved(table, *now)

    assert list(await scene.operations.due(Due.POLICY_CHANGED, limit=5)) == [fired.id]
    assert not await scene.claim(await scene.attach())
    assert "has changed since" in await blockers(scene, fired)


async def test_it_starts_after_all_where_the_policy_governs_again(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table))
    fired = await leader.fire(target(table), table)
    await leader.resolved(table)
    await leader.resolved(table, target(table))
    assert not await scene.operations.due(Due.POLICY_CHANGED, limit=5)
    assert [operation.id for operation in await scene.claim(await scene.attach())] == [fired.id]


async def test_what_was_asked_for_by_hand_goes_on_under_its_generation(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table)
    await scene.enqueue(table=table.name, table_uuid=table.uuid)
    await leader.resolved(table, target(table, policy_generation=2))
    assert not await scene.operations.due(Due.POLICY_CHANGED, limit=5)
    assert len(await scene.claim(await scene.attach())) == 1


async def test_a_deleted_policy_withdraws_what_it_queued(leader: Leader) -> None:
    scene = leader.scene
    await scene.store.policies.create(factories.policy("a-first"))
    await scene.store.policies.create(factories.policy("z-last"))
    kept = [await scene.enqueue(policy=PolicyName(name)) for name in ("a-first", "z-last")]
    fired = await scene.enqueue()
    assert Due.WITHDRAWN not in await scene.operations.due_now()
    await scene.store.policies.delete(NIGHTLY, etag=None)
    assert Due.WITHDRAWN in await scene.operations.due_now()
    assert list(await scene.operations.due(Due.WITHDRAWN, limit=5)) == [fired.id]
    assert fired.id not in {operation.id for operation in kept}


async def test_nothing_starts_on_a_table_that_is_not_to_be_maintained(leader: Leader) -> None:
    scene, table = leader.scene, factories.table(maintenance_enabled=False)
    await scene.store.tables.seen([table])
    assert not (await scene.store.tables.get(EVENTS)).maintenance_enabled
    waiting = await scene.enqueue(table=table.name, table_uuid=table.uuid)
    holder = await scene.attach()
    assert not await scene.claim(holder)
    assert "floe.enabled" in await blockers(scene, waiting)

    await scene.store.tables.seen([replace(table, maintenance_enabled=True)])

    assert "floe.enabled" not in await blockers(scene, waiting)
    assert [operation.id for operation in await scene.claim(holder)] == [waiting.id]


async def test_the_end_of_its_window_is_due_until_a_cancel_was_asked_for(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table))
    now = await scene.store.now()
    await leader.fire(target(table), table, cancel_at=now + HOUR)
    running = await scene.ack((await scene.claim(await scene.attach()))[0], (await scene.attach()))
    assert Due.WINDOW_OVER not in await scene.operations.due_now()
    await age(scene.store, running.id, "cancel_at")
    assert list(await scene.operations.due(Due.WINDOW_OVER, limit=5)) == [running.id]
    await scene.cancel(running.id)
    assert Due.WINDOW_OVER not in await scene.operations.due_now()


# -- what they cost


async def test_an_estimate_is_charged_until_the_end_corrects_it(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table))
    assert await spent(leader) is None

    await leader.fire(target(table), table, charge=Charge(1_000, 60.0))
    assert await spent(leader) == Spent(1, 1, 1_000, 60.0)

    holder = await scene.attach()
    running = await scene.ack((await scene.claim(holder))[0], holder)
    await scene.report(running.lease, factories.committed(metrics={"bytes_rewritten": 750}))
    verified = await scene.verify(running.id)
    assert verified.start_time is not None
    assert verified.finish_time is not None
    took = (verified.finish_time - verified.start_time).total_seconds()
    after = await spent(leader)
    assert after is not None
    assert (after.tables, after.operations, after.bytes) == (1, 1, 750)
    assert after.engine_seconds == pytest.approx(took)


async def test_what_never_started_costs_nothing(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table))
    fired = await leader.fire(target(table), table, charge=Charge(1_000, 60.0))
    await scene.cancel(fired.id)
    assert await spent(leader) is None


async def test_what_failed_without_effects_wrote_no_bytes_and_took_its_time(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table))
    await leader.fire(target(table), table, charge=Charge(1_000, 60.0), max_attempts=1)
    holder = await scene.attach()
    running = await scene.ack((await scene.claim(holder))[0], holder)
    await scene.report(running.lease, FAILED)
    after = await spent(leader)
    assert after is not None
    assert (after.operations, after.bytes) == (1, 0)
    assert after.engine_seconds < 60.0


async def test_what_people_ask_for_counts_and_tables_count_once(leader: Leader) -> None:
    scene = leader.scene
    table = factories.table()
    for kind in OperationType.REWRITE_DATA_FILES, OperationType.EXPIRE_SNAPSHOTS:
        await scene.enqueue(table=table.name, table_uuid=table.uuid, type=kind)
    await scene.enqueue()
    assert await spent(leader) == Spent(2, 3, 0, 0.0)
    soon = await scene.store.now() + HOUR
    assert not await scene.store.scheduling.spent([NIGHTLY], since=soon)
    assert not await scene.store.scheduling.spent([PolicyName("other")], since=soon - 2 * HOUR)


# -- what the sweep makes of it


async def test_the_sweep_skips_what_its_policy_no_longer_wants_and_ends_what_outlived_its_window(
    leader: Leader, clock: ManualClock
) -> None:
    scene = leader.scene
    changed, late = factories.table(), factories.table(replace(EVENTS, name="late"))
    for table in (changed, late):
        await leader.resolve(table, target(table))
    fired = await leader.fire(target(changed), changed)
    soon = await scene.store.now() + HOUR
    ending = await leader.fire(target(late), late, cancel_at=soon)
    await age(scene.store, ending.id, "cancel_at")
    again = target(changed, policy_generation=2, slot=soon, due=soon)
    await leader.resolved(changed, again)

    await recovery(scene.store, clock).sweep()

    skipped, ended = [await scene.operations.get(operation.id) for operation in (fired, ending)]
    assert (skipped.state, skipped.state_reason) == (OperationState.SKIPPED, "policy_changed")
    assert (ended.state, ended.cancel_requested_by) == (OperationState.CANCELLED, "scheduler")
    due = {facts.table.name: facts.target.slot for facts in await leader.due()}
    assert due == {changed.name: fired.slot, late.name: None}
