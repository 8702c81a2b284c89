"""How healthy a table is: what an inspection measured, and what follows from it under the thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from math import isfinite
from typing import Final, Self

from control_plane.domain.thresholds import Limits, Thresholds

CRITICAL_POINTS: Final = 30
WARNING_POINTS: Final = 10
_DAY_MS: Final = 24 * 60 * 60 * 1000


class Knowledge(StrEnum):
    """How a figure is known."""

    EXACT = "EXACT"
    ESTIMATED = "ESTIMATED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure and how it is known. It has a value exactly if it is not UNKNOWN."""

    value: float | None
    knowledge: Knowledge

    def __post_init__(self) -> None:
        if (self.value is None) != (self.knowledge is Knowledge.UNKNOWN):
            raise ValueError(f"a metric has a value unless it is UNKNOWN, not {self.value} and {self.knowledge}")
        if self.value is not None and not isfinite(self.value):
            raise ValueError(f"a metric is a finite number, not {self.value}")

    @classmethod
    def exact(cls, value: float) -> Self:
        return cls(value, Knowledge.EXACT)

    @classmethod
    def estimated(cls, value: float) -> Self:
        return cls(value, Knowledge.ESTIMATED)


UNKNOWN: Final = Metric(None, Knowledge.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthMetrics:
    """What one inspection measured, at one metadata file. What it did not measure is UNKNOWN, never 0.

    Times are milliseconds since 1970 in UTC, as in Iceberg's metadata. A delete file is counted once, whatever it
    touches, and an unpartitioned table has one partition. Files are small and large by the thresholds' sizes.
    """

    data_file_count: Metric = UNKNOWN
    small_file_count: Metric = UNKNOWN
    large_file_count: Metric = UNKNOWN
    total_bytes: Metric = UNKNOWN
    record_count: Metric = UNKNOWN
    delete_file_count: Metric = UNKNOWN
    position_delete_file_count: Metric = UNKNOWN
    equality_delete_file_count: Metric = UNKNOWN
    deletion_vector_count: Metric = UNKNOWN
    delete_bytes: Metric = UNKNOWN
    snapshot_count: Metric = UNKNOWN
    oldest_snapshot_time_ms: Metric = UNKNOWN
    newest_snapshot_time_ms: Metric = UNKNOWN
    manifest_count: Metric = UNKNOWN
    manifest_bytes: Metric = UNKNOWN
    partition_count: Metric = UNKNOWN
    max_files_per_partition: Metric = UNKNOWN
    mean_files_per_partition: Metric = UNKNOWN
    reducible_file_count: Metric = UNKNOWN
    """The files that a bin-pack at the table's target size would remove, by the engine's own selection rules."""
    reducible_bytes: Metric = UNKNOWN
    """The bytes that this bin-pack would rewrite."""
    metadata_location: str = ""
    format_version: int | None = None
    current_snapshot_id: int | None = None
    scan_mode: str = ""
    """`metadata`, `scan` or `sample`."""

    @classmethod
    def measured(
        cls,
        measurements: Iterable[tuple[str, Metric]],
        *,
        metadata_location: str = "",
        format_version: int | None = None,
        current_snapshot_id: int | None = None,
        scan_mode: str = "",
    ) -> Self:
        """The metrics by name. A name that this control plane does not know, from a newer executor, is left out."""
        known = {name: metric for name, metric in measurements if name in METRIC_NAMES}
        return cls(
            metadata_location=metadata_location,
            format_version=format_version,
            current_snapshot_id=current_snapshot_id,
            scan_mode=scan_mode,
            **known,
        )

    def named(self) -> Iterator[tuple[str, Metric]]:
        """Every metric with its name, the unknown ones too."""
        for name in METRIC_NAMES:
            yield name, getattr(self, name)


METRIC_NAMES: Final = tuple(field.name for field in fields(HealthMetrics) if field.default is UNKNOWN)


def figures(metrics: HealthMetrics, *, now: datetime) -> Mapping[str, Metric]:
    """Every metric, and what is reckoned from several of them, by name: what health, conditions and people speak of."""
    now_ms = now.timestamp() * 1000
    return dict(metrics.named()) | {
        "small_file_percent": _ratio(metrics.small_file_count, metrics.data_file_count, scale=100),
        "large_file_percent": _ratio(metrics.large_file_count, metrics.data_file_count, scale=100),
        "delete_file_ratio": _ratio(metrics.delete_file_count, metrics.data_file_count),
        "partition_skew": _ratio(metrics.max_files_per_partition, metrics.mean_files_per_partition),
        "oldest_snapshot_age_days": _days_since(metrics.oldest_snapshot_time_ms, now_ms),
        "newest_snapshot_age_days": _days_since(metrics.newest_snapshot_time_ms, now_ms),
    }


FIGURE_NAMES: Final = (
    *METRIC_NAMES,
    "small_file_percent",
    "large_file_percent",
    "delete_file_ratio",
    "partition_skew",
    "oldest_snapshot_age_days",
    "newest_snapshot_age_days",
)


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
    known = figures(metrics, now=now)
    held = [(check, known[check.figure]) for check in _CHECKS]
    issues = [issue for check, figure in held if (issue := _issue(check, figure, metrics, thresholds))]
    if metrics.data_file_count.value == 0:
        issues.append(
            HealthIssue(IssueType.TABLE_EMPTY, Severity.INFO, "data_file_count", 0, 0, "the table has no data files")
        )
    if all(figure.value is None for _, figure in held):
        return HealthReport(metrics=metrics, issues=(), status=HealthStatus.UNKNOWN, score=None, measure_time=now)
    return HealthReport(
        metrics=metrics,
        issues=tuple(issues),
        status=_status(issues),
        score=max(0, 100 - sum(issue.points for issue in issues)),
        measure_time=now,
    )


def _issue(check: _Check, figure: Metric, metrics: HealthMetrics, thresholds: Thresholds) -> HealthIssue | None:
    limits = check.limits(thresholds)
    if figure.value is None or figure.value < limits.warning:
        return None
    severity, limit = Severity.WARNING, limits.warning
    if figure.value >= limits.critical:
        severity, limit = Severity.CRITICAL, limits.critical
    message = check.message.format(actual=f"{figure.value:,.10g}" if figure.value >= 100 else f"{figure.value:.3g}")
    if check.type is IssueType.TOO_MANY_SMALL_FILES and metrics.reducible_file_count.value == 0:
        # A partition's only file is small by nature: nothing could be done about it.
        severity, message = Severity.INFO, f"{message}, and no rewrite would make them fewer"
    return HealthIssue(check.type, severity, check.figure, figure.value, limit, message, figure.knowledge)


def _status(issues: Iterable[HealthIssue]) -> HealthStatus:
    severities = {issue.severity for issue in issues}
    if Severity.CRITICAL in severities:
        return HealthStatus.CRITICAL
    return HealthStatus.WARNING if Severity.WARNING in severities else HealthStatus.HEALTHY


def _ratio(part: Metric, whole: Metric, *, scale: float = 1) -> Metric:
    """Part of whole, known as well as the worse known of the two; unknown where there is no whole."""
    if part.value is None or not whole.value:
        return UNKNOWN
    estimated = Knowledge.ESTIMATED in (part.knowledge, whole.knowledge)
    # Multiplied first, so that a percentage that falls on a limit is not rounded below it.
    return Metric(part.value * scale / whole.value, Knowledge.ESTIMATED if estimated else Knowledge.EXACT)


def _days_since(time_ms: Metric, now_ms: float) -> Metric:
    if time_ms.value is None:
        return UNKNOWN
    return Metric(max(0.0, now_ms - time_ms.value) / _DAY_MS, time_ms.knowledge)
