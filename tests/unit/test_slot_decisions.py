from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.catalog import TableState
from control_plane.domain.charges import BudgetState, estimate
from control_plane.domain.identifiers import OperationId, OperationType
from control_plane.domain.scheduling import (
    NO_OUTCOMES,
    Charge,
    DecisionReason,
    Outcomes,
    PolicyMode,
    SlotVerdict,
    Spent,
)
from tests.support.deciding import (
    DAY,
    EVERY_SIX_HOURS,
    HOUR,
    MINUTE,
    NOON,
    OPERATION,
    Case,
    report,
    succeeded,
)

R, V = DecisionReason, SlotVerdict
OTHER = OperationId("0197-open")
BACKED_OFF = Outcomes(last_finish_time=NOON, last_failure_time=NOON, consecutive_failures=3, finished=3, failed=3)
MET, NOT_MET, UNKNOWN = {"smallFileCountAbove": 5}, {"smallFileCountAbove": 5_000}, {"totalFileSizeAboveBytes": 1}
IDLE = succeeded(NOON - HOUR, unchanged=5)
PER_PASS, PER_HOUR = {"perPass": {"operations": 1}}, {"perHour": {"operations": 1}}
ONE_SPENT = Spent(tables=1, operations=1, bytes=1, engine_seconds=1)
SPENT = BudgetState(this_pass=ONE_SPENT, this_hour=ONE_SPENT)

VERDICTS: list[tuple[str, Case, SlotVerdict, DecisionReason]] = [
    ("nothing in the way", Case(), V.FIRED, R.NO_CONDITIONS),
    ("conditions met", Case(conditions=MET), V.FIRED, R.CONDITIONS_MET),
    (
        "forced",
        Case(conditions=NOT_MET | {"criticalPipeline": True, "criticalPipelineMaxDelayMinutes": 1}),
        V.FIRED,
        R.CRITICAL_DELAY,
    ),
    ("shadow", Case(mode=PolicyMode.SHADOW), V.FIRED, R.SHADOW),
    ("shadow, not met", Case(mode=PolicyMode.SHADOW, conditions=NOT_MET), V.SKIPPED, R.CONDITIONS_NOT_MET),
    ("the table is missing", Case(state=TableState.MISSING), V.SKIPPED, R.TABLE_GONE),
    ("the table was replaced", Case(state=TableState.REPLACED), V.SKIPPED, R.TABLE_GONE),
    ("an operation is open", Case(open_operation=OTHER), V.SKIPPED, R.OVERLAP),
    ("it backs off", Case(outcomes=BACKED_OFF), V.DEFERRED, R.BACK_OFF),
    (
        "too soon",
        Case(conditions={"minIntervalMinutes": 90}, outcomes=succeeded(NOON - HOUR)),
        V.DEFERRED,
        R.MIN_INTERVAL,
    ),
    ("no report", Case(conditions=MET, health=None), V.DEFERRED, R.NO_HEALTH),
    ("conditions not met", Case(conditions=NOT_MET), V.SKIPPED, R.CONDITIONS_NOT_MET),
    ("conditions unknown", Case(conditions=UNKNOWN), V.SKIPPED, R.CONDITIONS_UNKNOWN),
    ("throttled", Case(outcomes=IDLE), V.SKIPPED, R.NO_CHANGE_THROTTLE),
    ("the pass's budget is spent", Case(budget=PER_PASS, spent=SPENT), V.DEFERRED, R.BUDGET),
    ("the hour's budget is spent", Case(budget=PER_HOUR, spent=SPENT), V.DEFERRED, R.BUDGET),
    ("the budget has room", Case(budget=PER_HOUR), V.FIRED, R.NO_CONDITIONS),
    # Each comes before the next.
    ("gone before overlap", Case(state=TableState.MISSING, open_operation=OTHER), V.SKIPPED, R.TABLE_GONE),
    ("overlap before back-off", Case(open_operation=OTHER, outcomes=BACKED_OFF), V.SKIPPED, R.OVERLAP),
    ("back-off before conditions", Case(outcomes=BACKED_OFF, conditions=NOT_MET), V.DEFERRED, R.BACK_OFF),
    ("back-off before no report", Case(outcomes=BACKED_OFF, conditions=MET, health=None), V.DEFERRED, R.BACK_OFF),
    (
        "interval before no report",
        Case(conditions=MET | {"minIntervalMinutes": 90}, outcomes=succeeded(NOON - HOUR), health=None),
        V.DEFERRED,
        R.MIN_INTERVAL,
    ),
    ("conditions before throttle", Case(conditions=NOT_MET, outcomes=IDLE), V.SKIPPED, R.CONDITIONS_NOT_MET),
    ("throttle before budget", Case(outcomes=IDLE, budget=PER_HOUR, spent=SPENT), V.SKIPPED, R.NO_CHANGE_THROTTLE),
    (
        "budgets bind forced runs",
        Case(conditions={"criticalPipeline": True, "criticalPipelineMaxDelayMinutes": 1}, budget=PER_HOUR, spent=SPENT),
        V.DEFERRED,
        R.BUDGET,
    ),
]


