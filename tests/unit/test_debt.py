from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.debt import benefit_of, debt_of, virtual_deadline
from control_plane.domain.debt_weights import DebtWeights
from control_plane.domain.health import HealthMetrics, HealthReport, Metric, assess
from control_plane.domain.identifiers import OperationType
from control_plane.domain.scheduling import Charge, Outcomes
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.thresholds import DEFAULT
from tests.support.deciding import DAY, HOUR, NOON, RULES

T = OperationType
SOUND = {
    "data_file_count": 1_000.0,
    "small_file_count": 0.0,
    "delete_file_count": 0.0,
    "snapshot_count": 1.0,
    "manifest_count": 1.0,
}


def inspected(**measured: float) -> HealthReport:
    metrics = HealthMetrics.measured((name, Metric.exact(value)) for name, value in (SOUND | measured).items())
    return assess(metrics, DEFAULT, now=NOON)


def ended(finished: int, failed: int = 0, in_a_row: int = 0, ago: timedelta = HOUR) -> Outcomes:
    return Outcomes(
        finished=finished,
        failed=failed,
        consecutive_failures=in_a_row,
        last_failure_time=NOON - ago if failed else None,
        last_finish_time=NOON - ago,
    )


SNAPSHOTS = {"snapshot_count": 500.0}
STALE = {"newest_snapshot_time_ms": (NOON - 6 * DAY).timestamp() * 1000}
# What was measured, how operations ended, the score, and what ranks.
SCORES: list[tuple[str, dict[str, float], dict[OperationType, Outcomes], float, float]] = [
    ("a sound table", {}, {}, 0, 0),
    ("a warning is 50", {"snapshot_count": 100}, {}, 50, 50),
    ("a critical is 100", SNAPSHOTS, {}, 100, 100),
    ("an info is 10, and nothing reduces it", {"small_file_count": 900, "reducible_file_count": 0}, {}, 10, 0),
    ("an empty table is 10", {"data_file_count": 0}, {}, 10, 0),
    ("issues add up", {"snapshot_count": 100, "manifest_count": 500}, {}, 150, 150),
    ("half a point a day, and nothing reduces it", STALE, {}, 3, 0),
    ("partitions are no maintenance", {"partition_count": 10_000}, {}, 100, 0),
    ("a failure rate of 25 %", {}, {T.EXPIRE_SNAPSHOTS: ended(4, 1)}, 25, 0),
    ("the rate over all operations", {}, {T.EXPIRE_SNAPSHOTS: ended(4, 1), T.REWRITE_DATA_FILES: ended(6)}, 10, 0),
    ("two in a row are 40", {}, {T.EXPIRE_SNAPSHOTS: ended(10, 2, 2)}, 20 + 40, 0),
    ("the longest row counts", {}, {T.EXPIRE_SNAPSHOTS: ended(10, 2, 2), T.REWRITE_DATA_FILES: ended(10, 1, 1)}, 55, 0),
    ("failures show, and do not rank", SNAPSHOTS, {T.EXPIRE_SNAPSHOTS: ended(10, 2, 2)}, 160, 100),
    ("what backs off does not rank", SNAPSHOTS, {T.EXPIRE_SNAPSHOTS: ended(10, 3, 3)}, 190, 0),
    ("the probe ranks again", SNAPSHOTS, {T.EXPIRE_SNAPSHOTS: ended(10, 3, 3, 6 * HOUR)}, 190, 100),
    (
        "another operation's back-off does not matter",
        SNAPSHOTS,
        {T.REWRITE_DATA_FILES: ended(10, 3, 3)},
        190,
        100,
    ),
    ("never above 1,000", SNAPSHOTS, {T.EXPIRE_SNAPSHOTS: ended(100, 100, 100)}, 1_000, 0),
]


@pytest.mark.parametrize(
    ("measured", "outcomes", "score", "rank"),
    [row[1:] for row in SCORES],
    ids=[f"§6 Debt: {row[0]}" for row in SCORES],
)
def test_the_debt_of_a_table(
    measured: dict[str, float], outcomes: dict[OperationType, Outcomes], score: float, rank: float
) -> None:
    debt = debt_of(inspected(**measured), outcomes, now=NOON, rules=RULES)

    assert [debt.score, debt.rank] == pytest.approx([score, rank])
    assert min(1_000, sum(part.points for part in debt.parts)) == pytest.approx(score), "the breakdown adds up"


def test_the_breakdown_names_its_parts() -> None:
    debt = debt_of(inspected(**SNAPSHOTS, **STALE), {T.EXPIRE_SNAPSHOTS: ended(10, 2, 2)}, now=NOON, rules=RULES)

    assert {part.name: (round(part.points, 3), part.reducible) for part in debt.parts} == {
        "issues.TOO_MANY_SNAPSHOTS": (100, True),
        "staleness": (3, False),
        "failure_rate": (20, False),
        "consecutive_failures": (40, False),
    }


def test_without_a_report_there_is_no_score() -> None:
    debt = debt_of(None, {T.EXPIRE_SNAPSHOTS: ended(10, 9, 9)}, now=NOON, rules=RULES)

    assert (debt.score, debt.parts, debt.rank) == (None, (), 0)


