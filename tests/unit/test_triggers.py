from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.gates import THRESHOLDS
from control_plane.domain.health import HealthMetrics, HealthReport, HealthStatus, Metric
from control_plane.domain.identifiers import OperationType
from control_plane.domain.scheduling import NO_OUTCOMES, DecisionReason, Outcomes
from control_plane.domain.trigger_conditions import TriggerConditions
from control_plane.domain.triggers import Evaluation, evaluate, thresholds_met

T = OperationType
R = DecisionReason
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST_SEEN = NOW - timedelta(days=30)
FULL: dict[str, float] = {
    "data_file_count": 1_000,
    "small_file_count": 632,
    "reducible_file_count": 600,
    "total_bytes": 5_000_000_000,
    "delete_file_count": 120,
    "snapshot_count": 80,
    "oldest_snapshot_time_ms": (NOW - timedelta(days=9)).timestamp() * 1000,
    "newest_snapshot_time_ms": NOW.timestamp() * 1000,
    "partition_count": 40,
    "max_files_per_partition": 100,
    "mean_files_per_partition": 25,
    "manifest_count": 210,
    "manifest_bytes": 3_000_000,
}


def report(
    age: timedelta = timedelta(minutes=5), measured: Mapping[str, float | None] = MappingProxyType({})
) -> HealthReport:
    figures = {name: value for name, value in (FULL | dict(measured)).items() if value is not None}
    metrics = HealthMetrics.measured((name, Metric.exact(value)) for name, value in figures.items())
    return HealthReport(metrics=metrics, issues=(), status=HealthStatus.HEALTHY, score=100, measure_time=NOW - age)


def conditions(**fields: Any) -> TriggerConditions:
    return TriggerConditions.model_validate(fields)


def judged(
    written: TriggerConditions | None,
    kind: OperationType = T.REWRITE_DATA_FILES,
    *,
    health: HealthReport | None = None,
    outcomes: Outcomes = NO_OUTCOMES,
    inspected: bool = True,
    first_seen: datetime = FIRST_SEEN,
) -> Evaluation:
    return evaluate(
        written,
        kind,
        report=(health or report()) if inspected else None,
        outcomes=outcomes,
        first_seen=first_seen,
        now=NOW,
        health_max_age=HOUR,
    )


def succeeded(ago: timedelta, *, unchanged: int = 0) -> Outcomes:
    then = NOW - ago
    return Outcomes(last_success_time=then, last_finish_time=then, finished=1, consecutive_no_change=unchanged)


# A threshold, its operation, a limit that is met exactly, one that is missed, and how the step says so.
REACHED: list[tuple[str, OperationType, float, float, str]] = [
    ("smallFilePercentageAbove", T.REWRITE_DATA_FILES, 63.2, 63.3, "smallFilePercentageAbove 63.2: actual 63.2 → met"),
    ("smallFileCountAbove", T.REWRITE_DATA_FILES, 632, 633, "smallFileCountAbove 632: actual 632 → met"),
    ("reducibleFileCountAbove", T.REWRITE_DATA_FILES, 600, 601, "reducibleFileCountAbove 600: actual 600 → met"),
    (
        "totalFileSizeAboveBytes",
        T.REWRITE_DATA_FILES,
        5_000_000_000,
        5_000_000_001,
        "totalFileSizeAboveBytes 5,000,000,000: actual 5,000,000,000 → met",
    ),
    ("deleteFileCountAbove", T.REWRITE_DATA_FILES, 120, 121, "deleteFileCountAbove 120: actual 120 → met"),
    ("deleteFileCountAbove", T.REWRITE_POSITION_DELETES, 120, 121, "deleteFileCountAbove 120: actual 120 → met"),
    ("deleteFileRatioAbove", T.REWRITE_DATA_FILES, 0.12, 0.13, "deleteFileRatioAbove 0.12: actual 0.12 → met"),
    ("deleteFileRatioAbove", T.REWRITE_POSITION_DELETES, 0.12, 0.13, "deleteFileRatioAbove 0.12: actual 0.12 → met"),
    ("snapshotCountAbove", T.EXPIRE_SNAPSHOTS, 80, 81, "snapshotCountAbove 80: actual 80 → met"),
    ("snapshotAgeAboveDays", T.EXPIRE_SNAPSHOTS, 9, 9.01, "snapshotAgeAboveDays 9: actual 9 → met"),
    ("partitionCountAbove", T.REWRITE_DATA_FILES, 40, 41, "partitionCountAbove 40: actual 40 → met"),
    ("partitionSkewAbove", T.REWRITE_DATA_FILES, 4, 4.1, "partitionSkewAbove 4: actual 4 → met"),
    ("manifestCountAbove", T.REWRITE_MANIFESTS, 210, 211, "manifestCountAbove 210: actual 210 → met"),
    (
        "manifestSizeAboveBytes",
        T.REWRITE_MANIFESTS,
        3_000_000,
        3_000_001,
        "manifestSizeAboveBytes 3,000,000: actual 3,000,000 → met",
    ),
]