@pytest.mark.parametrize(
    ("case", "verdict", "reason"), [row[1:] for row in VERDICTS], ids=[f"§8 Order: {row[0]}" for row in VERDICTS]
)
def test_the_first_that_is_in_the_way_decides(case: Case, verdict: SlotVerdict, reason: DecisionReason) -> None:
    found = case.decided()

    assert (found.verdict, found.reason) == (verdict, reason)
    (decision,) = found.decisions
    assert (decision.verdict, decision.reason, decision.slot, decision.term) == (verdict, reason, NOON, 7)
    assert found.fires is (verdict is V.FIRED and case.mode is PolicyMode.ACTIVE)
    assert decision.operation == {True: OPERATION, False: OTHER if reason is R.OVERLAP else None}[found.fires]
    assert found.target.deferred is (verdict is V.DEFERRED)


@pytest.mark.parametrize(
    ("case", "verdict", "reason"), [row[1:] for row in VERDICTS], ids=[f"§8 Explain: {row[0]}" for row in VERDICTS]
)
def test_an_explanation_says_what_would_be_decided(case: Case, verdict: SlotVerdict, reason: DecisionReason) -> None:
    decided, explained = case.decided(), case.explained()

    assert (explained.verdict, explained.reason) == (verdict, reason)
    # The same finding, told of a slot that is only supposed to be due.
    assert explained.text.partition(": ")[2] == decided.text.partition(": ")[2]
    assert explained.text.startswith("would ")
    assert explained.would_run is decided.fires
    assert list(explained.steps)[: len(decided.steps)] == list(decided.steps)
    assert (explained.next_slot, explained.slot_text) == (NOON, "2026-06-01 12:00:00 UTC")


def test_an_explanation_names_all_that_is_in_the_way() -> None:
    found = Case(
        open_operation=OTHER,
        outcomes=replace(BACKED_OFF, last_success_time=NOON),
        conditions=MET | {"minIntervalMinutes": 90},
    ).explained()

    assert found.blockers == [R.OVERLAP, R.BACK_OFF, R.MIN_INTERVAL]
    assert found.next_eligible == NOON + 6 * HOUR
    assert not found.would_run


def test_an_operation_without_a_schedule_is_explained_all_the_same() -> None:
    found = Case(schedule=None, slot=None, conditions=MET).explained()

    assert (found.would_run, found.next_slot, found.slot_text) == (True, None, "")


