"""How healthy a table is: what an inspection measured, and what follows from it under the thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

from control_plane.domain.metrics import FIGURE_NAMES, METRIC_NAMES, UNKNOWN, HealthMetrics, Knowledge, Metric, figure
from control_plane.domain.thresholds import Limits, Thresholds

__all__ = [
    "FIGURE_NAMES",
    "METRIC_NAMES",
    "UNKNOWN",
    "HealthIssue",
    "HealthMetrics",
    "HealthReport",
    "HealthStatus",
    "IssueType",
    "Knowledge",
    "Metric",
    "Severity",
    "assess",
    "figure",
]

CRITICAL_POINTS: Final = 30
WARNING_POINTS: Final = 10


class IssueType(StrEnum):
    TOO_MANY_SMALL_FILES = "TOO_MANY_SMALL_FILES"
    TOO_MANY_LARGE_FILES = "TOO_MANY_LARGE_FILES"
    HIGH_FILE_COUNT = "HIGH_FILE_COUNT"
    TOO_MANY_SNAPSHOTS = "TOO_MANY_SNAPSHOTS"
    OLD_SNAPSHOTS = "OLD_SNAPSHOTS"
    TOO_MANY_DELETE_FILES = "TOO_MANY_DELETE_FILES"
    HIGH_DELETE_FILE_RATIO = "HIGH_DELETE_FILE_RATIO"
    TOO_MANY_MANIFESTS = "TOO_MANY_MANIFESTS"
    LARGE_MANIFEST_LIST = "LARGE_MANIFEST_LIST"
    TOO_MANY_PARTITIONS = "TOO_MANY_PARTITIONS"
    PARTITION_SKEW = "PARTITION_SKEW"
    TABLE_EMPTY = "TABLE_EMPTY"
    STALE_METADATA = "STALE_METADATA"


class Severity(StrEnum):
    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class HealthStatus(StrEnum):
    HEALTHY = "HEALTHY"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class HealthIssue:
    """One limit that was reached, and the points that it takes off the score."""

    type: IssueType
    severity: Severity
    metric: str
    actual: float
    limit: float
    message: str
    knowledge: Knowledge = Knowledge.EXACT

    @property
    def points(self) -> int:
        return {Severity.CRITICAL: CRITICAL_POINTS, Severity.WARNING: WARNING_POINTS, Severity.INFO: 0}[self.severity]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What one inspection says of a table. One that could not be read is UNKNOWN, without score; `error` says why."""

    metrics: HealthMetrics
    issues: tuple[HealthIssue, ...]
    status: HealthStatus
    score: int | None
    measure_time: datetime
    error: str = ""

    @property
    def composition(self) -> Mapping[IssueType, int]:
        """What the score is made of: the points that each issue takes off 100 (the score ends at 0)."""
        return {issue.type: issue.points for issue in self.issues if issue.points}

    @classmethod
    def unreadable(cls, error: str, *, now: datetime) -> Self:
        return cls(
            metrics=HealthMetrics(), issues=(), status=HealthStatus.UNKNOWN, score=None, measure_time=now, error=error
        )


@dataclass(frozen=True, slots=True)
class _Check:
    """One row of the table of checks: a figure, the limits it is held against, and the words for it."""

    type: IssueType
    figure: str
    limits: Callable[[Thresholds], Limits]
    message: str


