"""The leader's work on the memory store: what becomes of slots, one pass after the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from control_plane.domain.catalog import Table
from control_plane.domain.floors import Floors
from control_plane.domain.health import HealthMetrics, Metric, assess
from control_plane.domain.identifiers import CatalogName, OperationType, PolicyName
from control_plane.domain.observation import ObservationError, ObservationKind
from control_plane.domain.operation import OperationState
from control_plane.domain.policy import Policy
from control_plane.domain.scheduling import DecisionReason, PolicyMode, Settled, SlotFacts, SlotVerdict
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.slots import Judgement, decide
from control_plane.domain.thresholds import DEFAULT
from control_plane.ports.records import Store
from control_plane.ports.scheduling import TermOver
from control_plane.services.explaining import ExplainingService
from control_plane.services.governing import GoverningPolicies
from control_plane.services.observing import ObservingService
from control_plane.services.triggering import TriggeringService, Wanted
from control_plane.store.memory import MemoryStore
from tests.support import factories
from tests.support.clock import ManualClock
from tests.support.scheduling_replica import SECOND, Replica, at, measured
from tests.support.stores import RULES

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
EVERY_MINUTE: Final[dict[str, Any]] = {"rewriteDataFilesSchedule": {"cronExpression": "* * * * *"}}
SMALL_FILES: Final[dict[str, Any]] = {"triggerConditions": {"smallFileCountAbove": 10}}
FIRED, SKIPPED, DEFERRED = SlotVerdict.FIRED, SlotVerdict.SKIPPED, SlotVerdict.DEFERRED


@pytest.fixture
def clock() -> ManualClock:
    """2026-11-23 12:00 UTC."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Store:
    return MemoryStore(clock, rules=RULES)


@pytest.fixture
def replica(store: Store, clock: ManualClock) -> Replica:
    return Replica(store, clock)


# -- slots


async def test_a_slot_fires_once_and_what_it_queues_says_whence_it_comes(replica: Replica) -> None:
    (table,) = await replica.register(replica.policy(**EVERY_MINUTE))
    assert await replica.work() == timedelta(seconds=30)
    await replica.pass_time(61 * SECOND)

    (decision,) = await replica.decisions()
    (operation,) = await replica.operations()
    assert (decision.slot, decision.verdict, decision.reason) == (at(12, 1), FIRED, DecisionReason.NO_CONDITIONS)
    assert decision.operation == operation.id
    assert (operation.slot, operation.requested_by, operation.table) == (at(12, 1), "scheduler", table.name)
    assert operation.queue_deadline == at(12, 2)
    assert operation.timeout == timedelta(hours=6)
    assert replica.term is not None and decision.term == replica.term.number


async def test_the_leader_sleeps_until_the_earliest_slot(replica: Replica, clock: ManualClock) -> None:
    await replica.register(replica.policy(**EVERY_MINUTE))
    await replica.work()
    clock.advance(55 * SECOND)
    assert await replica.work() == 5 * SECOND


async def test_an_operation_that_is_not_finished_skips_the_next_slot(replica: Replica) -> None:
    await replica.register(replica.policy(rewriteDataFilesSchedule={"cronExpression": "* * * * * *"}))
    holder = await replica.scene.attach()
    await replica.work()
    await replica.pass_time(SECOND)
    (leased,) = await replica.scene.claim(holder)
    await replica.scene.ack(leased, holder)
    await replica.pass_time(SECOND)

    first, second = await replica.decisions()
    assert (first.verdict, second.verdict, second.reason) == (FIRED, SKIPPED, DecisionReason.OVERLAP)
    assert second.operation == leased.id


async def test_an_interval_counts_from_the_end_of_its_operation(replica: Replica) -> None:
    await replica.register(replica.policy(rewriteDataFilesSchedule={"interval": "PT10M"}))
    await replica.work()
    (operation,) = await replica.operations()
    assert operation.slot == at(12)
    await replica.pass_time(3 * MINUTE)
    await replica.succeed(operation)
    await replica.pass_time(12 * MINUTE, every=30 * SECOND)

    assert [one.slot for one in await replica.decisions()] == [at(12), at(12, 13)]