NEXT: list[tuple[str, Case, datetime | None, datetime | None, OperationId | None]] = [
    ("cron, fired", Case(), NOON + HOUR, NOON + HOUR, None),
    ("cron, fired late", Case(now=NOON + HOUR / 2), NOON + HOUR, NOON + HOUR, None),
    ("cron, skipped", Case(conditions=NOT_MET), NOON + HOUR, NOON + HOUR, None),
    ("cron, shadow", Case(mode=PolicyMode.SHADOW), NOON + HOUR, NOON + HOUR, None),
    ("interval, fired: its end counts", Case(schedule=EVERY_SIX_HOURS), None, None, OPERATION),
    (
        "interval, skipped: the decision counts",
        Case(schedule=EVERY_SIX_HOURS, conditions=NOT_MET, now=NOON + MINUTE),
        NOON + MINUTE + 6 * HOUR,
        NOON + MINUTE + 6 * HOUR,
        None,
    ),
    (
        "interval, overlap: the decision counts",
        Case(schedule=EVERY_SIX_HOURS, open_operation=OTHER),
        NOON + 6 * HOUR,
        NOON + 6 * HOUR,
        None,
    ),
    (
        "interval, shadow: the decision counts",
        Case(schedule=EVERY_SIX_HOURS, mode=PolicyMode.SHADOW),
        NOON + 6 * HOUR,
        NOON + 6 * HOUR,
        None,
    ),
    (
        "interval, its operation ended an hour ago",
        Case(schedule=EVERY_SIX_HOURS, slot=None, awaiting=OTHER, outcomes=succeeded(NOON - HOUR)),
        NOON + 5 * HOUR,
        NOON + 5 * HOUR,
        None,
    ),
    (
        "interval, its operation is still open",
        Case(schedule=EVERY_SIX_HOURS, slot=None, awaiting=OTHER, open_operation=OTHER),
        None,
        None,
        OTHER,
    ),
    ("no slot yet", Case(slot=None), NOON + HOUR, NOON + HOUR, None),
    ("no schedule any more", Case(schedule=None), None, None, None),
    ("switched off", Case(schedule={"interval": "PT6H", "enabled": False}), None, None, None),
]


@pytest.mark.parametrize(
    ("case", "slot", "due", "awaiting"), [row[1:] for row in NEXT], ids=[f"§8 The next slot: {row[0]}" for row in NEXT]
)
def test_the_target_moves_on(
    case: Case, slot: datetime | None, due: datetime | None, awaiting: OperationId | None
) -> None:
    after = case.decided().target

    assert (after.slot, after.due, after.awaiting, after.deferred) == (slot, due, awaiting, False)


def test_a_target_without_a_slot_decides_nothing() -> None:
    found = Case(slot=None).decided()

    assert (found.verdict, found.decisions) == (None, ())


def test_a_slot_whose_schedule_is_gone_is_skipped_and_told() -> None:
    found = Case(schedule=None).decided()

    assert (found.verdict, found.reason) == (V.SKIPPED, R.POLICY_CHANGED)
    assert found.decisions[0].slot == NOON


TOO_SOON = {"minIntervalMinutes": 90}
DEFERRED: list[tuple[str, Case, datetime]] = [
    ("until the interval is over", Case(conditions=TOO_SOON, outcomes=succeeded(NOON - HOUR)), NOON + HOUR / 2),
    ("no longer than the next slot", Case(conditions=TOO_SOON, outcomes=succeeded(NOON)), NOON + HOUR),
    ("a report for 15 minutes", Case(conditions=MET, health=None), NOON + 15 * MINUTE),
    ("a report for 15 minutes, late", Case(conditions=MET, health=None, now=NOON + HOUR / 2), NOON + 45 * MINUTE),
    (
        "a report no longer than the next slot",
        Case(conditions=MET, health=None, schedule={"cronExpression": "*/10 * * * *"}),
        NOON + 10 * MINUTE,
    ),
    (
        "a report no longer than the window",
        Case(
            conditions=MET,
            health=None,
            schedule={"cronExpression": "0 12 * * *", "windowStart": "11:00", "windowEnd": "12:05"},
        ),
        NOON + 5 * MINUTE,
    ),
    (
        "no longer than the critical deadline",
        Case(
            conditions=TOO_SOON | {"criticalPipeline": True, "criticalPipelineMaxDelayMinutes": 70},
            outcomes=succeeded(NOON - HOUR),
        ),
        NOON + 10 * MINUTE,
    ),
    (
        "the back-off",
        Case(schedule={"cronExpression": "0 0 * * *"}, slot=NOON - 12 * HOUR, outcomes=BACKED_OFF),
        NOON + 6 * HOUR,
    ),
    ("the budget, a minute", Case(budget=PER_HOUR, spent=SPENT), NOON + MINUTE),
]


