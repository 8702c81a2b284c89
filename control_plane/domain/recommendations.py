"""Which operations a health report speaks for. They veto nothing that a schedule and its conditions decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from control_plane.domain.health import HealthIssue, HealthReport, IssueType, Severity
from control_plane.domain.identifiers import OperationType

_OPERATIONS: Final = {
    IssueType.TOO_MANY_SMALL_FILES: OperationType.REWRITE_DATA_FILES,
    IssueType.TOO_MANY_LARGE_FILES: OperationType.REWRITE_DATA_FILES,
    IssueType.HIGH_FILE_COUNT: OperationType.REWRITE_DATA_FILES,
    IssueType.PARTITION_SKEW: OperationType.REWRITE_DATA_FILES,
    IssueType.TOO_MANY_SNAPSHOTS: OperationType.EXPIRE_SNAPSHOTS,
    IssueType.OLD_SNAPSHOTS: OperationType.EXPIRE_SNAPSHOTS,
    IssueType.TOO_MANY_MANIFESTS: OperationType.REWRITE_MANIFESTS,
    IssueType.LARGE_MANIFEST_LIST: OperationType.REWRITE_MANIFESTS,
}
_DELETES: Final = frozenset({IssueType.TOO_MANY_DELETE_FILES, IssueType.HIGH_DELETE_FILE_RATIO})
_FEWER_FILES: Final = frozenset({IssueType.TOO_MANY_SMALL_FILES, IssueType.HIGH_FILE_COUNT})
_WORST_FIRST: Final = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One operation, and the issues that it would make smaller."""

    operation: OperationType
    severity: Severity
    reason: str
    issues: Sequence[IssueType]
    reducible_file_count: float | None = None
    """The data files that a rewrite would remove. None: not known, or the operation removes none."""
    reducible_bytes: float | None = None
    """The bytes that this rewrite would read and write."""


def operations_for(issue: HealthIssue, report: HealthReport) -> Sequence[OperationType]:
    """The operations that can make an issue smaller; none for one that maintenance cannot help."""
    if issue.severity is Severity.INFO:
        return ()
    if issue.type in _DELETES:
        return tuple(_against_deletes(report))
    if issue.type in _FEWER_FILES and report.metrics.reducible_file_count.value == 0:
        return ()
    operation = _OPERATIONS.get(issue.type)
    return () if operation is None else (operation,)


def recommend(report: HealthReport) -> Sequence[Recommendation]:
    """The operations that would make the table healthier, in the order of a run."""
    issues: dict[OperationType, list[HealthIssue]] = {}
    for issue in report.issues:
        for operation in operations_for(issue, report):
            issues.setdefault(operation, []).append(issue)
    return [_recommendation(kind, issues[kind], report) for kind in OperationType if kind in issues]


def _recommendation(kind: OperationType, issues: Sequence[HealthIssue], report: HealthReport) -> Recommendation:
    severity = next(each for each in _WORST_FIRST if any(issue.severity is each for issue in issues))
    reason = "; ".join(issue.message for issue in issues)
    files = size = None
    if kind is OperationType.REWRITE_DATA_FILES:
        files, size = report.metrics.reducible_file_count.value, report.metrics.reducible_bytes.value
        if files:
            reason += f"; a rewrite would remove {files:,.10g} files"
    return Recommendation(
        operation=kind,
        severity=severity,
        reason=reason,
        issues=tuple(issue.type for issue in issues),
        reducible_file_count=files,
        reducible_bytes=size,
    )


def _against_deletes(report: HealthReport) -> Iterator[OperationType]:
    """Position deletes are rewritten; equality deletes and deletion vectors go when the rows are written anew."""
    metrics = report.metrics
    positional = bool(metrics.position_delete_file_count.value)
    if not positional or metrics.equality_delete_file_count.value or metrics.deletion_vector_count.value:
        yield OperationType.REWRITE_DATA_FILES
    if positional:
        yield OperationType.REWRITE_POSITION_DELETES
