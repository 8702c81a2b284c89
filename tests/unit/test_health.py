from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.domain.errors import InvalidArgument
from control_plane.domain.health import (
    METRIC_NAMES,
    UNKNOWN,
    HealthMetrics,
    HealthReport,
    HealthStatus,
    IssueType,
    Knowledge,
    Metric,
    Severity,
    assess,
)
from control_plane.domain.thresholds import DEFAULT, RELAXED, STRICT, Limits, Thresholds

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY_MS = 24 * 60 * 60 * 1000
MIB = 1024 * 1024
SOUND = HealthMetrics(
    data_file_count=Metric.exact(1_000),
    small_file_count=Metric.exact(0),
    large_file_count=Metric.exact(0),
    delete_file_count=Metric.exact(0),
    snapshot_count=Metric.exact(1),
    oldest_snapshot_time_ms=Metric.exact(NOW.timestamp() * 1000),
    newest_snapshot_time_ms=Metric.exact(NOW.timestamp() * 1000),
    manifest_count=Metric.exact(1),
    manifest_bytes=Metric.exact(1),
    partition_count=Metric.exact(1),
    max_files_per_partition=Metric.exact(100),
    mean_files_per_partition=Metric.exact(100),
)

# Issue, the metric that is moved, how a figure becomes that metric, the finest step below a limit, and the limits
# (warning, critical) of the presets default, strict and relaxed.
GOLDEN: list[tuple[IssueType, str, Any, float, tuple[Limits, Limits, Limits]]] = [
    (
        IssueType.TOO_MANY_SMALL_FILES,
        "small_file_count",
        lambda percent: percent * 10,
        0.1,
        (Limits(20, 50), Limits(10, 25), Limits(40, 70)),
    ),
    (
        IssueType.TOO_MANY_LARGE_FILES,
        "large_file_count",
        lambda percent: percent * 10,
        0.1,
        (Limits(20, 50), Limits(10, 25), Limits(30, 70)),
    ),
    (
        IssueType.HIGH_FILE_COUNT,
        "data_file_count",
        float,
        1,
        (Limits(10_000, 50_000), Limits(5_000, 20_000), Limits(50_000, 200_000)),
    ),
    (
        IssueType.TOO_MANY_SNAPSHOTS,
        "snapshot_count",
        float,
        1,
        (Limits(100, 500), Limits(50, 200), Limits(500, 2_000)),
    ),
    (
        IssueType.OLD_SNAPSHOTS,
        "oldest_snapshot_time_ms",
        lambda days: NOW.timestamp() * 1000 - days * DAY_MS,
        1 / DAY_MS,
        (Limits(7, 30), Limits(3, 14), Limits(30, 90)),
    ),
    (
        IssueType.STALE_METADATA,
        "newest_snapshot_time_ms",
        lambda days: NOW.timestamp() * 1000 - days * DAY_MS,
        1 / DAY_MS,
        (Limits(7, 30), Limits(3, 14), Limits(30, 90)),
    ),
    (
        IssueType.TOO_MANY_DELETE_FILES,
        "delete_file_count",
        float,
        1,
        (Limits(100, 500), Limits(50, 200), Limits(500, 2_000)),
    ),
    (
        IssueType.HIGH_DELETE_FILE_RATIO,
        "delete_file_count",
        lambda ratio: round(ratio * 1_000),
        0.001,
        (Limits(0.10, 0.25), Limits(0.05, 0.15), Limits(0.20, 0.50)),
    ),
    (
        IssueType.TOO_MANY_MANIFESTS,
        "manifest_count",
        float,
        1,
        (Limits(100, 500), Limits(50, 200), Limits(500, 2_000)),
    ),
    (
        IssueType.LARGE_MANIFEST_LIST,
        "manifest_bytes",
        float,
        1,
        (Limits(100 * MIB, 500 * MIB), Limits(50 * MIB, 200 * MIB), Limits(200 * MIB, 1024 * MIB)),
    ),
    (
        IssueType.TOO_MANY_PARTITIONS,
        "partition_count",
        float,
        1,
        (Limits(5_000, 10_000), Limits(2_000, 5_000), Limits(10_000, 50_000)),
    ),
    (
        IssueType.PARTITION_SKEW,
        "max_files_per_partition",
        lambda skew: skew * 100,
        0.01,
        (Limits(3, 10), Limits(2, 5), Limits(5, 20)),
    ),
]


def severity_of(issue: IssueType, metrics: HealthMetrics, thresholds: Thresholds) -> Severity | None:
    found = [each for each in assess(metrics, thresholds, now=NOW).issues if each.type is issue]
    return found[0].severity if found else None


