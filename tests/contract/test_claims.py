"""Handing out operations."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain import decisions
from control_plane.domain.identifiers import CatalogName, OperationType, PolicyName, RunId, SessionId
from control_plane.domain.operation import Failure, FailureClass, Operation, OperationState
from tests.support import factories
from tests.support.scene import Scene, returned
from tests.support.stores import RULES, age

S = OperationState
HOUR = timedelta(hours=1)


async def test_a_claim_is_what_the_decision_says(scene: Scene) -> None:
    holder = await scene.attach()
    queued = await scene.enqueue()
    before = await scene.operations.get(queued.id)

    (leased,) = await scene.claim(holder)

    assert leased.ack_deadline is not None and leased.update_time is not None
    assert holder.session is not None
    expected = decisions.claimed(
        before,
        leased.update_time,
        executor=holder.id,
        session=holder.session,
        epoch=before.epoch + 1,
        token=leased.token,
        engine="spark",
        rules=RULES,
    ).operation
    assert leased == replace(expected, revision=before.revision + 1, update_time=leased.update_time)
    assert len(leased.token) == 16
    assert await scene.operations.get(queued.id) == leased


async def test_a_claim_of_a_retry_is_what_the_decision_says(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    failure = Failure(FailureClass.ENGINE, "no memory")
    await scene.report(running.lease, factories.result(failure=failure))
    before = await age(scene.store, running.id, "not_before")

    (leased,) = await scene.claim(holder)

    assert leased.update_time is not None and holder.session is not None
    expected = decisions.claimed(
        before,
        leased.update_time,
        executor=holder.id,
        session=holder.session,
        epoch=leased.epoch,
        token=leased.token,
        engine="spark",
        rules=RULES,
    ).operation
    assert leased == replace(expected, revision=before.revision + 1, update_time=leased.update_time)
    assert leased.attempt == 2
    assert leased.epoch > running.epoch


async def test_the_earliest_virtual_deadline_goes_first_and_no_more_than_the_slots(scene: Scene) -> None:
    holder = await scene.attach()
    now = await scene.store.now()
    queued = [await scene.enqueue(virtual_deadline=now + timedelta(minutes=minute)) for minute in (3, 1, 2)]

    claimed = await scene.claim(holder, slots=2)

    assert [operation.id for operation in claimed] == [queued[1].id, queued[2].id]


async def test_rivals_never_claim_the_same_operation_or_table(scene: Scene) -> None:
    holders = [await scene.attach(f"e{number}") for number in range(8)]
    tables = [factories.separate() for _ in range(10)]
    times = await scene.times()
    twins = [
        replace(table, id=factories.operation().id, run_id=factories.operation().run_id, **times)
        for table in tables
        for _ in range(3)
    ]
    await scene.operations.enqueue(twins)

    claims = await asyncio.gather(*(scene.claim(holder, slots=5) for holder in holders))
    claims += await asyncio.gather(*(scene.claim(holder, slots=5) for holder in holders))

    claimed = [operation for claim in claims for operation in claim]
    assert len({operation.id for operation in claimed}) == len(claimed) == 10
    assert {operation.table_uuid for operation in claimed} == {table.table_uuid for table in tables}


async def test_only_one_operation_of_a_table_is_given_in_one_claim(scene: Scene) -> None:
    holder = await scene.attach()
    first = await scene.enqueue()
    await scene.enqueue(table=first.table, table_uuid=first.table_uuid)

    assert len(await scene.claim(holder)) == 1
    assert not await scene.claim(holder)


async def test_a_table_registered_twice_has_one_fence(scene: Scene) -> None:
    await scene.store.catalogs.create(factories.catalog("pond"))
    holder = await scene.attach()
    first = await scene.enqueue()
    await scene.enqueue(table=replace(first.table, catalog=CatalogName("pond")), table_uuid=first.table_uuid)

    assert len(await scene.claim(holder)) == 1


async def test_a_table_without_a_uuid_is_fenced_by_its_name(scene: Scene) -> None:
    holder = await scene.attach()
    first = await scene.enqueue(table_uuid="")
    await scene.enqueue(table=first.table, table_uuid="")

    assert len(await scene.claim(holder)) == 1


async def test_the_epoch_rises_over_all_operations_of_a_table(scene: Scene) -> None:
    holder = await scene.attach()
    epochs = []
    uuid = factories.separate().table_uuid
    for _ in range(3):
        leased = await scene.leased(holder, table_uuid=uuid)
        epochs.append(leased.epoch)
        await scene.report((await scene.ack(leased, holder)).lease, factories.result())

    # Each lease raises it when it is given and when it is left.
    assert epochs == [1, 3, 5]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"not_before": HOUR}, id="not before"),
        pytest.param({"queue_deadline": -HOUR}, id="past its deadline"),
        pytest.param({"avoid_until": HOUR, "avoid_executor": "e1"}, id="avoids this executor"),
        pytest.param({"type": OperationType.EXPIRE_SNAPSHOTS}, id="a type it cannot do"),
        pytest.param({"policy": PolicyName("gone")}, id="no policy"),
    ],
)
async def test_what_may_not_run_is_not_given(scene: Scene, changes: dict[str, object]) -> None:
    holder = await scene.attach()
    now = await scene.store.now()
    timed = {name: now + value if isinstance(value, timedelta) else value for name, value in changes.items()}
    await scene.enqueue(**timed)

    assert not await scene.claim(holder, operation_types=(OperationType.REWRITE_DATA_FILES,))


async def test_what_avoids_an_executor_goes_to_another_one(scene: Scene) -> None:
    holder, other = await scene.attach("e1"), await scene.attach("e2")
    now = await scene.store.now()
    await scene.enqueue(avoid_executor=holder.id, avoid_until=now + HOUR)

    assert not await scene.claim(holder)
    (leased,) = await scene.claim(other)
    assert (leased.avoid_executor, leased.avoid_until) == (None, None)


async def test_an_executor_may_take_again_what_avoided_it_for_a_while(scene: Scene) -> None:
    holder = await scene.attach()
    now = await scene.store.now()
    await scene.enqueue(avoid_executor=holder.id, avoid_until=now - HOUR)

    assert len(await scene.claim(holder)) == 1


async def test_a_disabled_policy_gives_no_work(scene: Scene) -> None:
    holder = await scene.attach()
    await scene.enqueue()
    await scene.store.policies.update(factories.policy(enabled=False), etag=None)

    assert not await scene.claim(holder)


async def test_catalogs_limit_what_a_session_is_given(scene: Scene) -> None:
    holder = await scene.attach()
    await scene.enqueue()

    assert not await scene.claim(holder, catalogs=(CatalogName("pond"),))
    assert len(await scene.claim(holder, catalogs=(CatalogName("pond"), factories.LAKE))) == 1


async def test_an_executor_with_a_wrong_clock_gets_nothing_that_goes_by_age(scene: Scene) -> None:
    holder = await scene.attach()
    await scene.enqueue(type=OperationType.EXPIRE_SNAPSHOTS)

    assert not await scene.claim(holder, age_based=False)
    assert len(await scene.claim(holder, age_based=True)) == 1


@pytest.mark.parametrize("scope", ["deployment", "catalog", "table"])
async def test_a_pause_is_honoured_until_it_ends(scene: Scene, scope: str) -> None:
    holder = await scene.attach()
    queued = await scene.enqueue()
    paused = factories.pause(
        catalog=queued.catalog if scope == "catalog" else None, table=queued.table if scope == "table" else None
    )
    await scene.store.pauses.set(paused)

    assert not await scene.claim(holder)
    await scene.store.pauses.clear(paused.scope)
    assert len(await scene.claim(holder)) == 1


async def test_a_pause_elsewhere_or_in_the_past_holds_nothing(scene: Scene) -> None:
    holder = await scene.attach()
    await scene.enqueue()
    now = await scene.store.now()
    await scene.store.pauses.set(factories.pause(catalog=CatalogName("pond")))
    await scene.store.pauses.set(factories.pause(table=factories.EVENTS))
    await scene.store.pauses.set(factories.pause(until=now - HOUR))

    assert len(await scene.claim(holder)) == 1


async def test_steps_of_a_run_are_given_in_their_order(scene: Scene) -> None:
    holder = await scene.attach()
    run = RunId("run")
    now = await scene.store.now()
    later = await scene.enqueue(
        run_id=run, type=OperationType.EXPIRE_SNAPSHOTS, virtual_deadline=now - HOUR, queue_deadline=now + HOUR
    )
    first = await scene.enqueue(run_id=run, table=later.table, table_uuid=later.table_uuid)

    (leased,) = await scene.claim(holder)
    assert leased.id == first.id
    assert not await scene.claim(holder)
    await scene.report((await scene.ack(leased, holder)).lease, factories.result())
    assert [operation.id for operation in await scene.claim(holder)] == [later.id]


async def test_a_step_that_backs_off_steps_aside(scene: Scene) -> None:
    holder = await scene.attach()
    run = RunId("run")
    now = await scene.store.now()
    first = await scene.enqueue(run_id=run, not_before=now + HOUR)
    later = await scene.enqueue(
        run_id=run, type=OperationType.EXPIRE_SNAPSHOTS, table=first.table, table_uuid=first.table_uuid
    )

    assert [operation.id for operation in await scene.claim(holder)] == [later.id]


async def test_a_solo_operation_is_given_only_to_who_works_on_nothing_and_then_alone(scene: Scene) -> None:
    holder = await scene.attach()
    now = await scene.store.now()
    solo = await scene.enqueue(solo=True, virtual_deadline=now - HOUR)
    other = await scene.enqueue()

    assert [operation.id for operation in await scene.claim(holder, alone=False)] == [other.id]
    assert [operation.id for operation in await scene.claim(holder, alone=True)] == [solo.id]


async def test_nothing_comes_with_a_solo_operation(scene: Scene) -> None:
    holder = await scene.attach()
    now = await scene.store.now()
    solo = await scene.enqueue(solo=True, virtual_deadline=now - HOUR)
    await scene.enqueue()

    assert [operation.id for operation in await scene.claim(holder, slots=5)] == [solo.id]


async def test_only_the_current_session_is_given_work(scene: Scene) -> None:
    old = await scene.attach()
    new = await scene.attach()
    await scene.enqueue()

    assert not await scene.claim(old)
    assert not await scene.claim(replace(new, session=SessionId("invented")))
    assert len(await scene.claim(new)) == 1


async def test_who_drains_or_leaves_is_given_nothing(scene: Scene) -> None:
    drained, leaving = await scene.attach("e1"), await scene.attach("e2")
    await scene.store.executors.set_drained(drained.id, True)
    assert leaving.session is not None
    await scene.store.executors.leave(leaving.session)
    await scene.enqueue()

    assert not await scene.claim(drained)
    assert not await scene.claim(leaving)
    await scene.store.executors.set_drained(drained.id, False)
    assert len(await scene.claim(drained)) == 1


async def test_a_catalog_s_limit_is_hard_and_given_back(scene: Scene) -> None:
    holder = await scene.attach()
    catalog = await scene.store.catalogs.get(factories.LAKE)
    await scene.store.catalogs.update(replace(catalog, max_concurrent_operations=2), revision=None, unused=False)
    for _ in range(5):
        await scene.enqueue()

    leased = await scene.claim(holder, slots=5)
    assert len(leased) == 2
    assert not await scene.claim(holder, slots=5)
    await scene.operations.change(leased[0].id, returned)
    assert len(await scene.claim(holder, slots=5)) == 1


@pytest.mark.parametrize("key", ["engine:spark", "label:size=big"])
async def test_limits_of_engines_and_labels_are_hard(scene: Scene, key: str) -> None:
    holder = await scene.attach()
    await scene.store.set_capacity({key: 1})
    for _ in range(3):
        await scene.enqueue()

    assert len(await scene.claim(holder, labels={"size": "big"}, slots=3)) == 1
    assert not await scene.claim(holder, labels={"size": "big"}, slots=3)
    assert len(await scene.claim(holder, engine="trino", labels={"size": "small"}, slots=3)) == 2


async def test_a_full_catalog_does_not_hold_up_another_one(scene: Scene) -> None:
    holder = await scene.attach()
    await scene.store.catalogs.create(factories.catalog("pond", max_concurrent_operations=1))
    now = await scene.store.now()
    for _ in range(4):
        await scene.enqueue(
            table=replace(factories.separate().table, catalog=CatalogName("pond")), virtual_deadline=now - HOUR
        )
    mine = await scene.enqueue()

    given = await scene.claim(holder, slots=2)
    assert [operation.catalog for operation in given] == ["pond", "lake"]
    assert given[1].id == mine.id


async def test_rivals_stay_within_a_limit_together(scene: Scene) -> None:
    holders = [await scene.attach(f"e{number}") for number in range(6)]
    await scene.store.set_capacity({"engine:spark": 4})
    for _ in range(12):
        await scene.enqueue()

    claims = await asyncio.gather(*(scene.claim(holder, slots=3) for holder in holders))

    assert sum(len(claim) for claim in claims) <= 4
    later = [await scene.claim(holder, slots=3) for holder in holders]
    assert sum(len(claim) for claim in [*claims, *later]) == 4


async def test_claimable_tells_whether_anything_is_due(scene: Scene) -> None:
    assert not await scene.operations.claimable()
    now = await scene.store.now()
    await scene.enqueue(not_before=now + HOUR)
    assert not await scene.operations.claimable()
    queued: Operation = await scene.enqueue()
    assert await scene.operations.claimable()
    await scene.cancel(queued.id)
    assert not await scene.operations.claimable()


async def test_no_slots_are_given_nothing(scene: Scene) -> None:
    holder = await scene.attach()
    await scene.enqueue()

    assert not await scene.claim(holder, slots=0)
