from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.operation import FailureClass
from control_plane.domain.outcomes import back_off_hold, stretched_interval
from control_plane.domain.scheduling import DecisionReason, Outcomes, SlotVerdict
from control_plane.domain.scheduling_rules import SchedulingRules
from tests.support.deciding import DAY, HOUR, NOON, RULES, Case, report, succeeded

TICK = timedelta(microseconds=1)
CRITICAL = {"criticalPipeline": True, "criticalPipelineMaxDelayMinutes": 60}


def failures(
    count: int,
    ago: timedelta,
    *,
    kind: FailureClass = FailureClass.ENGINE,
    generation: int = 1,
    location: str = "v1",
) -> Outcomes:
    then = NOON - ago
    return Outcomes(
        last_finish_time=then,
        last_failure_time=then,
        last_metadata_location=location,
        last_failure_class=kind,
        last_failure_generation=generation,
        consecutive_failures=count,
        finished=count,
        failed=count,
    )


BACK_OFF: list[tuple[str, Outcomes, datetime | None]] = [
    ("never failed", Outcomes(), None),
    ("one failure", failures(1, TICK), None),
    ("two failures", failures(2, TICK), None),
    ("three failures just now", failures(3, timedelta()), NOON + 6 * HOUR),
    ("three failures an hour ago", failures(3, HOUR), NOON + 5 * HOUR),
    ("a moment before its end", failures(3, 6 * HOUR - TICK), NOON + TICK),
    ("exactly at its end: the probe", failures(3, 6 * HOUR), None),
    ("long over", failures(3, 60 * HOUR), None),
    ("the probe failed too", failures(4, HOUR), NOON + 5 * HOUR),
    ("many probes failed", failures(400, HOUR), NOON + 5 * HOUR),
    ("conflicts back off alike", failures(3, HOUR, kind=FailureClass.CONFLICT), NOON + 5 * HOUR),
    ("poison backs off alike", failures(3, HOUR, kind=FailureClass.POISON), NOON + 5 * HOUR),
]


@pytest.mark.parametrize(
    ("outcomes", "until"), [row[1:] for row in BACK_OFF], ids=[f"§7 Failure back-off: {row[0]}" for row in BACK_OFF]
)
def test_failures_in_a_row_back_off(outcomes: Outcomes, until: datetime | None) -> None:
    found = Case(outcomes=outcomes).decided()

    if until is None:
        assert found.verdict is SlotVerdict.FIRED
    else:
        assert (found.verdict, found.reason) == (SlotVerdict.DEFERRED, DecisionReason.BACK_OFF)
        assert found.next_eligible == until


INVALID: list[tuple[str, Case, bool]] = [
    ("nothing changed, the back-off is over", Case(outcomes=failures(3, 60 * HOUR, kind=FailureClass.INVALID)), True),
    ("two failures", Case(outcomes=failures(2, HOUR, kind=FailureClass.INVALID)), False),
    (
        "a new generation of the policy",
        Case(outcomes=failures(3, HOUR, kind=FailureClass.INVALID), generation=2),
        False,
    ),
    (
        "another policy of the same generation",
        Case(outcomes=failures(3, HOUR, kind=FailureClass.INVALID), since=NOON - HOUR / 2),
        False,
    ),
    (
        "the table changed within the back-off",
        Case(outcomes=failures(3, HOUR, kind=FailureClass.INVALID), metadata_location="v2"),
        True,
    ),
    (
        "the table changed, the back-off is over",
        Case(outcomes=failures(3, 6 * HOUR, kind=FailureClass.INVALID), metadata_location="v2"),
        False,
    ),
    (
        "a report shows that the table changed",
        Case(outcomes=failures(3, 6 * HOUR, kind=FailureClass.INVALID), health=report(location="v2")),
        False,
    ),
    (
        "a report from before the failure shows another table",
        Case(outcomes=failures(3, 6 * HOUR, kind=FailureClass.INVALID), health=report(NOON - DAY, "v0")),
        True,
    ),
    (
        "where it stood is not known",
        Case(outcomes=failures(3, 6 * HOUR, kind=FailureClass.INVALID, location="")),
        False,
    ),
    (
        "where it stands is not known",
        Case(outcomes=failures(3, 6 * HOUR, kind=FailureClass.INVALID), metadata_location="", health=None),
        True,
    ),
]