@pytest.mark.parametrize(
    ("field", "kind", "met", "missed", "step"), REACHED, ids=[f"§3 Thresholds: {r[0]} for {r[1]}" for r in REACHED]
)
def test_a_threshold_is_met_at_its_value_and_not_below(
    field: str, kind: OperationType, met: float, missed: float, step: str
) -> None:
    at, above = judged(conditions(**{field: met}), kind), judged(conditions(**{field: missed}), kind)

    assert (at.runs, at.reason) == (True, R.CONDITIONS_MET)
    assert step in [each.text for each in at.steps]
    assert (above.runs, above.reason) == (False, R.CONDITIONS_NOT_MET)
    assert [each.passed for each in above.steps if each.name == field] == [False]
    assert "the policy asks for at least" in above.text


GATES = [(threshold.json_name, kind, kind in threshold.gates) for threshold in THRESHOLDS for kind in OperationType]


@pytest.mark.parametrize(
    ("field", "kind", "gates"),
    GATES,
    ids=[f"§3 Which condition gates which operation: {f} {'gates' if g else 'not'} {k}" for f, k, g in GATES],
)
def test_a_shared_threshold_gates_the_operations_that_it_speaks_of(
    field: str, kind: OperationType, gates: bool
) -> None:
    out_of_reach = 100.0 if field == "smallFilePercentageAbove" else 10**15

    shared = judged(conditions(**{field: out_of_reach}), kind)
    own = judged(conditions(perOperation={kind: {field: out_of_reach}}), kind)

    assert (shared.runs, shared.reason) == ((False, R.CONDITIONS_NOT_MET) if gates else (True, R.NO_CONDITIONS))
    assert gates or any(field in step.text and "not asked" in step.text for step in shared.steps)
    assert own.reason is R.CONDITIONS_NOT_MET, "what stands under perOperation gates that operation"


MET, NOT_MET, UNKNOWN = {"smallFileCountAbove": 632}, {"partitionCountAbove": 41}, {"partitionSkewAbove": 4}
NAMED = {"smallFileCountAbove": "met", "partitionCountAbove": "unmet", "partitionSkewAbove": "unknown"}
LOGIC: list[tuple[str, list[dict[str, Any]], bool | None, DecisionReason]] = [
    ("OR", [MET], True, R.CONDITIONS_MET),
    ("OR", [NOT_MET], False, R.CONDITIONS_NOT_MET),
    ("OR", [UNKNOWN], None, R.CONDITIONS_UNKNOWN),
    ("OR", [MET, NOT_MET], True, R.CONDITIONS_MET),
    ("OR", [MET, UNKNOWN], True, R.CONDITIONS_MET),
    ("OR", [NOT_MET, UNKNOWN], None, R.CONDITIONS_UNKNOWN),
    ("OR", [MET, NOT_MET, UNKNOWN], True, R.CONDITIONS_MET),
    ("AND", [MET], True, R.CONDITIONS_MET),
    ("AND", [NOT_MET], False, R.CONDITIONS_NOT_MET),
    ("AND", [UNKNOWN], None, R.CONDITIONS_UNKNOWN),
    ("AND", [MET, NOT_MET], False, R.CONDITIONS_NOT_MET),
    ("AND", [MET, UNKNOWN], None, R.CONDITIONS_UNKNOWN),
    ("AND", [NOT_MET, UNKNOWN], False, R.CONDITIONS_NOT_MET),
    ("AND", [MET, NOT_MET, UNKNOWN], False, R.CONDITIONS_NOT_MET),
]