def moved(metric: str, value: float) -> HealthMetrics:
    """The sound table with one metric changed."""
    return HealthMetrics.measured((dict(SOUND.named()) | {metric: Metric.exact(value)}).items())


@pytest.mark.parametrize("preset", [0, 1, 2], ids=["default", "strict", "relaxed"])
@pytest.mark.parametrize(
    ("issue", "metric", "measured", "step", "limits"), GOLDEN, ids=[f"§5 Health: {row[0]}" for row in GOLDEN]
)
def test_a_limit_is_reached_at_its_value_and_not_just_below(
    issue: IssueType, metric: str, measured: Any, step: float, limits: tuple[Limits, ...], preset: int
) -> None:
    thresholds = (DEFAULT, STRICT, RELAXED)[preset]
    warning, critical = limits[preset].warning, limits[preset].critical
    expected = {
        warning - step: None,
        warning: Severity.WARNING,
        warning + step: Severity.WARNING,
        critical - step: Severity.WARNING,
        critical: Severity.CRITICAL,
        critical + step: Severity.CRITICAL,
    }

    seen = {figure: severity_of(issue, moved(metric, measured(figure)), thresholds) for figure in expected}

    assert seen == expected


@pytest.mark.parametrize(
    ("thresholds", "small", "large"),
    [(DEFAULT, 104_857_600, 1_073_741_824), (STRICT, 134_217_728, 536_870_912), (RELAXED, 67_108_864, 2_147_483_648)],
)
def test_the_presets_say_what_is_small_and_what_is_large(thresholds: Thresholds, small: int, large: int) -> None:
    assert thresholds.small_file_size_bytes == small
    assert thresholds.large_file_size_bytes == large


def test_a_sound_table_is_healthy() -> None:
    report = assess(SOUND, DEFAULT, now=NOW)

    assert (report.status, report.score, report.issues) == (HealthStatus.HEALTHY, 100, ())


def test_small_files_that_no_rewrite_would_reduce_cost_no_points() -> None:
    metrics = replace(SOUND, small_file_count=Metric.exact(1_000), reducible_file_count=Metric.exact(0))

    report = assess(metrics, DEFAULT, now=NOW)

    assert [(issue.type, issue.severity, issue.points) for issue in report.issues] == [
        (IssueType.TOO_MANY_SMALL_FILES, Severity.INFO, 0)
    ]
    assert (report.status, report.score) == (HealthStatus.HEALTHY, 100)


@pytest.mark.parametrize("reducible", [UNKNOWN, Metric.exact(1)])
def test_small_files_that_may_be_reducible_count(reducible: Metric) -> None:
    metrics = replace(SOUND, small_file_count=Metric.exact(1_000), reducible_file_count=reducible)

    assert severity_of(IssueType.TOO_MANY_SMALL_FILES, metrics, DEFAULT) is Severity.CRITICAL


def test_the_score_is_a_hundred_less_thirty_a_critical_and_ten_a_warning() -> None:
    metrics = replace(SOUND, snapshot_count=Metric.exact(500), manifest_count=Metric.exact(100))

    report = assess(metrics, DEFAULT, now=NOW)

    assert (report.status, report.score) == (HealthStatus.CRITICAL, 60)
    assert report.composition == {IssueType.TOO_MANY_SNAPSHOTS: 30, IssueType.TOO_MANY_MANIFESTS: 10}


CRITICALS = {"snapshot_count": 500.0, "manifest_count": 500.0, "partition_count": 10_000.0, "delete_file_count": 500.0}
WARNINGS = {"snapshot_count": 100.0, "manifest_count": 100.0, "partition_count": 5_000.0}
SCORES: list[tuple[str, dict[str, float], int, HealthStatus]] = [
    ("sound", {}, 100, HealthStatus.HEALTHY),
    ("small by nature", {"small_file_count": 900, "reducible_file_count": 0}, 100, HealthStatus.HEALTHY),
    ("small and reducible", {"small_file_count": 900, "reducible_file_count": 9}, 70, HealthStatus.CRITICAL),
    ("empty", {"data_file_count": 0, "delete_file_count": 0}, 100, HealthStatus.HEALTHY),
    ("one warning", {"snapshot_count": 100}, 90, HealthStatus.WARNING),
    ("three warnings", WARNINGS, 70, HealthStatus.WARNING),
    ("one critical", {"snapshot_count": 500}, 70, HealthStatus.CRITICAL),
    (
        "two criticals and a warning",
        CRITICALS | {"delete_file_count": 0, "partition_count": 5_000},
        30,
        HealthStatus.CRITICAL,
    ),
    ("five criticals: never below 0", CRITICALS, 0, HealthStatus.CRITICAL),
]