@pytest.mark.parametrize(
    ("case", "due"), [row[1:] for row in DEFERRED], ids=[f"§8 DEFERRED waits: {row[0]}" for row in DEFERRED]
)
def test_a_slot_that_waits_is_looked_at_again(case: Case, due: datetime) -> None:
    found = case.decided()

    assert found.verdict is V.DEFERRED
    assert (found.target.slot, found.target.due, found.target.deferred) == (case.slot, due, True)


ENDS: list[tuple[str, Case, datetime, dict[str, Any], SlotVerdict, DecisionReason]] = [
    (
        "a report comes",
        Case(conditions=MET, health=None),
        NOON + MINUTE,
        {"health": report(NOON + MINUTE)},
        V.FIRED,
        R.CONDITIONS_MET,
    ),
    (
        "a report comes and says no",
        Case(conditions=NOT_MET, health=None),
        NOON + MINUTE,
        {"health": report(NOON + MINUTE)},
        V.SKIPPED,
        R.CONDITIONS_NOT_MET,
    ),
    ("no report within 15 minutes", Case(conditions=MET, health=None), NOON + 15 * MINUTE, {}, V.SKIPPED, R.NO_HEALTH),
    ("no report yet", Case(conditions=MET, health=None), NOON + 14 * MINUTE, {}, V.DEFERRED, R.NO_HEALTH),
    (
        "no report 15 minutes after a late decision",
        Case(conditions=MET, health=None, now=NOON + HOUR / 2),
        NOON + 45 * MINUTE,
        {},
        V.SKIPPED,
        R.NO_HEALTH,
    ),
    (
        "a report is waited for from when the interval is over",
        Case(conditions=MET | TOO_SOON, outcomes=succeeded(NOON - HOUR), health=report(NOON - HOUR / 2)),
        NOON + HOUR / 2,
        {"health": None},
        V.DEFERRED,
        R.NO_HEALTH,
    ),
    (
        "a report that grew too old while the budget was spent is waited for",
        Case(conditions=MET, budget=PER_HOUR, spent=SPENT, health=report(NOON - 50 * MINUTE)),
        NOON + 20 * MINUTE,
        {"spent": BudgetState()},
        V.DEFERRED,
        R.NO_HEALTH,
    ),
    (
        "a report is waited for from when the catalog was listed",
        Case(conditions=MET, health=None, catalog_moved=True),
        NOON + 20 * MINUTE,
        {"catalog_moved": False},
        V.DEFERRED,
        R.NO_HEALTH,
    ),
    (
        "the catalog is not listed before the next slot",
        Case(conditions=MET, health=None, catalog_moved=True),
        NOON + HOUR - MINUTE / 60,
        {},
        V.DEFERRED,
        R.CATALOG_MOVED,
    ),
    (
        "the interval is over",
        Case(conditions=TOO_SOON, outcomes=succeeded(NOON - HOUR)),
        NOON + HOUR / 2,
        {},
        V.FIRED,
        R.CONDITIONS_MET,
    ),
    (
        "its window closes",
        Case(
            conditions=TOO_SOON,
            outcomes=succeeded(NOON - HOUR),
            schedule={"cronExpression": "0 12 * * *", "windowStart": "11:00", "windowEnd": "12:20"},
        ),
        NOON + 20 * MINUTE,
        {},
        V.SKIPPED,
        R.MIN_INTERVAL,
    ),
    (
        "the budget has room again",
        Case(budget=PER_HOUR, spent=SPENT),
        NOON + MINUTE,
        {"spent": BudgetState()},
        V.FIRED,
        R.NO_CONDITIONS,
    ),
    (
        "the operation that was not there is",
        Case(budget=PER_HOUR, spent=SPENT),
        NOON + MINUTE,
        {"open_operation": OTHER},
        V.SKIPPED,
        R.OVERLAP,
    ),
]