@pytest.mark.parametrize(
    ("logic", "given_", "runs", "reason"),
    LOGIC,
    ids=[
        f"§3 OR and AND: {logic} of {' '.join(NAMED[next(iter(c))] for c in given_)}" for logic, given_, _, _ in LOGIC
    ],
)
def test_thresholds_are_joined(
    logic: str, given_: list[dict[str, Any]], runs: bool | None, reason: DecisionReason
) -> None:
    fields = {name: value for each in given_ for name, value in each.items()}
    found = judged(conditions(triggerLogic=logic, **fields), health=report(measured={"max_files_per_partition": None}))

    assert (found.runs, found.reason) == (runs, reason)
    assert found.steps[-1].name == "triggerLogic"
    assert found.steps[-1].passed is runs


def test_or_is_the_default() -> None:
    assert judged(conditions(**MET, **NOT_MET)).runs is True


EXPRESSIONS: list[tuple[str, dict[str, Any], OperationType, bool | None, DecisionReason]] = [
    ("alone and true", {"expression": "smallFileCount > 1"}, T.REWRITE_DATA_FILES, True, R.CONDITIONS_MET),
    ("alone and false", {"expression": "smallFileCount > 700"}, T.REWRITE_DATA_FILES, False, R.CONDITIONS_NOT_MET),
    ("unknown", {"expression": "recordCount > 1"}, T.REWRITE_DATA_FILES, None, R.CONDITIONS_UNKNOWN),
    (
        "OR with a threshold",
        {"expression": "smallFileCount > 1", **NOT_MET},
        T.REWRITE_DATA_FILES,
        True,
        R.CONDITIONS_MET,
    ),
    (
        "AND with a threshold",
        {"expression": "smallFileCount > 1", "triggerLogic": "AND", **NOT_MET},
        T.REWRITE_DATA_FILES,
        False,
        R.CONDITIONS_NOT_MET,
    ),
    (
        "unknown AND met",
        {"expression": "recordCount > 1", "triggerLogic": "AND", **MET},
        T.REWRITE_DATA_FILES,
        None,
        R.CONDITIONS_UNKNOWN,
    ),
    ("unknown OR met", {"expression": "recordCount > 1", **MET}, T.REWRITE_DATA_FILES, True, R.CONDITIONS_MET),
    ("gates expiry", {"expression": "smallFileCount > 700"}, T.EXPIRE_SNAPSHOTS, False, R.CONDITIONS_NOT_MET),
    ("gates manifests", {"expression": "smallFileCount > 700"}, T.REWRITE_MANIFESTS, False, R.CONDITIONS_NOT_MET),
    ("not orphans", {"expression": "smallFileCount > 700"}, T.ORPHAN_CLEANUP, True, R.NO_CONDITIONS),
    ("not statistics", {"expression": "smallFileCount > 700"}, T.COMPUTE_STATISTICS, True, R.NO_CONDITIONS),
    (
        "orphans where it is theirs",
        {"perOperation": {"ORPHAN_CLEANUP": {"expression": "smallFileCount > 700"}}},
        T.ORPHAN_CLEANUP,
        False,
        R.CONDITIONS_NOT_MET,
    ),
    (
        "its own wins",
        {
            "expression": "smallFileCount > 700",
            "perOperation": {"EXPIRE_SNAPSHOTS": {"expression": "snapshotCount > 1"}},
        },
        T.EXPIRE_SNAPSHOTS,
        True,
        R.CONDITIONS_MET,
    ),
]


@pytest.mark.parametrize(
    ("fields", "kind", "runs", "reason"),
    [row[1:] for row in EXPRESSIONS],
    ids=[f"§3 Expressions: {row[0]}" for row in EXPRESSIONS],
)
def test_an_expression_counts_as_one_more_threshold(
    fields: dict[str, Any], kind: OperationType, runs: bool | None, reason: DecisionReason
) -> None:
    found = judged(conditions(**fields), kind)

    assert (found.runs, found.reason) == (runs, reason)


def test_the_step_of_an_expression_shows_what_it_read() -> None:
    (step,) = [s for s in judged(conditions(expression="smallFileCount > 700")).steps if s.name == "expression"]

    assert step.text == "expression smallFileCount > 700: smallFileCount 632 → not met"


