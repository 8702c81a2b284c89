"""Which conditions gate which operation: docs/semantics.md §3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from control_plane.domain.identifiers import OperationType
from control_plane.domain.scheduling import Outcomes
from control_plane.domain.trigger_conditions import TriggerConditions, TriggerLogic

_T = OperationType
GATED_BY_TIME_ALONE: Final = frozenset({_T.ORPHAN_CLEANUP, _T.COMPUTE_STATISTICS})
"""No figure of a health report speaks of these."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A field of the conditions, the figure it is held against, and the operations that it speaks of."""

    field: str
    json_name: str
    figure: str
    gates: frozenset[OperationType]
    words: str


_DATA: Final = frozenset({_T.REWRITE_DATA_FILES})
_DELETES: Final = frozenset({_T.REWRITE_DATA_FILES, _T.REWRITE_POSITION_DELETES})
_SNAPSHOTS: Final = frozenset({_T.EXPIRE_SNAPSHOTS})
_MANIFESTS: Final = frozenset({_T.REWRITE_MANIFESTS})

THRESHOLDS: Final = (
    Threshold(
        "small_file_percentage_above",
        "smallFilePercentageAbove",
        "small_file_percent",
        _DATA,
        "{actual} % of the data files are small, the policy asks for at least {limit} %",
    ),
    Threshold(
        "small_file_count_above",
        "smallFileCountAbove",
        "small_file_count",
        _DATA,
        "{actual} data files are small, the policy asks for at least {limit}",
    ),
    Threshold(
        "reducible_file_count_above",
        "reducibleFileCountAbove",
        "reducible_file_count",
        _DATA,
        "a rewrite would remove {actual} data files, the policy asks for at least {limit}",
    ),
    Threshold(
        "total_file_size_above_bytes",
        "totalFileSizeAboveBytes",
        "total_bytes",
        _DATA,
        "the data files hold {actual} bytes, the policy asks for at least {limit}",
    ),
    Threshold(
        "delete_file_count_above",
        "deleteFileCountAbove",
        "delete_file_count",
        _DELETES,
        "the table has {actual} delete files, the policy asks for at least {limit}",
    ),
    Threshold(
        "delete_file_ratio_above",
        "deleteFileRatioAbove",
        "delete_file_ratio",
        _DELETES,
        "there are {actual} delete files for each data file, the policy asks for at least {limit}",
    ),
    Threshold(
        "snapshot_count_above",
        "snapshotCountAbove",
        "snapshot_count",
        _SNAPSHOTS,
        "the table keeps {actual} snapshots, the policy asks for at least {limit}",
    ),
    Threshold(
        "snapshot_age_above_days",
        "snapshotAgeAboveDays",
        "oldest_snapshot_age_days",
        _SNAPSHOTS,
        "the oldest snapshot is {actual} days old, the policy asks for at least {limit}",
    ),
    Threshold(
        "partition_count_above",
        "partitionCountAbove",
        "partition_count",
        _DATA,
        "the table has {actual} partitions, the policy asks for at least {limit}",
    ),
    Threshold(
        "partition_skew_above",
        "partitionSkewAbove",
        "partition_skew",
        _DATA,
        "the fullest partition has {actual} times the files of the mean one, the policy asks for at least {limit}",
    ),
    Threshold(
        "manifest_count_above",
        "manifestCountAbove",
        "manifest_count",
        _MANIFESTS,
        "the current snapshot has {actual} manifests, the policy asks for at least {limit}",
    ),
    Threshold(
        "manifest_size_above_bytes",
        "manifestSizeAboveBytes",
        "manifest_bytes",
        _MANIFESTS,
        "the manifests hold {actual} bytes, the policy asks for at least {limit}",
    ),
)


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The conditions as far as they gate one operation type."""

    thresholds: Sequence[tuple[Threshold, float]]
    expression: str
    min_interval: timedelta | None
    critical_delay: timedelta | None
    match_all: bool
    left_out: Sequence[str]
    """The JSON names of the conditions that speak of other operations."""

    @property
    def is_empty(self) -> bool:
        return not self.asks_health and self.min_interval is None and self.critical_delay is None

    @property
    def asks_health(self) -> bool:
        return bool(self.thresholds or self.expression)


def narrowed(conditions: TriggerConditions | None, kind: OperationType) -> Narrowed:
    """A threshold gates the operations that it speaks of; one that stands under `perOperation` gates that operation."""
    if conditions is None:
        return Narrowed((), "", None, None, match_all=False, left_out=())
    own = conditions.per_operation.get(kind)
    layers = [layer for layer in (own, conditions) if layer is not None]

    def first(field: str) -> object:
        return next((value for layer in layers if (value := getattr(layer, field)) is not None), None)

    thresholds, left_out = [], []
    for threshold in THRESHOLDS:
        limit = getattr(own, threshold.field, None)
        if (
            limit is None
            and (limit := getattr(conditions, threshold.field)) is not None
            and kind not in threshold.gates
        ):
            left_out.append(threshold.json_name)
        elif limit is not None:
            thresholds.append((threshold, float(limit)))
    expression = (own.expression if own is not None else None) or ""
    if not expression and conditions.expression:
        if kind in GATED_BY_TIME_ALONE:
            left_out.append("expression")
        else:
            expression = conditions.expression
    interval = conditions.per_operation_min_interval_minutes.get(kind, first("min_interval_minutes"))
    delay = first("critical_pipeline_max_delay_minutes")
    return Narrowed(
        thresholds,
        expression,
        timedelta(minutes=interval) if isinstance(interval, int) and interval else None,
        timedelta(minutes=delay) if first("critical_pipeline") is True and isinstance(delay, int) else None,
        match_all=first("trigger_logic") is TriggerLogic.AND,
        left_out=left_out,
    )


def min_interval_end(gate: Narrowed, outcomes: Outcomes) -> datetime | None:
    """From when on the minimum interval lets it run. None: it always does."""
    if gate.min_interval is None or outcomes.last_success_time is None:
        return None
    return outcomes.last_success_time + gate.min_interval
