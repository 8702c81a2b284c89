"""Targets that are due, what is settled about them, and what the end of an operation means for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.catalog import Table
from control_plane.domain.errors import TableNotFound
from control_plane.domain.identifiers import CatalogName, OperationType, PolicyName, TableName
from control_plane.domain.operation import FailureClass
from control_plane.domain.scheduling import (
    NO_OUTCOMES,
    DecisionReason,
    PolicyMode,
    Settled,
    SlotVerdict,
    Wake,
)
from control_plane.ports.operations import Retention
from control_plane.ports.scheduling import DecisionFilter
from tests.support import factories
from tests.support.factories import EVENTS
from tests.support.scene import Scene
from tests.support.scheduling import FAILED, Leader, decision, skip, target

HOUR = timedelta(hours=1)
COMPACTION, EXPIRY = OperationType.REWRITE_DATA_FILES, OperationType.EXPIRE_SNAPSHOTS


@pytest.fixture
async def leader(scene: Scene) -> Leader:
    return await Leader.elected(scene)


# -- what is due


async def test_the_longest_due_comes_first_and_the_future_does_not(leader: Leader) -> None:
    now = await leader.scene.store.now()
    tables = [factories.table(replace(EVENTS, name=f"t{number}")) for number in range(4)]
    dues = [now - HOUR, now - 3 * HOUR, now + HOUR, None]
    for table, due in zip(tables, dues, strict=True):
        await leader.resolve(table, target(table, due=due))

    found = await leader.due()

    assert [facts.table.name.name for facts in found] == ["t1", "t0"]
    assert [facts.target.due for facts in await leader.due(limit=1)] == [dues[1]]
    assert await leader.scene.store.scheduling.next_due() == dues[1]


async def test_nothing_is_due_where_nothing_is_scheduled(leader: Leader) -> None:
    table = factories.table()
    await leader.resolve(table, target(table, slot=None, due=None))
    assert not await leader.due()
    assert await leader.scene.store.scheduling.next_due() is None


async def test_a_target_comes_with_all_that_a_decision_reads(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    await store.tables.save_report(EVENTS, table.uuid, factories.health_report("older"))
    await store.tables.save_report(EVENTS, table.uuid, factories.health_report("newer"))
    await leader.scene.enqueue(table=table.name, table_uuid=table.uuid)
    earlier = await store.now() - HOUR
    older = await leader.scene.enqueue(table=table.name, table_uuid=table.uuid, create_time=earlier)
    await leader.scene.enqueue(table=table.name, table_uuid=table.uuid, type=EXPIRY)

    (facts,) = await leader.due()

    assert facts.target == wanted
    assert facts.table == await store.tables.get(EVENTS)
    assert facts.table.health is not None
    assert facts.table.health.error == "newer"
    assert facts.open_operation == older.id
    assert facts.outcomes == NO_OUTCOMES
    assert list(await store.scheduling.facts(EVENTS)) == [facts]


async def test_the_facts_of_a_table_are_in_the_order_of_a_run(leader: Leader) -> None:
    table = factories.table()
    shadow = target(table, mode=PolicyMode.SHADOW)
    await leader.resolve(table, target(table, type=EXPIRY), shadow, target(table))
    facts = await leader.scene.store.scheduling.facts(EVENTS)
    assert [(one.target.type, one.target.mode) for one in facts] == [
        (COMPACTION, PolicyMode.ACTIVE),
        (COMPACTION, PolicyMode.SHADOW),
        (EXPIRY, PolicyMode.ACTIVE),
    ]
    with pytest.raises(TableNotFound):
        await leader.scene.store.scheduling.facts(replace(EVENTS, name="other"))


async def test_a_report_makes_what_was_put_off_due(leader: Leader) -> None:
    table, now = factories.table(), await leader.scene.store.now()
    deferred = target(table, due=now + HOUR, deferred=True)
    await leader.resolve(table, deferred, target(table, type=EXPIRY, due=now + HOUR))
    assert not await leader.due()

    await leader.scene.store.tables.save_report(EVENTS, table.uuid, factories.health_report())

    assert [facts.target.type for facts in await leader.due()] == [COMPACTION]


# -- settling


async def test_what_is_settled_is_kept(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    before = target(table)
    await leader.resolve(table, before)
    now = await store.now()
    after = replace(before, slot=now + HOUR, due=now + HOUR)
    skipped = decision(before, table, last_slot=before.slot, slots=3, next_eligible=now + HOUR)

    await leader.settle(Settled(after, (skipped,)))

    assert [facts.target for facts in await store.scheduling.facts(EVENTS)] == [after]
    page = await store.scheduling.decisions(DecisionFilter(), after=None, limit=10)
    assert list(page.decisions) == [skipped]
    assert page.next is None


async def test_a_slot_that_fires_queues_its_operation(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)

    fired = await leader.fire(wanted, table, cancel_at=wanted.since + 99 * HOUR)

    assert await store.operations.get(fired.id) == fired
    assert fired.slot == wanted.slot
    assert [event.event for event in await leader.scene.history(fired.id)] == ["queued"]
    (facts,) = await store.scheduling.facts(EVENTS)
    assert (facts.target.awaiting, facts.open_operation) == (fired.id, fired.id)
    assert not await leader.due()
    assert [operation.id for operation in await leader.scene.claim(await leader.scene.attach())] == [fired.id]


async def test_a_second_waiting_operation_of_the_schedule_is_a_defect(leader: Leader) -> None:
    table = factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    first = await leader.fire(wanted, table)
    with pytest.raises(ValueError, match="scheduled already"):
        await leader.fire(wanted, table)
    (facts,) = await leader.scene.store.scheduling.facts(EVENTS)
    assert facts.open_operation == first.id
    # By hand any number may wait.
    await leader.scene.enqueue(table=table.name, table_uuid=table.uuid)


async def test_deciding_a_slot_again_replaces_the_decision(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    put_off = decision(wanted, table, verdict=SlotVerdict.DEFERRED, reason=DecisionReason.BUDGET)
    await leader.settle(Settled(replace(wanted, deferred=True), (put_off,)))
    final = decision(wanted, table)
    await leader.settle(Settled(wanted, (final,)))
    page = await store.scheduling.decisions(DecisionFilter(), after=None, limit=10)
    assert list(page.decisions) == [final]


async def test_a_target_that_is_gone_is_not_settled_back(leader: Leader) -> None:
    table = factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    await leader.resolved(table)
    await leader.settle(Settled(wanted, (decision(wanted, table),)))
    assert not await leader.scene.store.scheduling.facts(EVENTS)


async def test_a_target_that_awaits_what_has_ended_already_is_looked_at_again(leader: Leader) -> None:
    table = factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    ended = await leader.scene.cancel((await leader.scene.enqueue()).id)
    await leader.settle(Settled(replace(wanted, slot=None, due=None, awaiting=ended.id)))
    due = await leader.scene.store.scheduling.next_due()
    assert due is not None
    assert due < await leader.scene.store.now() + timedelta(seconds=2)


# -- decisions


async def test_decisions_are_found_by_every_filter_and_paged_newest_first(leader: Leader) -> None:
    store, now = leader.scene.store, await leader.scene.store.now()
    lake = factories.table()
    await store.catalogs.create(factories.catalog("pond"))
    pond = factories.table(TableName(CatalogName("pond"), ("a.b", "c"), 'odd "name"'))
    kept = [
        decision(target(lake), lake, time=now),
        decision(target(lake, mode=PolicyMode.SHADOW), lake, time=now - HOUR),
        decision(target(lake, type=EXPIRY, policy=PolicyName("weekly")), lake, time=now - 2 * HOUR),
        decision(target(pond), pond, verdict=SlotVerdict.FIRED, time=now - 3 * HOUR),
    ]
    for table, one in zip((lake, lake, lake, pond), kept, strict=True):
        await leader.settle(Settled(target(table), (one,)))

    async def found(where: DecisionFilter) -> list[int]:
        page = await store.scheduling.decisions(where, after=None, limit=10)
        return [kept.index(one) for one in page.decisions]

    assert await found(DecisionFilter()) == [0, 1, 2, 3]
    assert await found(DecisionFilter(catalog=CatalogName("pond"))) == [3]
    assert await found(DecisionFilter(table=lake.name)) == [0, 1, 2]
    assert await found(DecisionFilter(policy=PolicyName("weekly"))) == [2]
    assert await found(DecisionFilter(types=(EXPIRY,))) == [2]
    assert await found(DecisionFilter(verdicts=(SlotVerdict.FIRED, SlotVerdict.DEFERRED))) == [3]
    assert await found(DecisionFilter(modes=(PolicyMode.SHADOW,))) == [1]
    assert await found(DecisionFilter(since=now - HOUR)) == [0, 1]
    first = await store.scheduling.decisions(DecisionFilter(), after=None, limit=3)
    rest = await store.scheduling.decisions(DecisionFilter(), after=first.next, limit=3)
    assert [kept.index(one) for one in [*first.decisions, *rest.decisions]] == [0, 1, 2, 3]
    assert rest.next is None


async def test_decisions_past_retention_are_dropped(leader: Leader) -> None:
    store, table, now = leader.scene.store, factories.table(), await leader.scene.store.now()
    old = decision(target(table), table, time=now - timedelta(days=31))
    young = decision(target(table, type=EXPIRY), table, time=now - timedelta(days=29))
    await leader.settle(Settled(target(table), (old, young)))
    await store.clean(Retention(decisions=30))
    page = await store.scheduling.decisions(DecisionFilter(), after=None, limit=10)
    assert list(page.decisions) == [young]


# -- the queue for a budget


async def _queue(leader: Leader, *places: int, policy: str = "nightly") -> Sequence[Table]:
    """Tables that wait for the budget of a policy, with places so many hours from now."""
    now = await leader.scene.store.now()
    tables = [factories.table(replace(EVENTS, name=f"{policy}{number}")) for number in range(len(places))]
    for table, place in zip(tables, places, strict=True):
        waits = target(
            table,
            policy=PolicyName(policy),
            due=now + HOUR,
            deferred=True,
            waiting_since=now - HOUR,
            place=now + place * HOUR,
        )
        await leader.resolve(table, waits)
    return tables


async def test_a_target_keeps_its_place_in_the_queue(leader: Leader) -> None:
    (table,) = await _queue(leader, 3)
    (facts,) = await leader.scene.store.scheduling.facts(table.name)
    assert facts.target.place is not None and facts.target.waiting_since is not None
    earlier = facts.target.waiting_since - HOUR
    moved = replace(
        facts.target, place=facts.target.place - HOUR, waiting_since=earlier, unmeasured_since=earlier - HOUR
    )
    await leader.settle(Settled(moved))
    (facts,) = await leader.scene.store.scheduling.facts(table.name)
    assert facts.target == moved


async def test_the_first_in_the_queue_is_the_first_of_the_others(leader: Leader) -> None:
    scheduling = leader.scene.store.scheduling
    tables = await _queue(leader, 3, 1, 2)
    await _queue(leader, 0, policy="hourly")
    first = [(await scheduling.facts(table.name))[0].target for table in tables]
    asked = [PolicyName("nightly"), PolicyName("unheard-of")]

    assert await scheduling.first_waiting(asked, besides=()) == {"nightly": first[1].place}
    assert await scheduling.first_waiting(asked, besides=[first[1]]) == {"nightly": first[2].place}
    assert await scheduling.first_waiting(asked, besides=first) == {}
    assert await scheduling.first_waiting([], besides=()) == {}


async def test_so_many_of_a_queue_are_woken_the_first_of_it(leader: Leader) -> None:
    store = leader.scene.store
    tables = await _queue(leader, 3, 1, 2)
    (other,) = await _queue(leader, 0, policy="hourly")
    now = await store.now()
    async with store.scheduling.in_term(leader.term):
        await store.scheduling.wake([Wake(PolicyName("nightly"), 2, now)])

    assert {facts.table.name for facts in await leader.due()} == {tables[1].name, tables[2].name}
    async with store.scheduling.in_term(leader.term):
        await store.scheduling.wake(
            [Wake(PolicyName("nightly"), 5, now + 2 * HOUR), Wake(PolicyName("hourly"), 1, now)]
        )
        await store.scheduling.wake([])
    assert {facts.table.name for facts in await leader.due()} == {tables[1].name, tables[2].name, other.name}
    (last,) = await store.scheduling.facts(tables[0].name)
    assert last.target.due is not None and last.target.due < now + 2 * HOUR, "nobody is put off"


# -- what the end of an operation means


async def test_the_outcomes_of_a_table_count_every_end(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table, due=None))
    holder = await scene.attach()
    mine = {"table": table.name, "table_uuid": table.uuid}

    async def outcomes() -> object:
        (facts,) = await scene.store.scheduling.facts(EVENTS)
        return replace(facts.outcomes, mean_bytes=None, mean_seconds=None)

    ends = []
    for result in (factories.result(), factories.result()):
        ends.append((await scene.report((await scene.running(holder, **mine)).lease, result)).operation)
    kept = replace(
        NO_OUTCOMES,
        last_success_time=ends[1].finish_time,
        last_finish_time=ends[1].finish_time,
        last_metadata_location=table.metadata_location,
        consecutive_no_change=2,
        finished=2,
    )
    assert await outcomes() == kept

    failed = (
        await scene.report(
            (await scene.running(holder, **mine, max_attempts=1, policy_generation=1)).lease,
            FAILED,
        )
    ).operation
    kept = replace(
        kept,
        last_finish_time=failed.finish_time,
        consecutive_failures=1,
        last_failure_time=failed.finish_time,
        last_failure_class=FailureClass.ENGINE,
        last_failure_generation=1,
        finished=3,
        failed=1,
    )
    assert await outcomes() == kept

    cancelled = await scene.cancel((await scene.enqueue(**mine)).id)
    kept = replace(kept, last_finish_time=cancelled.finish_time)
    assert await outcomes() == kept

    running = await scene.running(holder, **mine)
    await scene.report(running.lease, factories.committed())
    verified = await scene.verify(running.id)
    assert await outcomes() == replace(
        kept,
        last_success_time=verified.finish_time,
        last_finish_time=verified.finish_time,
        consecutive_failures=0,
        consecutive_no_change=0,
        finished=4,
    )


async def test_outcomes_tell_what_the_last_successes_rewrote_and_how_long_they_took(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table, due=None))
    holder = await scene.attach()
    mine = {"table": table.name, "table_uuid": table.uuid}
    unfit = replace(FAILED, metrics={"bytes_rewritten": 10**9})
    seconds: float | None = None
    for result, expected in (
        (factories.result(), None),
        (factories.result(metrics={"bytes_rewritten": 100}), 100),
        (unfit, 100),
        (factories.result(metrics={"bytes_rewritten": 200}), 130),
        (factories.result(), 130),
    ):
        running = await scene.running(holder, **mine, max_attempts=1)
        ended = (await scene.report(running.lease, result)).operation
        assert ended.start_time is not None and ended.finish_time is not None
        if result is not unfit:
            took = (ended.finish_time - ended.start_time).total_seconds()
            seconds = took if seconds is None else 0.7 * seconds + 0.3 * took
        (facts,) = await scene.store.scheduling.facts(EVENTS)
        assert facts.outcomes.mean_bytes == (pytest.approx(expected) if expected is not None else None)
        assert facts.outcomes.mean_seconds == pytest.approx(seconds)


async def test_the_end_of_an_operation_makes_due_who_waits_for_it(leader: Leader) -> None:
    table, other = factories.table(), factories.table(replace(EVENTS, name="other"))
    for known in (table, other):
        await leader.resolve(known, target(known))
    fired = await leader.fire(target(table), table)
    await leader.fire(target(other), other)
    assert not await leader.due()

    await leader.scene.cancel(fired.id)

    (facts,) = await leader.due()
    assert (facts.table.name, facts.target.slot, facts.open_operation) == (table.name, None, None)


async def test_what_did_not_run_since_its_policy_changed_gives_its_slot_back(leader: Leader) -> None:
    scene, table, now = leader.scene, factories.table(), await leader.scene.store.now()
    wanted = target(table)
    await leader.resolve(table, wanted)
    fired = await leader.fire(wanted, table)
    changed = target(table, policy_generation=2, slot=now + HOUR, due=now + HOUR)
    await leader.resolved(table, changed)
    assert not await leader.due()

    assert await scene.operations.change(fired.id, skip("policy_changed")) is not None

    (facts,) = await leader.due()
    assert facts.target == replace(changed, slot=wanted.slot, due=facts.target.due)


async def test_another_policy_does_not_inherit_the_slot(leader: Leader) -> None:
    scene, table, now = leader.scene, factories.table(), await leader.scene.store.now()
    wanted = target(table)
    await leader.resolve(table, wanted)
    fired = await leader.fire(wanted, table)
    other = target(table, policy=PolicyName("weekly"), slot=now + HOUR, due=now + HOUR)
    await leader.resolved(table, other)
    await scene.operations.change(fired.id, skip("policy_changed"))
    assert [facts.target for facts in await scene.store.scheduling.facts(EVENTS)] == [other]


async def test_slots_that_were_decided_while_the_clock_was_ahead_are_known(leader: Leader) -> None:
    store, table, other = leader.scene.store, factories.table(), factories.table(replace(EVENTS, name="other"))
    now = await store.now()
    mine, its = target(table), target(other)
    await leader.resolve(table, mine)
    await leader.resolve(other, its)
    rows = (
        decision(mine, table, slot=now - HOUR, time=now - HOUR),
        decision(mine, table, slot=now + HOUR, time=now + 3 * HOUR, last_slot=now + 2 * HOUR, slots=2),
        decision(mine, table, slot=now + HOUR, time=now + HOUR, policy=PolicyName("tidy")),
    )
    await leader.settle(Settled(mine, rows), Settled(its, (decision(its, other, slot=now - HOUR, time=now - HOUR),)))

    ahead = await store.scheduling.decided_ahead([table, other], now=now)
    assert ahead == {(mine.catalog, mine.table_key, mine.type, mine.mode): now + 2 * HOUR}
    assert not await store.scheduling.decided_ahead([other], now=now)
    assert not await store.scheduling.decided_ahead([table], now=now + 3 * HOUR)