INTERVALS: list[tuple[str, dict[str, Any], OperationType, timedelta | None, bool]] = [
    ("never succeeded", {"minIntervalMinutes": 60}, T.EXPIRE_SNAPSHOTS, None, True),
    ("just before", {"minIntervalMinutes": 60}, T.EXPIRE_SNAPSHOTS, HOUR - timedelta(microseconds=1), False),
    ("exactly elapsed", {"minIntervalMinutes": 60}, T.EXPIRE_SNAPSHOTS, HOUR, True),
    ("elapsed", {"minIntervalMinutes": 60}, T.EXPIRE_SNAPSHOTS, 2 * HOUR, True),
    ("zero", {"minIntervalMinutes": 0}, T.EXPIRE_SNAPSHOTS, timedelta(0), True),
    (
        "the operation's own is shorter",
        {"minIntervalMinutes": 600, "perOperationMinIntervalMinutes": {"EXPIRE_SNAPSHOTS": 60}},
        T.EXPIRE_SNAPSHOTS,
        HOUR,
        True,
    ),
    (
        "the operation's own is longer",
        {"minIntervalMinutes": 60, "perOperationMinIntervalMinutes": {"EXPIRE_SNAPSHOTS": 600}},
        T.EXPIRE_SNAPSHOTS,
        HOUR,
        False,
    ),
    (
        "that of another operation",
        {"minIntervalMinutes": 60, "perOperationMinIntervalMinutes": {"REWRITE_MANIFESTS": 600}},
        T.EXPIRE_SNAPSHOTS,
        HOUR,
        True,
    ),
    (
        "the operation's own is none",
        {"minIntervalMinutes": 60, "perOperationMinIntervalMinutes": {"EXPIRE_SNAPSHOTS": 0}},
        T.EXPIRE_SNAPSHOTS,
        timedelta(0),
        True,
    ),
    (
        "under perOperation",
        {"minIntervalMinutes": 60, "perOperation": {"EXPIRE_SNAPSHOTS": {"minIntervalMinutes": 120}}},
        T.EXPIRE_SNAPSHOTS,
        HOUR,
        False,
    ),
    (
        "in both places",
        {
            "perOperationMinIntervalMinutes": {"EXPIRE_SNAPSHOTS": 30},
            "perOperation": {"EXPIRE_SNAPSHOTS": {"minIntervalMinutes": 120}},
        },
        T.EXPIRE_SNAPSHOTS,
        HOUR,
        True,
    ),
    ("orphans too", {"minIntervalMinutes": 60}, T.ORPHAN_CLEANUP, HOUR / 2, False),
    ("orphans by time alone", {"minIntervalMinutes": 60}, T.ORPHAN_CLEANUP, HOUR, True),
]


@pytest.mark.parametrize(
    ("fields", "kind", "since_success", "allowed"),
    [row[1:] for row in INTERVALS],
    ids=[f"§3 Minimum interval: {row[0]}" for row in INTERVALS],
)
def test_a_minimum_interval_counts_from_the_last_success(
    fields: dict[str, Any], kind: OperationType, since_success: timedelta | None, allowed: bool
) -> None:
    outcomes = NO_OUTCOMES if since_success is None else succeeded(since_success)
    found = judged(conditions(**fields), kind, outcomes=outcomes)

    assert found.runs is allowed
    assert (found.reason is R.MIN_INTERVAL) is not allowed
    assert (found.next_eligible is None) is allowed


def test_a_blocked_minimum_interval_says_when_it_ends() -> None:
    found = judged(conditions(minIntervalMinutes=60), outcomes=succeeded(HOUR / 4))

    assert found.next_eligible == NOW + HOUR * 3 / 4
    assert found.text == "the last success was 15 min ago, the policy asks for at least 1 h"


def test_the_minimum_interval_counts_successes_and_not_failures() -> None:
    failed = Outcomes(last_failure_time=NOW, last_finish_time=NOW, consecutive_failures=1, finished=1, failed=1)

    assert judged(conditions(minIntervalMinutes=60), outcomes=failed).runs is True