async def test_operations_of_one_table_in_one_pass_are_one_run(replica: Replica) -> None:
    both: dict[str, Any] = {
        **EVERY_MINUTE,
        "expireSnapshots": {},
        "expireSnapshotsSchedule": {"cronExpression": "* * * * *"},
    }
    await replica.register(replica.policy(**both), tables=2)
    await replica.work()
    await replica.pass_time(MINUTE)

    operations = await replica.operations()
    assert len(operations) == 4
    assert Counter(Counter(one.run_id for one in operations).values()) == {2: 2}
    assert len({one.trigger_id for one in operations}) == 1
    for run in {one.run_id for one in operations}:
        assert len({one.table for one in operations if one.run_id == run}) == 1


async def test_a_window_that_cancels_says_when(replica: Replica) -> None:
    schedule = {
        "cronExpression": "* * * * *",
        "windowStart": "12:00",
        "windowEnd": "12:30",
        "atWindowEnd": "CANCEL",
        "timeout": "PT7M",
    }
    await replica.register(replica.policy(rewriteDataFilesSchedule=schedule))
    await replica.work()
    await replica.pass_time(MINUTE)
    (operation,) = await replica.operations()
    assert (operation.cancel_at, operation.timeout) == (at(12, 30), 7 * MINUTE)

    holder = await replica.scene.attach()
    (leased,) = await replica.scene.claim(holder)
    await replica.scene.ack(leased, holder)
    replica.clock.advance(30 * MINUTE)
    await replica.recovery.sweep()
    asked = await replica.store.operations.get(operation.id)
    assert (asked.cancel_requested_by, asked.cancel_reason) == ("scheduler", "its window is over")


async def test_a_table_registered_in_two_catalogs_is_done_once(replica: Replica) -> None:
    policy = replica.policy(tablePattern="*", **EVERY_MINUTE)
    (table,) = await replica.register(policy)
    await replica.store.catalogs.create(factories.catalog("pond"))
    pond = replace(table.name, catalog=CatalogName("pond"))
    await replica.store.tables.seen([replace(table, name=pond)])
    await replica.work()
    await replica.pass_time(MINUTE)

    assert sorted(one.reason for one in await replica.decisions()) == ["no_conditions", "overlap"]
    assert len(await replica.operations()) == 1


# -- health


async def test_a_slot_waits_for_a_report_and_fires_with_it(replica: Replica) -> None:
    (table,) = await replica.register(replica.policy(**_hourly(**SMALL_FILES)))
    await replica.work()
    await replica.pass_time(HOUR, every=MINUTE)
    (waiting,) = await replica.decisions()
    assert (waiting.verdict, waiting.reason) == (DEFERRED, DecisionReason.NO_HEALTH)

    await replica.discovery.ask()
    looks = [one for one in await replica.asked() if one.request.kind is ObservationKind.INSPECT_TABLE]
    assert [one.request.table for one in looks] == [table.name]
    await replica.answer(looks[0], measured(table, small_file_count=Metric.exact(11)))
    await replica.work()

    (decision,) = await replica.decisions()
    assert (decision.verdict, decision.reason) == (FIRED, DecisionReason.CONDITIONS_MET)
    assert [one.slot for one in await replica.operations()] == [at(13)]


async def test_a_slot_is_given_up_when_no_report_came_for_long(replica: Replica) -> None:
    await replica.register(replica.policy(**_hourly(**SMALL_FILES)))
    await replica.work()
    await replica.pass_time(HOUR + 14 * MINUTE, every=MINUTE)
    assert [one.verdict for one in await replica.decisions()] == [DEFERRED]
    await replica.pass_time(2 * MINUTE, every=MINUTE)

    (decision,) = await replica.decisions()
    assert (decision.verdict, decision.reason) == (SKIPPED, DecisionReason.NO_HEALTH)
    assert not await replica.operations()