@pytest.mark.parametrize(
    ("case", "waits"), [row[1:] for row in INVALID], ids=[f"§7 Failure back-off: INVALID, {row[0]}" for row in INVALID]
)
def test_what_is_invalid_waits_for_a_change(case: Case, waits: bool) -> None:
    found = case.decided()

    assert (found.reason is DecisionReason.BACK_OFF) is waits
    assert (found.verdict is SlotVerdict.FIRED) is not waits


def test_a_wait_for_a_change_names_no_instant() -> None:
    found = Case(outcomes=failures(3, 60 * HOUR, kind=FailureClass.INVALID)).decided()

    assert found.next_eligible is None
    assert found.text == (
        "waits: it failed 3 times in a row, last 2 d 12 h ago, as INVALID: its policy or the table has to change first"
    )


def test_the_back_off_binds_forced_runs_too() -> None:
    overdue = replace(failures(3, HOUR), last_success_time=NOON - DAY)

    found = Case(conditions=CRITICAL, outcomes=overdue).decided()

    assert found.reason is DecisionReason.BACK_OFF


def test_a_probe_says_that_it_is_one() -> None:
    found = Case(outcomes=failures(3, 6 * HOUR)).decided()

    assert found.steps[0].text == "backOff: it failed 3 times in a row, last 6 h ago; 6 h have passed → one probe"


UNCHANGED: list[tuple[str, int, timedelta, timedelta]] = [
    ("none", 0, 10 * HOUR, 10 * HOUR),
    ("four", 4, 10 * HOUR, 10 * HOUR),
    ("five: half as long again", 5, 10 * HOUR, 15 * HOUR),
    ("six", 6, 10 * HOUR, 22.5 * HOUR),
    ("seven", 7, 10 * HOUR, 33.75 * HOUR),
    ("eight: four times, the most", 8, 10 * HOUR, 40 * HOUR),
    ("a thousand", 1_000, 10 * HOUR, 40 * HOUR),
    ("a million", 1_000_000, 10 * HOUR, 40 * HOUR),
    ("at least six hours", 5, HOUR, 6 * HOUR),
    ("at least six hours, at the most", 8, HOUR, 6 * HOUR),
    ("six hours are passed by", 8, 2 * HOUR, 8 * HOUR),
    ("of a week", 5, 7 * DAY, 10.5 * DAY),
]


@pytest.mark.parametrize(
    ("count", "interval", "expected"),
    [row[1:] for row in UNCHANGED],
    ids=[f"§7 No-change throttle: the interval after {row[0]}" for row in UNCHANGED],
)
def test_runs_that_change_nothing_stretch_the_interval(count: int, interval: timedelta, expected: timedelta) -> None:
    assert stretched_interval(count, interval, rules=RULES) == expected


def unchanged(count: int = 5, ago: timedelta = HOUR, location: str = "v1") -> Outcomes:
    return succeeded(NOON - ago, unchanged=count, location=location)


