from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from control_plane.domain.health import HealthMetrics, HealthReport, IssueType, Metric, Severity, assess
from control_plane.domain.identifiers import OperationType
from control_plane.domain.recommendations import recommend
from control_plane.domain.thresholds import DEFAULT

T, ISSUE = OperationType, IssueType
NOW = datetime(2026, 6, 1, tzinfo=UTC)
SOUND = {
    "data_file_count": 1_000.0,
    "small_file_count": 0.0,
    "large_file_count": 0.0,
    "delete_file_count": 0.0,
    "snapshot_count": 1.0,
    "manifest_count": 1.0,
    "manifest_bytes": 1.0,
    "partition_count": 1.0,
    "max_files_per_partition": 100.0,
    "mean_files_per_partition": 100.0,
}


def inspected(**measured: float) -> HealthReport:
    metrics = HealthMetrics.measured((name, Metric.exact(value)) for name, value in (SOUND | measured).items())
    return assess(metrics, DEFAULT, now=NOW)


def ms(age: timedelta) -> float:
    return (NOW - age).timestamp() * 1000


POSITIONAL = {"delete_file_count": 100.0, "position_delete_file_count": 100.0}
EQUALITY = {"delete_file_count": 100.0, "equality_delete_file_count": 100.0}
VECTORS = {"delete_file_count": 100.0, "deletion_vector_count": 100.0}
MIXED = {"delete_file_count": 100.0, "position_delete_file_count": 60.0, "equality_delete_file_count": 40.0}
ROWS: list[tuple[str, dict[str, float], list[tuple[OperationType, list[IssueType]]]]] = [
    ("a sound table", {}, []),
    ("small files", {"small_file_count": 300}, [(T.REWRITE_DATA_FILES, [ISSUE.TOO_MANY_SMALL_FILES])]),
    ("small files, nothing reducible", {"small_file_count": 300, "reducible_file_count": 0}, []),
    ("large files", {"large_file_count": 300}, [(T.REWRITE_DATA_FILES, [ISSUE.TOO_MANY_LARGE_FILES])]),
    ("many files", {"data_file_count": 20_000}, [(T.REWRITE_DATA_FILES, [ISSUE.HIGH_FILE_COUNT])]),
    ("many files, nothing reducible", {"data_file_count": 20_000, "reducible_file_count": 0}, []),
    ("skew", {"max_files_per_partition": 400}, [(T.REWRITE_DATA_FILES, [ISSUE.PARTITION_SKEW])]),
    (
        "position deletes",
        POSITIONAL,
        [(T.REWRITE_POSITION_DELETES, [ISSUE.TOO_MANY_DELETE_FILES, ISSUE.HIGH_DELETE_FILE_RATIO])],
    ),
    (
        "equality deletes",
        EQUALITY,
        [(T.REWRITE_DATA_FILES, [ISSUE.TOO_MANY_DELETE_FILES, ISSUE.HIGH_DELETE_FILE_RATIO])],
    ),
    (
        "deletion vectors",
        VECTORS,
        [(T.REWRITE_DATA_FILES, [ISSUE.TOO_MANY_DELETE_FILES, ISSUE.HIGH_DELETE_FILE_RATIO])],
    ),
    (
        "deletes of both kinds",
        MIXED,
        [
            (T.REWRITE_DATA_FILES, [ISSUE.TOO_MANY_DELETE_FILES, ISSUE.HIGH_DELETE_FILE_RATIO]),
            (T.REWRITE_POSITION_DELETES, [ISSUE.TOO_MANY_DELETE_FILES, ISSUE.HIGH_DELETE_FILE_RATIO]),
        ],
    ),
    (
        "deletes of an unknown kind",
        {"delete_file_count": 100},
        [(T.REWRITE_DATA_FILES, [ISSUE.TOO_MANY_DELETE_FILES, ISSUE.HIGH_DELETE_FILE_RATIO])],
    ),
    ("many snapshots", {"snapshot_count": 100}, [(T.EXPIRE_SNAPSHOTS, [ISSUE.TOO_MANY_SNAPSHOTS])]),
    (
        "old snapshots",
        {"oldest_snapshot_time_ms": ms(timedelta(days=8))},
        [(T.EXPIRE_SNAPSHOTS, [ISSUE.OLD_SNAPSHOTS])],
    ),
    ("many manifests", {"manifest_count": 100}, [(T.REWRITE_MANIFESTS, [ISSUE.TOO_MANY_MANIFESTS])]),
    ("large manifests", {"manifest_bytes": 2**30}, [(T.REWRITE_MANIFESTS, [ISSUE.LARGE_MANIFEST_LIST])]),
    ("many partitions: nothing helps", {"partition_count": 10_000}, []),
    ("stale metadata: nothing helps", {"newest_snapshot_time_ms": ms(timedelta(days=8))}, []),
    ("an empty table: nothing to do", {"data_file_count": 0}, []),
    (
        "in the order of a run",
        {"small_file_count": 300, "snapshot_count": 100, "manifest_count": 100} | POSITIONAL,
        [
            (T.REWRITE_DATA_FILES, [ISSUE.TOO_MANY_SMALL_FILES]),
            (T.REWRITE_POSITION_DELETES, [ISSUE.TOO_MANY_DELETE_FILES, ISSUE.HIGH_DELETE_FILE_RATIO]),
            (T.REWRITE_MANIFESTS, [ISSUE.TOO_MANY_MANIFESTS]),
            (T.EXPIRE_SNAPSHOTS, [ISSUE.TOO_MANY_SNAPSHOTS]),
        ],
    ),
]


@pytest.mark.parametrize(
    ("measured", "expected"), [row[1:] for row in ROWS], ids=[f"§5 Recommendations: {row[0]}" for row in ROWS]
)
def test_a_report_speaks_for(measured: dict[str, float], expected: list[tuple[OperationType, list[IssueType]]]) -> None:
    found = recommend(inspected(**measured))

    assert [(each.operation, list(each.issues)) for each in found] == expected


def test_a_recommendation_says_why_and_how_much() -> None:
    (found,) = recommend(inspected(small_file_count=300, reducible_file_count=280, reducible_bytes=5_000))

    assert (found.severity, found.reducible_file_count, found.reducible_bytes) == (Severity.WARNING, 280, 5_000)
    assert found.reason == "30 % of the data files are small; a rewrite would remove 280 files"


def test_the_worst_issue_is_the_severity() -> None:
    (found,) = recommend(inspected(snapshot_count=500, oldest_snapshot_time_ms=ms(timedelta(days=8))))

    assert (found.severity, len(found.issues)) == (Severity.CRITICAL, 2)


def test_a_table_that_could_not_be_read_gets_no_advice() -> None:
    assert recommend(HealthReport.unreadable("the catalog did not answer", now=NOW)) == []