@pytest.mark.parametrize(
    ("case", "then", "changes", "verdict", "reason"),
    [row[1:] for row in ENDS],
    ids=[f"§8 DEFERRED ends: {row[0]}" for row in ENDS],
)
def test_a_slot_that_waits_is_decided_again(
    case: Case,
    then: datetime,
    changes: dict[str, Any],
    verdict: SlotVerdict,
    reason: DecisionReason,
) -> None:
    first = case.decided()
    again = case.later(first, then, **changes).decided()

    assert first.verdict is V.DEFERRED
    assert (again.verdict, again.reason) == (verdict, reason)
    assert [decision.id for decision in again.decisions] == [decision.id for decision in first.decisions], "one row"


def test_a_slot_that_waited_until_the_next_came_is_skipped_for_what_it_waited_for() -> None:
    case = Case(budget=PER_HOUR, spent=SPENT)
    first = case.decided()
    again = case.later(first, NOON + HOUR).decided()

    ended, current = again.decisions
    assert (ended.id, ended.verdict, ended.reason) == (first.decisions[0].id, V.SKIPPED, R.BUDGET)
    assert (current.slot, current.verdict, current.reason) == (NOON + HOUR, V.DEFERRED, R.BUDGET)


def test_a_slot_that_could_run_only_when_the_next_came_gives_way_to_it() -> None:
    case = Case(budget=PER_HOUR, spent=SPENT)
    again = case.later(case.decided(), NOON + HOUR, spent=BudgetState()).decided()

    ended, current = again.decisions
    assert (ended.slot, ended.verdict, ended.reason) == (NOON, V.SKIPPED, R.CATCH_UP)
    assert (current.slot, current.verdict) == (NOON + HOUR, V.FIRED)


MISSED: list[tuple[str, Case, list[tuple[datetime, datetime | None, int, SlotVerdict]]]] = [
    ("none", Case(now=NOON + 59 * MINUTE), [(NOON, None, 1, V.FIRED)]),
    (
        "one",
        Case(now=NOON + HOUR),
        [(NOON, NOON, 1, V.SKIPPED), (NOON + HOUR, None, 1, V.FIRED)],
    ),
    (
        "a day",
        Case(now=NOON + DAY + MINUTE),
        [(NOON, NOON + 23 * HOUR, 24, V.SKIPPED), (NOON + DAY, None, 1, V.FIRED)],
    ),
    (
        "a day after a slot that waited",
        Case(now=NOON + DAY + MINUTE, deferred=True),
        [
            (NOON, None, 1, V.SKIPPED),
            (NOON + HOUR, NOON + 23 * HOUR, 23, V.SKIPPED),
            (NOON + DAY, None, 1, V.FIRED),
        ],
    ),
    (
        "one after a slot that waited",
        Case(now=NOON + HOUR, deferred=True),
        [(NOON, None, 1, V.SKIPPED), (NOON + HOUR, None, 1, V.FIRED)],
    ),
    (
        "a day of an interval: there is only one slot",
        Case(now=NOON + DAY, schedule=EVERY_SIX_HOURS),
        [(NOON, None, 1, V.FIRED)],
    ),
    (
        "every second for a year",
        Case(now=NOON + 365 * DAY, schedule={"cronExpression": "* * * * * *"}),
        [
            (NOON, NOON + 365 * DAY - timedelta(seconds=1), 9_999, V.SKIPPED),
            (NOON + 365 * DAY, None, 1, V.FIRED),
        ],
    ),
    (
        "a night whose window is closed again",
        Case(
            now=NOON + 2 * HOUR, schedule={"cronExpression": "0 12 * * *", "windowStart": "11:00", "windowEnd": "13:00"}
        ),
        [(NOON, None, 1, V.SKIPPED)],
    ),
]


@pytest.mark.parametrize(
    ("case", "rows"), [row[1:] for row in MISSED], ids=[f"§8 Missed slots: {row[0]}" for row in MISSED]
)
def test_of_missed_slots_the_last_is_decided_and_the_others_are_told(
    case: Case, rows: list[tuple[datetime, datetime | None, int, SlotVerdict]]
) -> None:
    found = case.decided()

    assert [(d.slot, d.last_slot, d.slots, d.verdict) for d in found.decisions] == rows
    assert all(d.reason is R.CATCH_UP for d in found.decisions if d.verdict is V.SKIPPED)
    assert found.target.slot is None or found.target.slot > case.now


