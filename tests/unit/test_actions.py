"""What an operation of each type is told to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.domain.action import plan_action
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationType
from tests.support.factories import policy

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
BY_DEFAULT_FOR_ORPHANS: dict[str, Any] = {
    "older_than": "2026-03-07T12:00:00Z",
    "floor": "2026-03-09T12:00:00Z",
    "prefix_mismatch_mode": "ERROR",
    "equal_schemes": {},
    "equal_authorities": {},
    "max_files": 100_000,
    "max_share_of_table": 0.2,
}
ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "rewriteDataFiles",
        {"onlyClosedPartitionsAfter": "P1D"},
        {
            "strategy": "BINPACK",
            "sort_order": [],
            "z_order_columns": [],
            "use_starting_sequence_number": True,
            "only_closed_partitions_before": "2026-03-09T12:00:00Z",
        },
    ),
    ("rewritePositionDeletes", {}, {}),
    ("rewritePositionDeletes", {"rewriteAll": True}, {"rewrite_all": True}),
    (
        "rewriteManifests",
        {"sortBy": ["a"], "rewriteIf": {"content": "DATA", "partitionSummaries": [{"containsNull": False}]}},
        {"sort_by": ["a"], "rewrite_if": {"content": "DATA", "partition_summaries": [{"contains_null": False}]}},
    ),
    (
        "expireSnapshots",
        {},
        {
            "older_than": "2026-03-03T12:00:00Z",
            "retain_last": 5,
            "floor": "2026-03-10T11:00:00Z",
            "clean_expired_metadata": False,
            "snapshot_ids": [],
        },
    ),
    ("orphanCleanup", {}, BY_DEFAULT_FOR_ORPHANS),
    (
        "orphanCleanup",
        {"olderThan": "P10D", "location": "s3://b/t/data", "maxBytes": 5, "equalSchemes": {"s3a": "s3"}},
        BY_DEFAULT_FOR_ORPHANS
        | {
            "older_than": "2026-02-28T12:00:00Z",
            "location": "s3://b/t/data",
            "max_bytes": 5,
            "equal_schemes": {"s3a": "s3"},
        },
    ),
    ("computeStatistics", {}, {"partition_statistics": True}),
    (
        "computeStatistics",
        {"columns": ["a"], "partitionStatistics": False},
        {"columns": ["a"], "partition_statistics": False},
    ),
]
TYPES = {
    "rewriteDataFiles": OperationType.REWRITE_DATA_FILES,
    "rewritePositionDeletes": OperationType.REWRITE_POSITION_DELETES,
    "rewriteManifests": OperationType.REWRITE_MANIFESTS,
    "expireSnapshots": OperationType.EXPIRE_SNAPSHOTS,
    "orphanCleanup": OperationType.ORPHAN_CLEANUP,
    "computeStatistics": OperationType.COMPUTE_STATISTICS,
}


@pytest.mark.parametrize(("name", "config", "action"), ROWS)
def test_a_config_becomes_an_action_with_absolute_instants(
    name: str, config: dict[str, Any], action: dict[str, Any]
) -> None:
    document: dict[str, Any] = {"rewriteDataFiles": None} | {name: config}

    assert plan_action(policy(**document), TYPES[name], now=NOW, floors=Floors()) == action


def test_floors_that_rose_after_the_policy_was_written_hold_when_it_is_planned() -> None:
    floors = Floors(snapshot_age=timedelta(days=30), orphan_age=timedelta(days=20))
    written = policy(expireSnapshots={"maxSnapshotAge": "P1D"}, orphanCleanup={"retentionPeriodInDays": 2})

    expire = plan_action(written, OperationType.EXPIRE_SNAPSHOTS, now=NOW, floors=floors)
    orphans = plan_action(written, OperationType.ORPHAN_CLEANUP, now=NOW, floors=floors)

    assert expire["older_than"] == expire["floor"] == "2026-02-08T12:00:00Z"
    assert orphans["older_than"] == orphans["floor"] == "2026-02-18T12:00:00Z"


@pytest.mark.parametrize("kind", [kind for kind in OperationType if kind is not OperationType.REWRITE_DATA_FILES])
def test_an_operation_that_the_policy_does_not_configure_cannot_be_planned(kind: OperationType) -> None:
    with pytest.raises(ValueError, match=f"policy nightly does not configure {kind}"):
        plan_action(policy(), kind, now=NOW, floors=Floors())