async def test_a_table_that_cannot_be_read_delays_no_other(replica: Replica) -> None:
    tables = await replica.register(replica.policy(**_hourly(**SMALL_FILES)), tables=2)
    await replica.work()
    await replica.pass_time(HOUR, every=MINUTE)
    await replica.discovery.ask()
    looks = {
        one.request.table: one for one in await replica.asked() if one.request.kind is ObservationKind.INSPECT_TABLE
    }
    await replica.answer(looks[tables[0].name], ObservationError("INVALID", "a manifest is broken"))
    await replica.answer(looks[tables[1].name], measured(tables[1], small_file_count=Metric.exact(50)))
    await replica.work()

    broken, good = await replica.decisions()
    assert (broken.verdict, broken.reason) == (SKIPPED, DecisionReason.CONDITIONS_UNKNOWN)
    assert good.verdict is FIRED
    report = (await replica.store.tables.get(tables[0].name)).health
    assert report is not None and (report.status, report.error) == ("UNKNOWN", "a manifest is broken")


# -- downtime and leaders


async def test_after_downtime_the_last_slot_is_caught_up_and_the_others_are_recorded(replica: Replica) -> None:
    await replica.register(replica.policy(**EVERY_MINUTE))
    await replica.work()
    replica.clock.advance(10 * MINUTE)
    await replica.work()

    missed, caught_up = await replica.decisions()
    assert (missed.verdict, missed.reason, missed.slots) == (SKIPPED, DecisionReason.CATCH_UP, 9)
    assert (missed.slot, missed.last_slot) == (at(12, 1), at(12, 9))
    assert (caught_up.slot, caught_up.verdict) == (at(12, 10), FIRED)


async def test_of_two_replicas_one_leads_and_no_slot_fires_twice(replica: Replica) -> None:
    other = Replica(replica.store, replica.clock, name="r2")
    await replica.register(replica.policy(**EVERY_MINUTE))
    assert await replica.lead()
    assert not await other.lead()
    await replica.work()
    await replica.pass_time(MINUTE)
    replica.clock.advance(10 * SECOND)
    assert await other.lead()
    assert replica.term is not None
    with pytest.raises(TermOver):
        replica.clock.advance(MINUTE)
        await other.work()
        await replica.scheduler.step(replica.term)
    await other.work()

    decisions = await replica.decisions()
    assert [one.slot for one in decisions] == [at(12, 1), at(12, 2)]
    assert [one.term for one in decisions] == sorted({one.term for one in decisions})