def test_an_interval_whose_window_closed_waits_for_the_next_opening_and_no_longer() -> None:
    night = {"interval": "P7D", "windowStart": "11:00", "windowEnd": "13:00"}

    found = Case(schedule=night, now=NOON + 2 * HOUR).decided()

    assert (found.verdict, found.reason) == (V.SKIPPED, R.CATCH_UP)
    assert found.target.slot == NOON + 23 * HOUR


WINDOW = {"cronExpression": "0 12 * * *", "windowStart": "11:00", "windowEnd": "13:00"}


@pytest.mark.parametrize(
    ("written", "cancel_at"),
    [(WINDOW, None), (WINDOW | {"atWindowEnd": "FINISH"}, None), (WINDOW | {"atWindowEnd": "CANCEL"}, NOON + HOUR)],
    ids=["§4 The end of a window: default", "§4 The end of a window: FINISH", "§4 The end of a window: CANCEL"],
)
def test_what_runs_at_the_end_of_its_window_is_cancelled_if_the_policy_says_so(
    written: dict[str, Any], cancel_at: datetime | None
) -> None:
    assert Case(schedule=written).decided().cancel_at == cancel_at


SENTENCES: list[tuple[str, Case, str]] = [
    (
        "forced",
        Case(conditions={"criticalPipeline": True, "criticalPipelineMaxDelayMinutes": 90}),
        "fired: a critical pipeline waits no longer than 1 h 30 min for a success",
    ),
    (
        "back-off",
        Case(outcomes=BACKED_OFF, now=NOON + MINUTE),
        "waits: it failed 3 times in a row, last 1 min ago; it may try again in 5 h 59 min",
    ),
    ("no conditions", Case(), "fired: no condition gates REWRITE_DATA_FILES"),
    ("shadow", Case(mode=PolicyMode.SHADOW), "would have fired: no condition gates REWRITE_DATA_FILES"),
    (
        "not met",
        Case(conditions={"smallFilePercentageAbove": 70}),
        "skipped: 63.2 % of the data files are small, the policy asks for at least 70 %",
    ),
    (
        "met",
        Case(conditions={"smallFilePercentageAbove": 20}),
        "fired: 63.2 % of the data files are small, the policy asks for at least 20 %",
    ),
    (
        "overlap",
        Case(open_operation=OTHER),
        "skipped: operation 0197-open of the same type on this table is not finished",
    ),
    (
        "no report",
        Case(conditions=MET, health=None),
        "waits: the table was not inspected yet; an inspection is asked for",
    ),
    (
        "budget",
        Case(budget=PER_HOUR, spent=SPENT),
        "waits: the budget is spent: perHour.operations 1: 1 spent, it needs 1",
    ),
]


@pytest.mark.parametrize(
    ("case", "text"), [row[1:] for row in SENTENCES], ids=[f"§8 In words: {row[0]}" for row in SENTENCES]
)
def test_a_decision_is_a_sentence(case: Case, text: str) -> None:
    assert case.decided().text == text


BUDGETS: list[tuple[str, dict[str, Any], BudgetState, bool]] = [
    ("none", {}, SPENT, True),
    ("0 is unlimited", {"perHour": {"operations": 0, "tables": 0, "bytes": 0, "engineSeconds": 0}}, SPENT, True),
    ("tables", {"perHour": {"tables": 1}}, SPENT, False),
    ("tables, this one counts already", {"perHour": {"tables": 1}}, replace(SPENT, table_counted_in_hour=True), True),
    ("tables of a pass, counted", {"perPass": {"tables": 1}}, replace(SPENT, table_counted_in_pass=True), True),
    ("operations", {"perHour": {"operations": 1}}, SPENT, False),
    ("operations, one more fits", {"perHour": {"operations": 2}}, SPENT, True),
    ("bytes fit exactly", {"perHour": {"bytes": 11}}, replace(SPENT, estimate=Charge(10, 1)), True),
    ("bytes do not fit", {"perHour": {"bytes": 10}}, replace(SPENT, estimate=Charge(10, 1)), False),
    ("engine seconds fit exactly", {"perHour": {"engineSeconds": 2}}, replace(SPENT, estimate=Charge(0, 1)), True),
    ("engine seconds do not fit", {"perHour": {"engineSeconds": 2}}, replace(SPENT, estimate=Charge(0, 1.5)), False),
    ("more than all of it, alone", {"perHour": {"bytes": 10}}, BudgetState(estimate=Charge(99, 99)), True),
    ("a pass", {"perPass": {"operations": 1}}, SPENT, False),
    ("a pass has room, the hour not", {"perPass": {"operations": 5}, "perHour": {"operations": 1}}, SPENT, False),
]