CRITICAL = {"criticalPipeline": True, "criticalPipelineMaxDelayMinutes": 60}
FORCED: list[tuple[str, dict[str, Any], Outcomes, datetime, bool]] = [
    ("last success too long ago", CRITICAL, succeeded(2 * HOUR), FIRST_SEEN, True),
    ("exactly the delay", CRITICAL, succeeded(HOUR), FIRST_SEEN, True),
    ("just before", CRITICAL, succeeded(HOUR - timedelta(microseconds=1)), FIRST_SEEN, False),
    ("never succeeded, seen long ago", CRITICAL, NO_OUTCOMES, NOW - HOUR, True),
    ("never succeeded, seen just now", CRITICAL, NO_OUTCOMES, NOW - HOUR / 2, False),
    ("not critical", {"criticalPipelineMaxDelayMinutes": 60}, succeeded(2 * HOUR), FIRST_SEEN, False),
    ("over the minimum interval", CRITICAL | {"minIntervalMinutes": 600}, succeeded(2 * HOUR), FIRST_SEEN, True),
    (
        "its own delay",
        CRITICAL | {"perOperation": {"REWRITE_DATA_FILES": {"criticalPipelineMaxDelayMinutes": 600}}},
        succeeded(2 * HOUR),
        FIRST_SEEN,
        False,
    ),
    (
        "not this operation",
        CRITICAL | {"perOperation": {"REWRITE_DATA_FILES": {"criticalPipeline": False}}},
        succeeded(2 * HOUR),
        FIRST_SEEN,
        False,
    ),
]


@pytest.mark.parametrize(
    ("fields", "outcomes", "first_seen", "forced"),
    [row[1:] for row in FORCED],
    ids=[f"§3 Critical pipelines: {row[0]}" for row in FORCED],
)
def test_a_critical_pipeline_is_forced_after_its_delay(
    fields: dict[str, Any], outcomes: Outcomes, first_seen: datetime, forced: bool
) -> None:
    found = judged(conditions(**fields, smallFileCountAbove=10**6), outcomes=outcomes, first_seen=first_seen)

    assert found.forced is forced
    assert (found.runs, found.reason) == ((True, R.CRITICAL_DELAY) if forced else (False, found.reason))
    assert found.reason is not R.CRITICAL_DELAY or forced


def test_a_forced_run_needs_no_report() -> None:
    found = judged(conditions(**CRITICAL, smallFileCountAbove=1), inspected=False, outcomes=succeeded(2 * HOUR))

    assert (found.runs, found.forced, found.critical_deadline) == (True, True, NOW - HOUR)


def test_what_waits_becomes_eligible_at_its_critical_deadline_at_the_latest() -> None:
    found = judged(conditions(**CRITICAL, minIntervalMinutes=600), outcomes=succeeded(HOUR / 2))

    assert (found.reason, found.next_eligible) == (R.MIN_INTERVAL, NOW + HOUR / 2)


REPORTS: list[tuple[str, HealthReport | None, Outcomes, bool]] = [
    ("none", None, NO_OUTCOMES, False),
    ("fresh", report(timedelta(0)), NO_OUTCOMES, True),
    ("exactly its maximum age", report(HOUR), NO_OUTCOMES, True),
    ("older", report(HOUR + timedelta(microseconds=1)), NO_OUTCOMES, False),
    ("measured before the last success", report(HOUR / 2), succeeded(HOUR / 4), False),
    ("measured after the last success", report(HOUR / 4), succeeded(HOUR / 2), True),
    ("before a success that changed nothing", report(HOUR / 2), succeeded(HOUR / 4, unchanged=1), True),
]


@pytest.mark.parametrize(
    ("health", "outcomes", "enough"),
    [row[1:] for row in REPORTS],
    ids=[f"§3 The health report: {r[0]}" for r in REPORTS],
)
def test_nothing_is_guessed_without_a_report_that_is_new_enough(
    health: HealthReport | None, outcomes: Outcomes, enough: bool
) -> None:
    found = judged(conditions(**MET), health=health, inspected=health is not None, outcomes=outcomes)

    assert (found.runs, found.wants_inspection) == ((True, False) if enough else (None, True))
    assert (found.reason is R.NO_HEALTH) is not enough


@pytest.mark.parametrize(
    ("age", "reason"),
    [(HOUR / 4, R.CONDITIONS_UNKNOWN), (HOUR / 4 + timedelta(seconds=1), R.NO_HEALTH)],
    ids=["§3 A health report: not readable, lately", "§3 A health report: not readable, asked for again"],
)
def test_a_table_that_could_not_be_read_is_asked_for_again_before_long(age: timedelta, reason: DecisionReason) -> None:
    unreadable = HealthReport.unreadable("connection refused", now=NOW - age)

    found = judged(conditions(**MET), health=unreadable)

    assert (found.reason, found.wants_inspection) == (reason, reason is R.NO_HEALTH)
    assert "connection refused" in found.text if reason is R.CONDITIONS_UNKNOWN else "could not be read" in found.text