async def test_a_term_that_ends_in_the_middle_of_a_pass_stores_nothing(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica.register(replica.policy(**EVERY_MINUTE))
    await replica.work()
    replica.clock.advance(MINUTE)
    await replica.lead()
    term = replica.term
    assert term is not None
    due = replica.store.scheduling.due

    async def late(*, limit: int) -> object:
        found = await due(limit=limit)
        raise TermOver(found)

    monkeypatch.setattr(replica.store.scheduling, "due", late)
    with pytest.raises(TermOver):
        await replica.scheduler.step(term)
    monkeypatch.undo()
    assert not await replica.decisions()
    await replica.work()
    assert [one.verdict for one in await replica.decisions()] == [FIRED]


# -- policies


async def test_a_shadow_policy_decides_and_runs_nothing(replica: Replica) -> None:
    await replica.register(replica.policy(mode="SHADOW", **EVERY_MINUTE))
    await replica.work()
    await replica.pass_time(2 * MINUTE)

    decisions = await replica.decisions()
    assert [(one.mode, one.verdict, one.reason) for one in decisions] == [
        (PolicyMode.SHADOW, FIRED, DecisionReason.SHADOW)
    ] * 2
    assert not await replica.operations()


async def test_what_waits_under_a_changed_policy_is_skipped_and_decided_again(replica: Replica) -> None:
    policy = replica.policy(**_hourly())
    await replica.register(policy)
    await replica.work()
    await replica.pass_time(HOUR, every=MINUTE)
    (first,) = await replica.operations()
    changed = await replica.change(policy, **_hourly(priority=7))
    await replica.work()
    await replica.recovery.sweep()
    await replica.work()

    assert (await replica.store.operations.get(first.id)).state_reason == "policy_changed"
    (again,) = await replica.operations(OperationState.QUEUED)
    assert (again.slot, again.policy_generation) == (first.slot, changed.generation)
    (decision,) = await replica.decisions()
    assert (decision.operation, decision.policy_generation) == (again.id, changed.generation)


async def test_a_slot_that_waits_is_closed_when_its_policy_changes(replica: Replica) -> None:
    policy = replica.policy(**_hourly(**SMALL_FILES))
    await replica.register(policy)
    await replica.work()
    await replica.pass_time(HOUR, every=MINUTE)
    await replica.change(policy, **_hourly(priority=7))
    await replica.work()

    (decision,) = await replica.decisions()
    assert (decision.verdict, decision.reason) == (SKIPPED, DecisionReason.POLICY_CHANGED)
    assert decision.text == "skipped: policy nightly has changed"


@pytest.mark.parametrize("change", ["edited", "deleted and created anew", "displaced by another"])
async def test_a_clock_set_back_before_its_policy_changes_brings_no_slot_again(replica: Replica, change: str) -> None:
    document = _hourly()
    policy = replica.policy(**document)
    await replica.register(policy)
    await replica.work()
    await replica.pass_time(HOUR, every=MINUTE)
    (operation,) = await replica.operations()
    await replica.succeed(operation)
    replica.clock.advance(-30 * MINUTE)
    match change:
        case "edited":
            await replica.change(policy, priority=7, **document)
        case "deleted and created anew":
            await replica.store.policies.delete(policy.name, etag=None)
            await replica.store.policies.create(replica.policy(**document))
        case _:
            await replica.store.policies.create(replica.policy("other", priority=7, **document))
    await replica.pass_time(40 * MINUTE, every=MINUTE)

    (decision,) = await replica.decisions()
    assert (decision.slot, decision.operation) == (at(13), operation.id)
    assert [one.id for one in await replica.operations()] == [operation.id]
    await replica.pass_time(HOUR, every=MINUTE)
    assert [one.slot for one in await replica.operations()] == [at(13), at(14)], "the schedule goes on"


async def test_all_slots_that_came_due_before_their_policy_changed_are_recorded(replica: Replica) -> None:
    policy = replica.policy(**EVERY_MINUTE)
    await replica.register(policy)
    await replica.work()
    replica.clock.advance(10 * MINUTE)
    await replica.change(policy, priority=7, **EVERY_MINUTE)
    await replica.work()

    (closed,) = await replica.decisions()
    assert (closed.reason, closed.slot, closed.last_slot, closed.slots) == (
        DecisionReason.POLICY_CHANGED,
        at(12, 1),
        at(12, 10),
        10,
    )


async def test_a_generation_that_many_tables_are_left_by_is_read_once(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replica.policy(**EVERY_MINUTE)
    await replica.register(policy, tables=3)
    await replica.work()
    replica.clock.advance(10 * MINUTE)
    await replica.change(policy, priority=7, **EVERY_MINUTE)
    read: list[int] = []
    generation = replica.store.policies.generation

    async def counted(name: PolicyName, number: int) -> Policy:
        read.append(number)
        return await generation(name, number)

    monkeypatch.setattr(replica.store.policies, "generation", counted)
    await replica.work()

    assert [(one.reason, one.slots) for one in await replica.decisions()] == [(DecisionReason.POLICY_CHANGED, 10)] * 3
    assert read == [policy.generation]


async def test_a_policy_that_is_deleted_leaves_no_target(replica: Replica) -> None:
    policy = replica.policy(**EVERY_MINUTE)
    (table,) = await replica.register(policy)
    await replica.work()
    assert await replica.store.scheduling.facts(table.name)
    await replica.store.policies.delete(policy.name, etag=None)
    await replica.work()
    assert not await replica.store.scheduling.facts(table.name)


async def test_a_policy_that_changed_since_the_table_was_resolved_decides_nothing(replica: Replica) -> None:
    policy = replica.policy(**EVERY_MINUTE)
    (table,) = await replica.register(policy)
    await replica.work()
    (facts,) = await replica.store.scheduling.facts(table.name)
    stale = replace(facts.target, policy_generation=9)
    assert replica.term is not None
    async with replica.store.scheduling.in_term(replica.term):
        await replica.store.scheduling.resolved([(table, [stale])])
    replica.clock.advance(MINUTE)
    await replica.work()
    assert not await replica.decisions()


async def test_a_higher_policy_without_schedule_takes_the_table_off_the_schedule(replica: Replica) -> None:
    higher = replica.policy("by-hand", priority=5)
    (table,) = await replica.register(replica.policy(**EVERY_MINUTE), higher)
    await replica.work()
    assert not await replica.store.scheduling.facts(table.name)


async def test_a_budget_of_a_pass_lets_so_many_run_and_the_others_wait(replica: Replica) -> None:
    budget: dict[str, Any] = {"budget": {"perPass": {"tables": 2}}}
    await replica.register(replica.policy(**_hourly(**budget)), tables=5)
    await replica.work()
    replica.clock.advance(HOUR)
    await replica.work()
    assert Counter(one.verdict for one in await replica.decisions()) == {FIRED: 2, DEFERRED: 3}
    replica.clock.advance(MINUTE)
    await replica.work()
    assert Counter(one.verdict for one in await replica.decisions()) == {FIRED: 4, DEFERRED: 1}


async def test_a_budget_of_an_hour_counts_over_passes_and_terms(replica: Replica) -> None:
    budget: dict[str, Any] = {"budget": {"perHour": {"operations": 3}}}
    await replica.register(replica.policy(**_hourly(**budget)), tables=5)
    await replica.work()
    replica.clock.advance(HOUR)
    await replica.work()
    assert Counter(one.verdict for one in await replica.decisions()) == {FIRED: 3, DEFERRED: 2}
    other = Replica(replica.store, replica.clock, name="r2")
    replica.clock.advance(30 * MINUTE)
    await other.work()
    assert Counter(one.verdict for one in await replica.decisions()) == {FIRED: 3, DEFERRED: 2}


async def _ran(replica: Replica, *, hours: int, **policy: Any) -> Counter[str]:
    """How often each table of six ran under an hourly schedule; every operation is done at once."""
    tables = await replica.register(replica.policy(**_hourly(**policy)), tables=6)
    for number, table in enumerate(tables):
        await _reducible(replica, table, 100.0 * (number + 1))
    await replica.work()
    holder = await replica.scene.attach()
    for _ in range(hours * 60):
        await replica.pass_time(MINUTE, every=MINUTE)
        for leased in await replica.scene.claim(holder, slots=100):
            running = await replica.scene.ack(leased, holder)
            await replica.scene.report(running.lease, factories.result(metrics={"bytes_rewritten": 0}))
    return Counter(one.table.name for one in await replica.operations())


@pytest.mark.parametrize("limit", ["operations", "tables"])
async def test_a_budget_that_is_too_small_for_all_comes_round_to_every_table(replica: Replica, limit: str) -> None:
    """Jitter puts the slots of a table at the same minute of every hour: the first is not the first for ever."""
    ran = await _ran(replica, hours=12, budget={"perHour": {limit: 2}})

    assert len(ran) == 6
    assert max(ran.values()) - min(ran.values()) <= 1
    assert sum(ran.values()) >= 20, "two an hour"


async def test_a_large_table_is_not_passed_by_for_ever_by_small_ones(replica: Replica) -> None:
    ran = await _ran(replica, hours=12, budget={"perHour": {"bytes": 600}})

    assert ran["t5"] >= 1, "it needs the whole budget"
    assert min(ran.values()) >= 1


async def test_a_small_one_does_not_pass_by_a_large_one_that_is_decided_with_it(replica: Replica) -> None:
    budget: dict[str, Any] = {"budget": {"perHour": {"bytes": 600}}}
    tables = await replica.register(replica.policy(**_hourly(**budget)), tables=3)
    for table, size in zip(tables, (100.0, 500.0, 200.0), strict=True):
        await _reducible(replica, table, size)
    await replica.work()
    assert replica.term is not None
    async with replica.store.scheduling.in_term(replica.term) as now:
        for hours, table in enumerate(tables, start=1):
            (facts,) = await replica.store.scheduling.facts(table.name)
            waits = replace(facts.target, waiting_since=now - hours * HOUR, due=now + HOUR)
            await replica.store.scheduling.settle([Settled(waits)])
    replica.clock.advance(HOUR)
    await replica.work()

    verdicts = {one.table.name: one.verdict for one in await replica.decisions()}
    assert verdicts == {"t2": FIRED, "t1": DEFERRED, "t0": DEFERRED}


async def _reducible(replica: Replica, table: Table, size: float) -> None:
    """Keep a report by which a rewrite has so many bytes to rewrite."""
    metrics = {"data_file_count": Metric.exact(100.0), "reducible_bytes": Metric.exact(size)}
    report = assess(HealthMetrics.measured(metrics.items()), DEFAULT, now=replica.clock.now())
    await replica.store.tables.save_report(table.name, table.uuid, report)


async def test_what_waits_for_a_budget_is_woken_by_what_runs_and_not_by_looking(replica: Replica) -> None:
    budget: dict[str, Any] = {"budget": {"perHour": {"operations": 50}}}
    await replica.register(replica.policy(**_hourly(**budget)), tables=120)
    await replica.work()
    replica.clock.advance(HOUR)
    await replica.work()
    assert Counter(one.verdict for one in await replica.decisions()) == {FIRED: 50, DEFERRED: 70}
    replica.clock.advance(HOUR - MINUTE)
    await replica.work()
    replica.clock.advance(2 * MINUTE)
    await replica.work()

    fired = Counter(one.table.name for one in await replica.decisions() if one.verdict is FIRED)
    assert sum(fired.values()) == 100
    assert set(fired.values()) == {1}, "those that waited went first"


async def test_a_policy_that_is_edited_leaves_those_in_the_queue_their_age(replica: Replica) -> None:
    budget: dict[str, Any] = {"budget": {"perHour": {"operations": 1}}}
    policy = replica.policy(**_hourly(**budget))
    await replica.register(policy, tables=2)
    await replica.work()
    replica.clock.advance(HOUR)
    await replica.work()
    waits = [one.table for one in await replica.decisions() if one.verdict is DEFERRED]
    await replica.change(policy, **_hourly(description="edited", **budget))
    await replica.work()
    await replica.pass_time(2 * HOUR, every=MINUTE)

    fired = [one.table for one in await replica.decisions() if one.verdict is FIRED]
    assert fired[1] == waits[0]


async def test_an_explanation_knows_that_the_budget_of_the_hour_is_spent(replica: Replica) -> None:
    policy = replica.policy(budget={"perHour": {"operations": 1}}, **EVERY_MINUTE)
    tables = await replica.register(policy, tables=2)
    governing = GoverningPolicies(replica.store, replica.clock)
    explaining = ExplainingService(replica.store, governing, rules=replica.rules, floors=Floors())

    async def answers() -> set[tuple[bool, DecisionReason]]:
        found = [each.explanation for table in tables for each in await explaining.explain(table.name)]
        return {(each.would_run, each.reason) for each in found if each is not None}

    await replica.work()
    assert await answers() == {(True, DecisionReason.NO_CONDITIONS)}
    await replica.pass_time(MINUTE)
    assert await answers() == {(False, DecisionReason.OVERLAP), (False, DecisionReason.BUDGET)}


async def test_an_explanation_shows_no_slot_of_a_policy_that_was_deleted_and_created_anew(replica: Replica) -> None:
    policy = replica.policy(**_hourly())
    (table,) = await replica.register(policy)
    await replica.work()
    governing = GoverningPolicies(replica.store, replica.clock)
    explaining = ExplainingService(replica.store, governing, rules=replica.rules, floors=Floors())

    async def next_slots() -> list[datetime | None]:
        return [one.explanation.next_slot for one in await explaining.explain(table.name) if one.explanation]

    assert await next_slots() == [at(13)]
    replica.clock.advance(MINUTE)
    await replica.store.policies.delete(policy.name, etag=None)
    await replica.store.policies.create(replica.policy(**EVERY_MINUTE))
    assert await next_slots() == [None], "the table is not matched with it yet"


async def test_what_is_triggered_by_hand_counts_against_the_budget_and_is_not_refused(replica: Replica) -> None:
    budget: dict[str, Any] = {"budget": {"perHour": {"operations": 2}}}
    tables = await replica.register(replica.policy(**_hourly(**budget)), tables=3)
    await replica.work()
    replica.clock.advance(HOUR - MINUTE)
    observing = ObservingService(replica.store, replica.clock)
    governing = GoverningPolicies(replica.store, replica.clock)
    explaining = ExplainingService(replica.store, governing, rules=SchedulingRules(), floors=Floors())
    triggering = TriggeringService(replica.store, observing, explaining, floors=Floors())
    for _ in range(2):
        await triggering.queue(await triggering.plan(tables[:1], Wanted(by="local:test")))
    replica.clock.advance(MINUTE)
    await replica.work()
    assert Counter(one.reason for one in await replica.decisions()) == {"overlap": 1, "budget": 2}


async def test_many_policies_that_change_one_after_the_other_are_not_all_read_for_each(
    replica: Replica, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that takes a second is followed by nine in which the leader, and all calls beside it, go on."""
    read = type(replica.store.policies).enabled
    readings = 0

    async def slow(policies: Any) -> Any:
        nonlocal readings
        readings += 1
        clock.advance(SECOND)
        return await read(policies)

    monkeypatch.setattr(type(replica.store.policies), "enabled", slow)
    await replica.register(replica.policy(**EVERY_MINUTE))
    await replica.work()
    assert readings == 1
    for number in range(5):
        await replica.store.policies.create(replica.policy(f"more{number}", priority=number, **EVERY_MINUTE))
        pause = await replica.work()
        assert readings == 1
        assert pause <= 9 * SECOND, "it comes back to them by itself"
    clock.advance(9 * SECOND)
    await replica.work()
    assert readings == 2
    (facts,) = await replica.store.scheduling.facts(replica.table().name)
    assert facts.target.policy == "more4"


async def test_schedules_can_be_turned_off_and_are_kept(store: Store, clock: ManualClock) -> None:
    off = Replica(store, clock, enabled=False)
    (table,) = await off.register(off.policy(**EVERY_MINUTE))
    await off.work()
    await off.pass_time(10 * MINUTE, every=MINUTE)

    assert not await off.decisions()
    (facts,) = await store.scheduling.facts(table.name)
    assert facts.target.slot == at(12, 1)
    on = Replica(store, clock, name="r2")
    clock.advance(MINUTE)
    await on.work()
    assert [one.slots for one in await on.decisions()] == [10, 1]


async def test_a_target_that_cannot_be_decided_holds_up_no_other(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = await replica.register(replica.policy(**EVERY_MINUTE), tables=2)

    def broken(facts: SlotFacts, *arguments: Any, **more: Any) -> Judgement:
        if facts.table.name == tables[0].name:
            raise ZeroDivisionError
        return decide(facts, *arguments, **more)

    monkeypatch.setattr("control_plane.services.scheduling.decide", broken)
    await replica.work()
    replica.clock.advance(MINUTE)
    await replica.work()
    assert [one.table for one in await replica.decisions()] == [tables[1].name]
    monkeypatch.undo()
    replica.clock.advance(MINUTE)
    await replica.work()
    # Its slot stayed: it is recorded with the one that was decided in its place.
    assert {one.slot for one in await replica.decisions(table=tables[0].name)} == {at(12, 1), at(12, 2)}


async def test_only_tables_that_a_policy_may_touch_are_matched_anew(replica: Replica) -> None:
    tables = await replica.register(tables=3)
    await replica.work()
    await replica.store.policies.create(replica.policy(tablePattern="lake.sales.t1", **EVERY_MINUTE))
    await replica.work()
    governed = [bool(await replica.store.scheduling.facts(table.name)) for table in tables]
    assert governed == [False, True, False]
    assert (await replica.store.scheduling.counts())["unresolved"] == 0


async def test_each_type_has_the_schedule_of_the_policy_that_governs_it(replica: Replica) -> None:
    expiry: dict[str, Any] = {
        "expireSnapshots": {},
        "expireSnapshotsSchedule": {"interval": "P1D"},
        "rewriteDataFiles": None,
    }
    (table,) = await replica.register(replica.policy(**EVERY_MINUTE), replica.policy("expiry", **expiry))
    await replica.work()
    facts = await replica.store.scheduling.facts(table.name)
    assert [(one.target.type, one.target.policy) for one in facts] == [
        (OperationType.REWRITE_DATA_FILES, "nightly"),
        (OperationType.EXPIRE_SNAPSHOTS, "expiry"),
    ]


def _hourly(**more: Any) -> dict[str, Any]:
    return {"rewriteDataFilesSchedule": {"cronExpression": "0 * * * *"}, **more}