@pytest.mark.parametrize(
    ("budget", "spent", "room"), [row[1:] for row in BUDGETS], ids=[f"§7 Budgets: {row[0]}" for row in BUDGETS]
)
def test_a_budget_has_room_or_makes_wait(budget: dict[str, Any], spent: BudgetState, room: bool) -> None:
    found = Case(budget=budget, spent=spent).decided()

    assert found.verdict is (V.FIRED if room else V.DEFERRED)


QUEUES: list[tuple[str, timedelta, timedelta | None, SlotVerdict]] = [
    ("nobody waits", timedelta(), None, V.FIRED),
    ("another ranks before it", timedelta(), -HOUR, V.DEFERRED),
    ("it waits longer than another", 2 * HOUR, -HOUR, V.FIRED),
    ("another ranks after it", timedelta(), 8 * HOUR, V.FIRED),
]


@pytest.mark.parametrize(
    ("waited", "other", "verdict"),
    [row[1:] for row in QUEUES],
    ids=[f"§7 Budgets, the queue: {row[0]}" for row in QUEUES],
)
def test_a_budget_goes_to_the_first_in_its_queue(
    waited: timedelta, other: timedelta | None, verdict: SlotVerdict
) -> None:
    """Nothing is known of the table: its place is six hours after it came due."""
    place = NOON + 6 * HOUR + other if other is not None else None
    since = NOON - waited if waited else None
    case = Case(budget=PER_HOUR, spent=BudgetState(first_waiting=place), waiting_since=since, health=None)

    found = case.decided()

    assert found.verdict is verdict
    if verdict is V.DEFERRED:
        assert found.target.waiting_since == NOON
        assert found.target.place == NOON + 6 * HOUR
        assert found.next_eligible == NOON + 5 * MINUTE


def test_a_slot_keeps_its_age_in_the_queue_over_slots_and_while_its_report_is_too_old() -> None:
    case = Case(budget=PER_HOUR, spent=SPENT, health=None)
    first = case.decided()
    second = case.later(first, NOON + HOUR).decided()
    unknown = case.later(second, NOON + HOUR + MINUTE, conditions=MET).decided()
    fired = case.later(unknown, NOON + HOUR + 2 * MINUTE, conditions=None, spent=BudgetState()).decided()

    assert (second.target.slot, second.target.waiting_since) == (NOON + HOUR, NOON)
    assert second.target.place == first.target.place == NOON + 6 * HOUR
    assert (unknown.reason, unknown.target.waiting_since, unknown.target.place) == (R.NO_HEALTH, NOON, None)
    assert (fired.verdict, fired.place) == (V.FIRED, NOON + 6 * HOUR)
    assert (fired.target.waiting_since, fired.target.place) == (None, None)


def test_what_is_not_wanted_any_more_leaves_the_queue() -> None:
    case = Case(budget=PER_HOUR, spent=SPENT)
    again = case.later(case.decided(), NOON + MINUTE, conditions={"smallFileCountAbove": 10_000}).decided()

    assert (again.reason, again.target.waiting_since, again.target.place) == (R.CONDITIONS_NOT_MET, None, None)