@pytest.mark.parametrize("kind", list(OperationType), ids=lambda kind: f"§3 No conditions: {kind}")
def test_without_conditions_everything_runs(kind: OperationType) -> None:
    for written in (None, conditions()):
        found = judged(written, kind, inspected=False)

        assert (found.runs, found.reason, found.wants_inspection) == (True, R.NO_CONDITIONS, False)


def test_a_table_that_could_not_be_read_says_why() -> None:
    unreadable = HealthReport.unreadable("the catalog did not answer", now=NOW)

    found = judged(conditions(**MET), health=unreadable)

    assert found.reason is R.CONDITIONS_UNKNOWN
    assert found.text.endswith("the catalog did not answer")


def test_the_steps_are_left_in_their_order() -> None:
    written = conditions(
        **CRITICAL,
        minIntervalMinutes=1,
        smallFilePercentageAbove=20,
        snapshotCountAbove=5,
        expression="dataFileCount > 1",
    )

    found = judged(written, outcomes=succeeded(HOUR / 2, unchanged=1))

    assert [step.name for step in found.steps] == [
        "conditions",
        "criticalPipeline",
        "minInterval",
        "health",
        "smallFilePercentageAbove",
        "expression",
        "triggerLogic",
    ]
    assert found.steps[0].text == "not asked of REWRITE_DATA_FILES, which they do not speak of: snapshotCountAbove"
    assert found.text == "63.2 % of the data files are small, the policy asks for at least 20 %"


def test_the_threshold_that_is_nearest_to_its_limit_is_the_reason() -> None:
    found = judged(conditions(smallFileCountAbove=640, partitionCountAbove=4_000))

    assert found.text == "632 data files are small, the policy asks for at least 640"


def test_what_ages_alone_can_meet_is_met_later_and_not_before() -> None:
    written = conditions(snapshotAgeAboveDays=10)
    measured = report()

    assert thresholds_met(written, T.EXPIRE_SNAPSHOTS, measured, at=NOW) is False
    assert thresholds_met(written, T.EXPIRE_SNAPSHOTS, measured, at=NOW + timedelta(days=1)) is True


FIELDS = [t for t in THRESHOLDS if T.REWRITE_DATA_FILES in t.gates and t.figure in FULL]
LIMITS = st.dictionaries(st.sampled_from([t.json_name for t in FIELDS]), st.integers(0, 10_000), min_size=1)
RAISED = st.dictionaries(st.sampled_from([t.figure for t in FIELDS]), st.integers(0, 10_000), min_size=1)


@given(limits=LIMITS, logic=st.sampled_from(["OR", "AND"]), raised=RAISED)
def test_a_worse_table_never_stops_what_ran_on_a_better_one(
    limits: dict[str, int], logic: str, raised: dict[str, int]
) -> None:
    written = conditions(triggerLogic=logic, **limits)
    worse = report(measured={name: FULL[name] + more for name, more in raised.items()})

    assert judged(written).runs is not True or judged(written, health=worse).runs is True


@given(
    limits=LIMITS, logic=st.sampled_from(["OR", "AND"]), forgotten=st.sets(st.sampled_from([t.figure for t in FIELDS]))
)
def test_knowing_less_never_turns_a_no_into_a_yes_or_a_yes_into_a_no(
    limits: dict[str, int], logic: str, forgotten: set[str]
) -> None:
    written = conditions(triggerLogic=logic, **limits)
    known = judged(written).runs
    less = judged(written, health=report(measured=dict.fromkeys(forgotten))).runs

    assert less in (known, None)


@given(limits=LIMITS, extra=LIMITS)
def test_one_more_threshold_helps_or_and_hinders_and(limits: dict[str, int], extra: dict[str, int]) -> None:
    either, both = judged(conditions(**limits)).runs, judged(conditions(**limits, triggerLogic="AND")).runs
    more = extra | limits

    assert judged(conditions(**more)).runs or not either
    assert both or not judged(conditions(**more, triggerLogic="AND")).runs


def test_outcomes_of_the_future_do_not_confuse_the_steps() -> None:
    ahead = replace(succeeded(-HOUR), consecutive_no_change=1)

    found = judged(conditions(minIntervalMinutes=30), outcomes=ahead)

    assert (found.reason, found.next_eligible) == (R.MIN_INTERVAL, NOW + HOUR * 3 / 2)
