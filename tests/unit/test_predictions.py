"""What operations would do, from what was measured. The rows name the sections of docs/semantics.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from control_plane.domain.health import HealthMetrics, HealthReport, Metric, assess
from control_plane.domain.identifiers import OperationType
from control_plane.domain.observation import ExpiryPlan, LoadedTable, SnapshotRef
from control_plane.domain.predictions import Pace, Prediction, Risk, duration, predict, risks
from control_plane.domain.thresholds import DEFAULT
from tests.support.deciding import HOUR, NOON

T = OperationType
MIB = 2**20
TABLE = LoadedTable("uuid", "s3://b/t", "v1", 2)  # type: ignore[arg-type]
NOTHING = Prediction(input_files=0, input_bytes=0, output_files=0, output_bytes=0)


def measured(figures: Mapping[str, float], *, scan_mode: str = "scan", location: str = "v1") -> HealthReport:
    metrics = HealthMetrics.measured(
        ((name, Metric.exact(value)) for name, value in figures.items()),
        metadata_location=location,
        scan_mode=scan_mode,
    )
    return assess(metrics, DEFAULT, now=NOON)


def report(*, scan_mode: str = "scan", location: str = "v1", age: timedelta = timedelta()) -> HealthReport:
    return replace(measured({}, scan_mode=scan_mode, location=location), measure_time=NOON - age)


def files(count: int | None, size: int | None, written: int | None) -> Prediction:
    return Prediction(input_files=count, input_bytes=size, output_files=written, output_bytes=size)


PREDICTIONS: list[tuple[str, OperationType, dict[str, Any], dict[str, float], Prediction]] = [
    (
        "a compaction at Iceberg's size",
        T.REWRITE_DATA_FILES,
        {},
        {"reducible_file_count": 98, "reducible_bytes": 600 * MIB},
        files(100, 600 * MIB, 2),
    ),
    (
        "a compaction at the policy's size",
        T.REWRITE_DATA_FILES,
        {"target_file_size_bytes": 100 * MIB},
        {"reducible_file_count": 94, "reducible_bytes": 600 * MIB},
        files(100, 600 * MIB, 6),
    ),
    (
        "it writes one file at least",
        T.REWRITE_DATA_FILES,
        {},
        {"reducible_file_count": 9, "reducible_bytes": 10},
        files(10, 10, 1),
    ),
    (
        "nothing can be reduced",
        T.REWRITE_DATA_FILES,
        {},
        {"reducible_file_count": 0, "reducible_bytes": 0, "data_file_count": 50},
        NOTHING,
    ),
    ("unknown stays unknown", T.REWRITE_DATA_FILES, {}, {"data_file_count": 50, "total_bytes": 99}, Prediction()),
    (
        "position deletes",
        T.REWRITE_POSITION_DELETES,
        {},
        {
            "position_delete_file_count": 30,
            "equality_delete_file_count": 0,
            "deletion_vector_count": 0,
            "delete_bytes": 100 * MIB,
        },
        files(30, 100 * MIB, 2),
    ),
    (
        "their bytes are not known beside others",
        T.REWRITE_POSITION_DELETES,
        {},
        {"position_delete_file_count": 30, "equality_delete_file_count": 4, "delete_bytes": 100 * MIB},
        files(30, None, None),
    ),
    (
        "no position deletes",
        T.REWRITE_POSITION_DELETES,
        {},
        {"position_delete_file_count": 0, "equality_delete_file_count": 4, "delete_bytes": 100 * MIB},
        NOTHING,
    ),
    (
        "manifests of 8 MiB",
        T.REWRITE_MANIFESTS,
        {},
        {"manifest_count": 200, "manifest_bytes": 20 * MIB},
        files(200, 20 * MIB, 3),
    ),
    (
        "statistics read everything",
        T.COMPUTE_STATISTICS,
        {},
        {"data_file_count": 50, "total_bytes": 99},
        Prediction(input_files=50, input_bytes=99),
    ),
    ("orphans are not predicted", T.ORPHAN_CLEANUP, {}, {"data_file_count": 50}, Prediction()),
    ("an expiry without its plan", T.EXPIRE_SNAPSHOTS, {}, {"snapshot_count": 50}, Prediction()),
]


@pytest.mark.parametrize(
    ("kind", "action", "figures", "expected"),
    [row[1:] for row in PREDICTIONS],
    ids=[f"§9 Plans: {row[0]}" for row in PREDICTIONS],
)
def test_what_an_operation_would_do(
    kind: OperationType, action: dict[str, Any], figures: dict[str, float], expected: Prediction
) -> None:
    assert predict(kind, action, measured(figures), None) == expected
    assert predict(kind, action, None, None) == Prediction()


def test_an_expiry_is_predicted_by_its_plan_and_not_by_the_report() -> None:
    plan = ExpiryPlan(TABLE, expiring_count=7, retained_count=3)
    expected = Prediction(expiring_snapshots=7, retained_snapshots=3)
    assert predict(T.EXPIRE_SNAPSHOTS, {}, measured({"snapshot_count": 99}), plan) == expected


PACES: list[tuple[str, Prediction, Pace, float | None, str]] = [
    ("by bytes", files(9, 1_000, 1), Pace("so", 60.0, 0.5), 500.0, "so, by the bytes that it rewrites"),
    ("by number", Prediction(), Pace("so", 60.0, 0.5), 60.0, "so, whatever their size"),
    ("bytes without a rate", files(9, 1_000, 1), Pace("so", 60.0), 60.0, "so, whatever their size"),
    ("nothing is known", files(9, 1_000, 1), Pace("so"), None, "no such operation has succeeded yet"),
]


@pytest.mark.parametrize(
    ("prediction", "pace", "seconds", "basis"),
    [row[1:] for row in PACES],
    ids=[f"§9 Plans, the duration: {row[0]}" for row in PACES],
)
def test_how_long_it_may_take(prediction: Prediction, pace: Pace, seconds: float | None, basis: str) -> None:
    assert duration(prediction, pace) == (seconds, basis)


def found(
    kind: OperationType,
    health: HealthReport | None = None,
    expiry: ExpiryPlan | None = None,
    *,
    table: LoadedTable = TABLE,
    seconds: float | None = None,
) -> list[Risk]:
    prediction = predict(kind, {}, health, expiry)
    return list(
        risks(
            kind,
            prediction,
            health,
            table,
            expiry,
            seconds=seconds,
            timeout=HOUR,
            health_max_age=HOUR,
            now=NOON,
        )
    )


OFF = LoadedTable("uuid", "s3://b/t", "v1", 2, maintenance_enabled=False)  # type: ignore[arg-type]
MOVED = LoadedTable("uuid", "s3://b/t", "v0", 2)  # type: ignore[arg-type]
RISKS: list[tuple[str, list[Risk], list[str]]] = [
    ("a fresh report", found(T.REWRITE_DATA_FILES, report()), []),
    ("no report", found(T.REWRITE_DATA_FILES), ["no_report"]),
    (
        "a table that could not be read",
        found(T.REWRITE_DATA_FILES, HealthReport.unreadable("x", now=NOON)),
        ["no_report"],
    ),
    ("a report of another metadata file", found(T.REWRITE_DATA_FILES, report(location="v0")), ["stale_report"]),
    ("an old report of the same", found(T.REWRITE_DATA_FILES, report(age=2 * HOUR)), ["old_report"]),
    ("a sample", found(T.REWRITE_DATA_FILES, report(scan_mode="sample")), ["sampled"]),
    ("its owner's wish", found(T.REWRITE_DATA_FILES, report(), table=OFF), ["maintenance_disabled"]),
    ("longer than it may take", found(T.REWRITE_DATA_FILES, report(), seconds=3_601), ["longer_than_timeout"]),
    ("orphans", found(T.ORPHAN_CLEANUP, report()), ["not_predicted"]),
    ("an expiry of nothing", found(T.EXPIRE_SNAPSHOTS, None, ExpiryPlan(TABLE)), []),
    ("an expiry of something", found(T.EXPIRE_SNAPSHOTS, None, ExpiryPlan(TABLE, expiring_count=1)), ["time_travel"]),
    (
        "a tag",
        found(T.EXPIRE_SNAPSHOTS, None, ExpiryPlan(TABLE, refs=(SnapshotRef("v1", 1, False),))),
        ["refs"],
    ),
    ("a commit while it was planned", found(T.EXPIRE_SNAPSHOTS, None, ExpiryPlan(MOVED)), ["table_changed"]),
]


@pytest.mark.parametrize(
    ("named", "codes"), [row[1:] for row in RISKS], ids=[f"§9 Plans, the risks: {row[0]}" for row in RISKS]
)
def test_what_may_go_wrong_is_named(named: list[Risk], codes: list[str]) -> None:
    assert [risk.code for risk in named] == codes
    assert all(risk.text for risk in named)