T = OperationType
USED_TO = Outcomes(mean_bytes=1_000_000_000, mean_seconds=100)
ESTIMATES: list[tuple[str, OperationType, dict[str, float], Outcomes, Charge]] = [
    (
        "reducible bytes",
        T.REWRITE_DATA_FILES,
        {"reducible_bytes": 500_000_000, "total_bytes": 10**12},
        NO_OUTCOMES,
        Charge(500_000_000, 40),
    ),
    (
        "all bytes, for want of better",
        T.REWRITE_DATA_FILES,
        {"total_bytes": 1_000_000_000},
        NO_OUTCOMES,
        Charge(10**9, 50),
    ),
    ("as before, for want of a figure", T.REWRITE_DATA_FILES, {}, USED_TO, Charge(10**9, 100)),
    (
        "half as much takes half as long",
        T.REWRITE_DATA_FILES,
        {"reducible_bytes": 500_000_000},
        USED_TO,
        Charge(500_000_000, 50),
    ),
    (
        "never more than ten times as long",
        T.REWRITE_DATA_FILES,
        {"reducible_bytes": 10**12},
        USED_TO,
        Charge(10**12, 1_000),
    ),
    ("delete files", T.REWRITE_POSITION_DELETES, {"delete_bytes": 50_000_000}, NO_OUTCOMES, Charge(50_000_000, 31)),
    ("manifests", T.REWRITE_MANIFESTS, {"manifest_bytes": 50_000_000}, NO_OUTCOMES, Charge(50_000_000, 31)),
    ("an expiry rewrites nothing", T.EXPIRE_SNAPSHOTS, {"total_bytes": 10**12}, NO_OUTCOMES, Charge(0, 30)),
    (
        "an expiry takes as long as before",
        T.EXPIRE_SNAPSHOTS,
        {},
        Outcomes(mean_bytes=0, mean_seconds=12),
        Charge(0, 12),
    ),
    ("nothing is known", T.REWRITE_DATA_FILES, {}, NO_OUTCOMES, Charge(0, 30)),
]


@pytest.mark.parametrize(
    ("kind", "measured", "history", "expected"),
    [row[1:] for row in ESTIMATES],
    ids=[f"§7 Budgets, the estimate: {row[0]}" for row in ESTIMATES],
)
def test_what_an_operation_will_cost_is_estimated(
    kind: OperationType, measured: dict[str, float], history: Outcomes, expected: Charge
) -> None:
    assert estimate(kind, report(NOON, "v1", **measured), history) == expected
    assert estimate(kind, None, USED_TO).engine_seconds > 0


def test_deciding_does_not_depend_on_anything_but_its_input() -> None:
    case = Case(conditions=MET, health=None)

    assert case.decided() == case.decided()


@given(
    minutes=st.integers(0, 60 * 24 * 40),
    cron=st.sampled_from(["*/7 * * * *", "0 * * * *", "30 2 * * *", "0 23 1 * *", "0 2 1 2 *"]),
    deferred=st.booleans(),
    conditions=st.sampled_from([None, MET, NOT_MET, UNKNOWN, TOO_SOON]),
    window=st.sampled_from([{}, {"windowStart": "22:00", "windowEnd": "04:00"}, {"allowedDays": ["MONDAY", "FRIDAY"]}]),
    with_report=st.booleans(),
)
def test_every_decision_moves_on_and_leaves_no_slot_out(
    minutes: int,
    cron: str,
    deferred: bool,
    conditions: dict[str, Any] | None,
    window: dict[str, Any],
    with_report: bool,
) -> None:
    start = Case(schedule={"cronExpression": cron} | window, slot=None).decided().target
    assert start.slot is not None
    now = start.slot + minutes * MINUTE
    case = Case(
        schedule={"cronExpression": cron} | window,
        conditions=conditions,
        slot=start.slot,
        now=now,
        deferred=deferred,
        health=report(now) if with_report else None,
        outcomes=succeeded(start.slot - HOUR),
    )

    found = case.decided()

    assert found.target.due is not None and found.target.due > now, "a decision makes progress"
    assert found.decisions[0].slot == start.slot
    for earlier, later in zip(found.decisions, found.decisions[1:], strict=False):
        assert (earlier.last_slot or earlier.slot) < later.slot, "no slot has two decisions"
    assert all(d.verdict is V.SKIPPED for d in found.decisions[:-1])
    if found.verdict is V.DEFERRED:
        assert found.target.slot == found.slot
    else:
        assert found.target.slot is not None and found.slot is not None and found.target.slot > found.slot