@pytest.mark.parametrize(
    ("measured", "score", "status"), [row[1:] for row in SCORES], ids=[f"§5 Score: {row[0]}" for row in SCORES]
)
def test_the_score_and_the_status_of_a_table(measured: dict[str, float], score: int, status: HealthStatus) -> None:
    changed = {name: Metric.exact(value) for name, value in measured.items()}
    report = assess(HealthMetrics.measured((dict(SOUND.named()) | changed).items()), DEFAULT, now=NOW)

    assert (report.score, report.status) == (score, status)
    assert report.score == max(0, 100 - sum(report.composition.values()))


def test_the_score_ends_at_zero() -> None:
    metrics = replace(
        SOUND,
        data_file_count=Metric.exact(50_000),
        snapshot_count=Metric.exact(500),
        manifest_count=Metric.exact(500),
        partition_count=Metric.exact(10_000),
    )

    assert assess(metrics, DEFAULT, now=NOW).score == 0


def test_an_empty_table_is_told_and_still_checked_for_snapshots_manifests_and_metadata() -> None:
    old = Metric.exact((NOW - timedelta(days=40)).timestamp() * 1000)
    metrics = replace(
        SOUND,
        data_file_count=Metric.exact(0),
        delete_file_count=Metric.exact(0),
        snapshot_count=Metric.exact(100),
        manifest_count=Metric.exact(100),
        newest_snapshot_time_ms=old,
        mean_files_per_partition=Metric.exact(0),
    )

    report = assess(metrics, DEFAULT, now=NOW)

    assert {issue.type: issue.severity for issue in report.issues} == {
        IssueType.TABLE_EMPTY: Severity.INFO,
        IssueType.TOO_MANY_SNAPSHOTS: Severity.WARNING,
        IssueType.TOO_MANY_MANIFESTS: Severity.WARNING,
        IssueType.STALE_METADATA: Severity.CRITICAL,
    }


def test_what_is_unknown_is_no_issue() -> None:
    metrics = replace(SOUND, snapshot_count=UNKNOWN, data_file_count=UNKNOWN, small_file_count=Metric.exact(9_999))

    assert assess(metrics, DEFAULT, now=NOW).issues == ()


def test_where_nothing_is_known_nothing_is_claimed() -> None:
    report = assess(HealthMetrics(), DEFAULT, now=NOW)

    assert (report.status, report.score, report.issues) == (HealthStatus.UNKNOWN, None, ())


def test_a_table_that_could_not_be_read_has_no_score() -> None:
    report = HealthReport.unreadable("the catalog did not answer", now=NOW)

    assert (report.status, report.score, report.error) == (HealthStatus.UNKNOWN, None, "the catalog did not answer")


def test_an_issue_is_known_no_better_than_its_figures() -> None:
    metrics = replace(SOUND, small_file_count=Metric.estimated(500))

    (issue,) = assess(metrics, DEFAULT, now=NOW).issues

    assert issue.knowledge is Knowledge.ESTIMATED
    assert (issue.actual, issue.limit, issue.metric) == (50, 50, "small_file_percent")


def test_a_snapshot_from_the_future_is_not_old() -> None:
    metrics = replace(SOUND, newest_snapshot_time_ms=Metric.exact((NOW + timedelta(days=1)).timestamp() * 1000))

    assert assess(metrics, DEFAULT, now=NOW).issues == ()


def test_metrics_are_made_by_name_and_named_again() -> None:
    metrics = HealthMetrics.measured(
        [("snapshot_count", Metric.exact(3)), ("from_a_newer_executor", Metric.exact(1))], scan_mode="scan"
    )

    assert dict(metrics.named()) == dict.fromkeys(METRIC_NAMES, UNKNOWN) | {"snapshot_count": Metric.exact(3)}
    assert metrics.scan_mode == "scan"


@pytest.mark.parametrize(
    ("value", "knowledge"),
    [(None, Knowledge.EXACT), (1.0, Knowledge.UNKNOWN), (float("nan"), Knowledge.EXACT)],
)
def test_a_metric_has_a_finite_value_exactly_if_it_is_known(value: float | None, knowledge: Knowledge) -> None:
    with pytest.raises(ValueError, match="a metric"):
        Metric(value, knowledge)


def test_pairs_out_of_order_are_refused_by_name() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        Thresholds(
            small_file_size_bytes=2,
            large_file_size_bytes=2,
            small_file_percent=Limits(50, 20),
            delete_file_ratio=Limits(0, 1),
        )

    assert [violation.field for violation in refusal.value.violations] == [
        "smallFileSizeBytes",
        "smallFilePercent",
        "deleteFileRatio",
    ]