DAILY = {"cronExpression": "0 12 * * *"}
THROTTLED: list[tuple[str, Case, bool]] = [
    ("four times nothing", Case(outcomes=unchanged(4)), False),
    ("five times nothing", Case(outcomes=unchanged(5)), True),
    ("a moment before six hours", Case(outcomes=unchanged(5, 6 * HOUR - TICK)), True),
    ("after six hours", Case(outcomes=unchanged(5, 6 * HOUR)), False),
    ("a daily cron holds 36 hours", Case(schedule=DAILY, outcomes=unchanged(5, DAY)), True),
    ("a daily cron after 36 hours", Case(schedule=DAILY, outcomes=unchanged(5, 36 * HOUR)), False),
    ("an interval of six hours holds nine", Case(schedule={"interval": "PT6H"}, outcomes=unchanged(5, 8 * HOUR)), True),
    ("an interval after its nine", Case(schedule={"interval": "PT6H"}, outcomes=unchanged(5, 9 * HOUR)), False),
    ("a writer's commit that discovery saw", Case(outcomes=unchanged(), metadata_location="v2"), False),
    ("a writer's commit that a report shows", Case(outcomes=unchanged(), health=report(location="v2")), False),
    (
        "a report from before the last run shows none",
        Case(outcomes=unchanged(location="v2"), metadata_location="v2", health=report(NOON - DAY, "v1")),
        True,
    ),
    ("nobody knows where it stood", Case(outcomes=unchanged(location=""), metadata_location="v2"), True),
    ("nobody knows where it stands", Case(outcomes=unchanged(), metadata_location="", health=None), True),
    ("the policy changed since", Case(outcomes=unchanged(), since=NOON - HOUR / 2), False),
    (
        "its conditions were met all along",
        Case(outcomes=unchanged(), conditions={"smallFileCountAbove": 5}),
        True,
    ),
    (
        "its conditions are newly met, by age",
        Case(
            outcomes=unchanged(ago=2 * HOUR),
            conditions={"expression": "newestSnapshotAgeDays >= 1"},
            health=report(newest_snapshot_time_ms=(NOON - 25 * HOUR).timestamp() * 1000),
        ),
        False,
    ),
    (
        "its conditions were met by age at the last run",
        Case(
            outcomes=unchanged(ago=2 * HOUR),
            conditions={"expression": "newestSnapshotAgeDays >= 1"},
            health=report(newest_snapshot_time_ms=(NOON - 27 * HOUR).timestamp() * 1000),
        ),
        True,
    ),
    ("a critical deadline is over", Case(outcomes=unchanged(ago=2 * HOUR), conditions=CRITICAL), False),
    ("a critical deadline lies ahead", Case(outcomes=unchanged(ago=HOUR / 2), conditions=CRITICAL), True),
]


@pytest.mark.parametrize(
    ("case", "held"), [row[1:] for row in THROTTLED], ids=[f"§7 No-change throttle: {row[0]}" for row in THROTTLED]
)
def test_runs_that_change_nothing_are_throttled(case: Case, held: bool) -> None:
    found = case.decided()

    assert (found.reason is DecisionReason.NO_CHANGE_THROTTLE) is held
    assert found.verdict is (SlotVerdict.SKIPPED if held else SlotVerdict.FIRED)


def test_a_throttled_slot_says_when_the_throttle_ends_at_the_latest() -> None:
    assert Case(outcomes=unchanged(ago=HOUR)).decided().next_eligible == NOON + 5 * HOUR
    held = Case(outcomes=unchanged(ago=HOUR / 2), conditions=CRITICAL).decided()

    assert held.next_eligible == NOON + HOUR / 2
    assert held.text == ("skipped: 5 runs in a row changed nothing, so that 1 h stretch to 6 h")


@given(count=st.integers(0, 10**9), hours=st.integers(1, 24 * 365))
def test_more_of_nothing_never_shortens_the_interval(count: int, hours: int) -> None:
    interval = hours * HOUR
    shorter = stretched_interval(count, interval, rules=RULES)
    longer = stretched_interval(count + 1, interval, rules=RULES)

    assert shorter <= longer <= max(4 * interval, 6 * HOUR)


@given(failed=st.integers(0, 50), hours=st.integers(0, 48), kind=st.sampled_from(FailureClass))
def test_a_back_off_that_holds_now_held_before(failed: int, hours: int, kind: FailureClass) -> None:
    outcomes = failures(failed, timedelta(), kind=kind)
    facts = Case(outcomes=outcomes).facts

    def holds(at: datetime) -> bool:
        return back_off_hold(outcomes, facts.target, facts.table, now=at, rules=RULES).holds

    assert holds(NOON) or not holds(NOON + hours * HOUR)


@pytest.mark.parametrize(
    "wrong",
    [
        {"failures_before_back_off": 0},
        {"no_changes_before_throttle": 0},
        {"throttle_step": 0.5},
        {"throttle_step": 9.0},
        {"max_delay": timedelta()},
        {"budget_retry": timedelta()},
        {"debt_per_minute_at_half": 0.0},
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"are|needs"):
        SchedulingRules(**wrong)  # type: ignore[arg-type]  # of several types
