"""Operations in numbers, between the public API and the domain."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

from google.protobuf.duration_pb2 import Duration

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.ports.operations import Figures, OperationStats
from control_plane.rpc.convert.operations import METRIC_NAMES, type_to_proto
from control_plane.rpc.convert.values import to_datetime, to_timestamp
from floe.v1 import operation_pb2 as pb

Word = TypeVar("Word", bound=StrEnum)

_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)


def since_from_proto(request: pb.GetOperationStatsRequest, *, now: datetime, default: timedelta) -> datetime:
    """Where the numbers begin: `since`, else the window before now, else the default one."""
    if request.HasField("since"):
        if request.HasField("window"):
            raise InvalidArgument([FieldViolation("window", "stands instead of `since`; send one of them")])
        since = to_datetime(request.since, field="since")
        if since > now:
            raise InvalidArgument([FieldViolation("since", "is in the future")])
        return since
    window = _window(request.window) if request.HasField("window") else default
    # A window that is longer than time is everything.
    return now - window if window < now - _BEGINNING else _BEGINNING


def stats_to_proto(stats: OperationStats, *, since: datetime) -> pb.GetOperationStatsResponse:
    return pb.GetOperationStatsResponse(
        since=to_timestamp(since),
        overall=_figures(stats.overall),
        types=[
            pb.OperationTypeFigures(type=type_to_proto(kind), figures=_figures(figures))
            for kind, figures in stats.types.items()
        ],
    )


def _window(duration: Duration) -> timedelta:
    try:
        window = duration.ToTimedelta()
    except (ValueError, OverflowError):
        raise InvalidArgument([FieldViolation("window", "is no duration of at most 10,000 years")]) from None
    if window <= timedelta():
        raise InvalidArgument([FieldViolation("window", "must be above zero")])
    return window


def _figures(figures: Figures) -> pb.OperationFigures:
    message = pb.OperationFigures(
        total=figures.total,
        states=_counts(figures.states),
        failures=_counts(figures.failures),
        verifications=_counts(figures.verifications),
        success_rate=figures.success_rate,
        median_seconds=_seconds(figures.median),
        p95_seconds=_seconds(figures.p95),
    )
    for name, total in figures.metrics.items():
        if name in METRIC_NAMES:
            setattr(message.metrics, name, total)
    return message


def _counts(counts: Mapping[Word, int]) -> Mapping[str, int]:
    return {str(name): count for name, count in counts.items()}


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
