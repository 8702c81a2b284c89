"""What an operation would do to a table, from what was measured of it: docs/semantics.md, section Plans.

What nobody can tell is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

from control_plane.domain.health import HealthReport, Metric
from control_plane.domain.identifiers import OperationType
from control_plane.domain.observation import ExpiryPlan, LoadedTable
from control_plane.domain.wording import number

TARGET_DATA_FILE_BYTES: Final = 512 * 1024 * 1024
"""Iceberg's default of write.target-file-size-bytes."""
TARGET_DELETE_FILE_BYTES: Final = 64 * 1024 * 1024
"""Iceberg's default of write.delete.target-file-size-bytes."""
TARGET_MANIFEST_BYTES: Final = 8 * 1024 * 1024
"""Iceberg's default of commit.manifest.target-size-bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Files are data files, delete files or manifests, as the type has it."""

    input_files: int | None = None
    input_bytes: int | None = None
    output_files: int | None = None
    output_bytes: int | None = None
    expiring_snapshots: int | None = None
    retained_snapshots: int | None = None


@dataclass(frozen=True, slots=True)
class Risk:
    """`code` for machines, `text` for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast such operations went. `basis` says which, in words."""

    basis: str
    seconds_per_operation: float | None = None
    seconds_per_byte: float | None = None


def predict(
    kind: OperationType, action: Mapping[str, Any], report: HealthReport | None, expiry: ExpiryPlan | None
) -> Prediction:
    """What the operation would take and leave."""
    if kind is OperationType.EXPIRE_SNAPSHOTS:
        if expiry is None:
            return Prediction()
        return Prediction(expiring_snapshots=expiry.expiring_count, retained_snapshots=expiry.retained_count)
    if report is None:
        return Prediction()
    metrics = report.metrics
    match kind:
        case OperationType.REWRITE_DATA_FILES:
            return _compaction(metrics.reducible_file_count, metrics.reducible_bytes, action)
        case OperationType.REWRITE_POSITION_DELETES:
            alone = metrics.equality_delete_file_count.value == 0 and metrics.deletion_vector_count.value == 0
            size = metrics.delete_bytes.value if alone else None
            target = int(action.get("target_file_size_bytes") or TARGET_DELETE_FILE_BYTES)
            return _rewrite(metrics.position_delete_file_count.value, size, target)
        case OperationType.REWRITE_MANIFESTS:
            return _rewrite(metrics.manifest_count.value, metrics.manifest_bytes.value, TARGET_MANIFEST_BYTES)
        case OperationType.COMPUTE_STATISTICS:
            return Prediction(
                input_files=_whole(metrics.data_file_count.value), input_bytes=_whole(metrics.total_bytes.value)
            )
        case _:
            return Prediction()


def risks(
    kind: OperationType,
    prediction: Prediction,
    report: HealthReport | None,
    loaded: LoadedTable,
    expiry: ExpiryPlan | None,
    *,
    seconds: float | None,
    timeout: timedelta,
    health_max_age: timedelta,
    now: datetime,
) -> Iterator[Risk]:
    """What may make the prediction wrong, or the operation fail."""
    if not loaded.maintenance_enabled:
        yield Risk("maintenance_disabled", "the table's owner has turned maintenance off (floe.enabled=false)")
    if kind is OperationType.ORPHAN_CLEANUP:
        yield Risk("not_predicted", "which files are orphans is known only once they are listed")
    elif kind is OperationType.EXPIRE_SNAPSHOTS:
        yield from _expiry_risks(prediction, loaded, expiry)
    else:
        yield from _report_risks(report, loaded, health_max_age, now)
    if seconds is not None and seconds > timeout.total_seconds():
        limit = number(timeout.total_seconds() / 60)
        yield Risk("longer_than_timeout", f"it may take {number(seconds / 60)} min, and is cancelled after {limit} min")


def duration(prediction: Prediction, pace: Pace) -> tuple[float | None, str]:
    """Seconds that it may take, and what they are taken from."""
    if pace.seconds_per_byte is not None and prediction.input_bytes is not None:
        return pace.seconds_per_byte * prediction.input_bytes, f"{pace.basis}, by the bytes that it rewrites"
    if pace.seconds_per_operation is not None:
        return pace.seconds_per_operation, f"{pace.basis}, whatever their size"
    return None, "no such operation has succeeded yet"


def _compaction(reducible: Metric, size: Metric, action: Mapping[str, Any]) -> Prediction:
    """The report knows how many files a bin-pack would remove: what it reads is that and what it writes."""
    if reducible.value is None or size.value is None:
        return Prediction()
    if reducible.value == 0:
        return Prediction(input_files=0, input_bytes=0, output_files=0, output_bytes=0)
    written = max(1, ceil(size.value / int(action.get("target_file_size_bytes") or TARGET_DATA_FILE_BYTES)))
    removed = int(reducible.value)
    return Prediction(
        input_files=removed + written, input_bytes=int(size.value), output_files=written, output_bytes=int(size.value)
    )


def _rewrite(count: float | None, size: float | None, target: int) -> Prediction:
    files = _whole(count)
    if files == 0:
        return Prediction(input_files=0, input_bytes=0, output_files=0, output_bytes=0)
    written = None if size is None else max(1, ceil(size / target))
    return Prediction(input_files=files, input_bytes=_whole(size), output_files=written, output_bytes=_whole(size))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _expiry_risks(prediction: Prediction, loaded: LoadedTable, expiry: ExpiryPlan | None) -> Iterator[Risk]:
    if expiry is None:
        return
    if expiry.table.metadata_location != loaded.metadata_location:
        yield Risk("table_changed", "somebody committed to the table while it was planned")
    named = _names([ref.name for ref in expiry.refs if ref.name != "main"])
    if named:
        yield Risk("refs", f"snapshots that branches and tags need stay: {named}")
    if prediction.expiring_snapshots:
        yield Risk("time_travel", "queries of the expired snapshots fail, running ones too")


def _report_risks(
    report: HealthReport | None, loaded: LoadedTable, max_age: timedelta, now: datetime
) -> Iterator[Risk]:
    if report is None or report.error:
        why = f": {report.error}" if report is not None else ""
        yield Risk("no_report", f"the table was not measured{why}; `floe table inspect` does it now")
        return
    if report.metrics.metadata_location != loaded.metadata_location:
        yield Risk("stale_report", "the table has changed since it was measured; `floe table inspect` measures it now")
    elif now - report.measure_time > max_age:
        age = number((now - report.measure_time).total_seconds() / 3600)
        yield Risk("old_report", f"the table was measured {age} h ago")
    if report.metrics.scan_mode == "sample":
        yield Risk("sampled", "only some of the table's manifests were read: its figures are estimates")


def _names(names: Sequence[str], *, most: int = 5) -> str:
    shown = ", ".join(sorted(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