def test_the_weights_can_be_chosen() -> None:
    weights = DebtWeights(critical=7, per_stale_day=1, per_failure_percent=2, per_consecutive_failure=3)
    outcomes = {T.EXPIRE_SNAPSHOTS: ended(10, 1, 1)}

    rules = replace(RULES, debt_weights=weights)
    debt = debt_of(inspected(**SNAPSHOTS, **STALE), outcomes, now=NOON, rules=rules)

    assert debt.score == pytest.approx(7 + 6 + 20 + 3)


@pytest.mark.parametrize("wrong", [-1.0, 1_001.0])
def test_weights_that_make_no_sense_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1000"):
        DebtWeights(per_stale_day=wrong)


BENEFITS: list[tuple[str, OperationType, dict[str, float], Outcomes, float]] = [
    ("its own issue", T.EXPIRE_SNAPSHOTS, SNAPSHOTS, Outcomes(), 100),
    ("the issue of another", T.REWRITE_MANIFESTS, SNAPSHOTS, Outcomes(), 0),
    ("while it backs off", T.EXPIRE_SNAPSHOTS, SNAPSHOTS, ended(3, 3, 3), 0),
    ("nothing to do", T.EXPIRE_SNAPSHOTS, {}, Outcomes(), 0),
    ("small by nature", T.REWRITE_DATA_FILES, {"small_file_count": 900, "reducible_file_count": 0}, Outcomes(), 0),
]


@pytest.mark.parametrize(
    ("kind", "measured", "outcomes", "expected"),
    [row[1:] for row in BENEFITS],
    ids=[f"§6 The benefit of an operation: {row[0]}" for row in BENEFITS],
)
def test_the_benefit_of_an_operation_is_the_debt_that_it_takes_off(
    kind: OperationType, measured: dict[str, float], outcomes: Outcomes, expected: float
) -> None:
    assert benefit_of(kind, inspected(**measured), outcomes, now=NOON, rules=RULES) == expected
    assert benefit_of(kind, None, outcomes, now=NOON, rules=RULES) == 0


def place(
    due: datetime = NOON, *, benefit: float = 0, seconds: float = 60, critical: datetime | None = None
) -> datetime:
    return virtual_deadline(due, benefit=benefit, cost=Charge(0, seconds), rules=RULES, critical_deadline=critical)


# Which of two operations comes first.
ORDER: list[tuple[str, datetime, datetime]] = [
    ("the more debt, the sooner", place(benefit=100), place(benefit=50)),
    ("the cheaper, the sooner", place(benefit=100, seconds=60), place(benefit=100, seconds=600)),
    ("the earlier of two alike", place(NOON, benefit=50), place(NOON + HOUR, benefit=50)),
    ("who waited its delay, before the most urgent", place(NOON), place(NOON + RULES.max_delay, benefit=10**6)),
    ("a critical deadline that is over, before all", place(critical=NOON), place(NOON - 30 * DAY, benefit=1_000)),
    ("the longest overdue of two critical ones", place(critical=NOON - HOUR), place(critical=NOON)),
]


@pytest.mark.parametrize(("sooner", "later"), [r[1:] for r in ORDER], ids=[f"§6 The queue: {r[0]}" for r in ORDER])
def test_the_place_in_the_queue(sooner: datetime, later: datetime) -> None:
    assert sooner < later


def test_the_worth_that_halves_the_delay() -> None:
    assert place(benefit=50, seconds=60) == NOON + RULES.max_delay / 2
    assert place(benefit=0) == NOON + RULES.max_delay


@given(
    benefit=st.floats(0, 10_000),
    seconds=st.floats(0, 10**7),
    waited=st.integers(0, 10**6),
    other_benefit=st.floats(0, 10_000),
    delay=st.integers(1, 48),
)
def test_nobody_waits_behind_what_came_due_more_than_the_delay_later(
    benefit: float, seconds: float, waited: int, other_benefit: float, delay: int
) -> None:
    rules = SchedulingRules(max_delay=delay * HOUR)
    mine = virtual_deadline(NOON, benefit=benefit, cost=Charge(0, seconds), rules=rules)
    due = NOON + rules.max_delay + timedelta(seconds=waited)
    other = virtual_deadline(due, benefit=other_benefit, cost=Charge(), rules=rules)

    assert NOON <= mine <= NOON + rules.max_delay
    assert mine <= other


@given(count=st.integers(0, 2_000), more=st.integers(0, 2_000), failed=st.integers(0, 40))
def test_a_worse_table_never_has_less_debt(count: int, more: int, failed: int) -> None:
    outcomes = {T.EXPIRE_SNAPSHOTS: ended(40, failed, failed, 7 * HOUR)}
    less = debt_of(inspected(snapshot_count=count), outcomes, now=NOON, rules=RULES)
    worse = debt_of(inspected(snapshot_count=count + more), outcomes, now=NOON, rules=RULES)

    assert less.score is not None and worse.score is not None
    assert 0 <= less.score <= worse.score <= 1_000
    assert less.rank <= worse.rank <= worse.score