_CHECKS: Final = (
    _Check(
        IssueType.TOO_MANY_SMALL_FILES,
        "small_file_percent",
        lambda t: t.small_file_percent,
        "{actual} % of the data files are small",
    ),
    _Check(
        IssueType.TOO_MANY_LARGE_FILES,
        "large_file_percent",
        lambda t: t.large_file_percent,
        "{actual} % of the data files are large",
    ),
    _Check(IssueType.HIGH_FILE_COUNT, "data_file_count", lambda t: t.file_count, "the table has {actual} data files"),
    _Check(
        IssueType.TOO_MANY_SNAPSHOTS, "snapshot_count", lambda t: t.snapshot_count, "the table keeps {actual} snapshots"
    ),
    _Check(
        IssueType.OLD_SNAPSHOTS,
        "oldest_snapshot_age_days",
        lambda t: t.snapshot_age_days,
        "the oldest snapshot is {actual} days old",
    ),
    _Check(
        IssueType.TOO_MANY_DELETE_FILES,
        "delete_file_count",
        lambda t: t.delete_file_count,
        "readers merge {actual} delete files",
    ),
    _Check(
        IssueType.HIGH_DELETE_FILE_RATIO,
        "delete_file_ratio",
        lambda t: t.delete_file_ratio,
        "there are {actual} delete files for each data file",
    ),
    _Check(
        IssueType.TOO_MANY_MANIFESTS,
        "manifest_count",
        lambda t: t.manifest_count,
        "the current snapshot has {actual} manifests",
    ),
    _Check(
        IssueType.LARGE_MANIFEST_LIST,
        "manifest_bytes",
        lambda t: t.manifest_size_bytes,
        "the manifests hold {actual} bytes",
    ),
    _Check(
        IssueType.TOO_MANY_PARTITIONS,
        "partition_count",
        lambda t: t.partition_count,
        "the table has {actual} partitions",
    ),
    _Check(
        IssueType.PARTITION_SKEW,
        "partition_skew",
        lambda t: t.partition_skew,
        "the fullest partition has {actual} times the files of the mean one",
    ),
    _Check(
        IssueType.STALE_METADATA,
        "newest_snapshot_age_days",
        lambda t: t.stale_metadata_days,
        "the newest snapshot is {actual} days old",
    ),
)


def assess(metrics: HealthMetrics, thresholds: Thresholds, *, now: datetime) -> HealthReport:
    """The report on what was measured. An unknown figure is no issue; where nothing is known, the status is UNKNOWN."""
    held = [(check, figure(metrics, check.figure, now=now)) for check in _CHECKS]
    issues = [issue for check, found in held if (issue := _issue(check, found, metrics, thresholds))]
    if metrics.data_file_count.value == 0:
        issues.append(
            HealthIssue(IssueType.TABLE_EMPTY, Severity.INFO, "data_file_count", 0, 0, "the table has no data files")
        )
    if all(found.value is None for _, found in held):
        return HealthReport(metrics=metrics, issues=(), status=HealthStatus.UNKNOWN, score=None, measure_time=now)
    return HealthReport(
        metrics=metrics,
        issues=tuple(issues),
        status=_status(issues),
        score=max(0, 100 - sum(issue.points for issue in issues)),
        measure_time=now,
    )


def _issue(check: _Check, found: Metric, metrics: HealthMetrics, thresholds: Thresholds) -> HealthIssue | None:
    limits = check.limits(thresholds)
    if found.value is None or found.value < limits.warning:
        return None
    severity, limit = Severity.WARNING, limits.warning
    if found.value >= limits.critical:
        severity, limit = Severity.CRITICAL, limits.critical
    message = check.message.format(actual=f"{found.value:,.10g}" if found.value >= 100 else f"{found.value:.3g}")
    if check.type is IssueType.TOO_MANY_SMALL_FILES and metrics.reducible_file_count.value == 0:
        # A partition's only file is small by nature: nothing could be done about it.
        severity, message = Severity.INFO, f"{message}, and no rewrite would make them fewer"
    return HealthIssue(check.type, severity, check.figure, found.value, limit, message, found.knowledge)


def _status(issues: Iterable[HealthIssue]) -> HealthStatus:
    severities = {issue.severity for issue in issues}
    if Severity.CRITICAL in severities:
        return HealthStatus.CRITICAL
    return HealthStatus.WARNING if Severity.WARNING in severities else HealthStatus.HEALTHY
