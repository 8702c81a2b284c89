"""What an inspection measures of a table, and the figures that are reckoned from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from math import isfinite
from typing import Final, Self

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


def figure(metrics: HealthMetrics, name: str, *, now: datetime) -> Metric:
    """A metric, or what is reckoned from several of them, by its name: one of FIGURE_NAMES. Ages are those at `now`."""
    reckoned = _RECKONED.get(name)
    if reckoned is not None:
        return reckoned(metrics, now.timestamp() * 1000)
    metric: Metric = getattr(metrics, name)
    return metric


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


_RECKONED: Final[Mapping[str, Callable[[HealthMetrics, float], Metric]]] = {
    "small_file_percent": lambda m, _: _ratio(m.small_file_count, m.data_file_count, scale=100),
    "large_file_percent": lambda m, _: _ratio(m.large_file_count, m.data_file_count, scale=100),
    "delete_file_ratio": lambda m, _: _ratio(m.delete_file_count, m.data_file_count),
    "partition_skew": lambda m, _: _ratio(m.max_files_per_partition, m.mean_files_per_partition),
    "oldest_snapshot_age_days": lambda m, now_ms: _days_since(m.oldest_snapshot_time_ms, now_ms),
    "newest_snapshot_age_days": lambda m, now_ms: _days_since(m.newest_snapshot_time_ms, now_ms),
}
FIGURE_NAMES: Final = (*METRIC_NAMES, *_RECKONED)
"""What health, conditions and people speak of."""
