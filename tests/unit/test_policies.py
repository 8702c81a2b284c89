from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from control_plane.domain.errors import InvalidArgument
from control_plane.domain.floors import NO_FLOORS, Floors
from control_plane.domain.identifiers import OperationType
from control_plane.domain.policy import PolicySpec, changes_what_it_does, validate_policy

FLOOR = timedelta(hours=1)
FLOORS = Floors(snapshot_age=FLOOR)

EVERYTHING: dict[str, Any] = {
    "name": "nightly-2",
    "description": "first line\nsecond line",
    "tablePattern": "lake.**, !lake.tmp.*",
    "enabled": False,
    "priority": -10_000,
    "tags": {"env": "prod", "empty": ""},
    "managedBy": "git@example.com:data/policies",
    "rewriteDataFiles": {
        "strategy": "SORT",
        "sortOrder": ["region", "a.b desc", "`two words` ASC NULLS LAST", "n nulls first"],
        "targetFileSizeBytes": 134_217_728,
        "minFileSizeBytes": 0,
        "maxFileSizeBytes": 2**63 - 1,
        "minInputFiles": 1,
        "maxFileGroupSizeBytes": 1,
        "maxConcurrentFileGroupRewrites": 1_000,
        "partialProgressEnabled": True,
        "partialProgressMaxCommits": 1,
        "partialProgressMaxFailedCommits": 0,
        "filter": "region = 'eu' AND day >= DATE '2026-01-31'",
        "rewriteJobOrder": "FILES_DESC",
        "deleteFileThreshold": 0,
        "deleteRatioThreshold": 1.0,
        "useStartingSequenceNumber": False,
        "removeDanglingDeletes": True,
        "outputSpecId": 0,
        "maxFilesToRewrite": 2**31 - 1,
        "branch": "main",
        "onlyClosedPartitionsAfter": "PT36H",
    },
    "expireSnapshots": {"retainLast": 1, "maxSnapshotAge": "PT1H", "cleanExpiredMetadata": True},
}
MINIMAL: dict[str, Any] = {"name": "p", "tablePattern": "*"}


def accept(document: dict[str, Any]) -> PolicySpec:
    return validate_policy(document, floors=FLOORS)


def refuse(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as refusal:
        accept(document)
    return {violation.field: violation.description for violation in refusal.value.violations}


def test_what_is_written_is_what_is_read_back_in_full() -> None:
    assert accept(EVERYTHING).document == EVERYTHING


def test_every_field_of_both_configs_is_read_back() -> None:
    others = {"strategy": "ZORDER", "zOrderColumns": ["a", "b c"], "branch": "audit branch"}
    document = MINIMAL | {"rewriteDataFiles": others, "expireSnapshots": {"expireSnapshotIds": [1, 2**63 - 1]}}

    assert accept(document).document == document


def test_nothing_is_written_into_a_document_that_its_author_left_out() -> None:
    document = MINIMAL | {"rewriteDataFiles": {}, "expireSnapshots": {}}
    spec = accept(document)

    assert spec.document == document
    assert spec.rewrite_data_files is not None
    assert spec.rewrite_data_files.target_file_size_bytes is None
    assert spec.is_enabled
    assert spec.effective_priority == 0
    assert spec.operation_types == (OperationType.REWRITE_DATA_FILES, OperationType.EXPIRE_SNAPSHOTS)


def test_a_default_that_was_written_stays_written() -> None:
    document = MINIMAL | {"enabled": True, "priority": 0, "expireSnapshots": {"retainLast": 5, "maxSnapshotAge": "P7D"}}

    assert accept(document).document == document


def test_null_means_unset() -> None:
    assert accept(MINIMAL | {"enabled": None, "rewriteDataFiles": {"filter": None}}).document == MINIMAL | {
        "rewriteDataFiles": {}
    }


def test_a_disabled_policy_is_created_disabled() -> None:
    assert not accept(MINIMAL | {"enabled": False}).is_enabled


def test_the_defaults_of_expiry_are_those_documented() -> None:
    config = accept(MINIMAL | {"expireSnapshots": {}}).expire_snapshots

    assert config is not None
    assert config.effective_retain_last == 5
    assert config.effective_max_snapshot_age(floor=FLOOR) == timedelta(days=7)
    assert config.effective_max_snapshot_age(floor=timedelta(days=30)) == timedelta(days=30)


def test_every_wrong_field_is_named_at_once() -> None:
    document = {
        "name": "Nightly",
        "tablePattern": "!x",
        "enabled": "yes",
        "priority": 10_001,
        "tags": {"a": 3},
        "rewriteDataFiles": {"strategy": "ZORDR", "sortOrder": ["a", "b c d", 7], "targetFileSizeBytes": "1"},
        "expireSnapshots": {"retainLast": True, "maxSnapshotAge": "P1M"},
    }

    assert set(refuse(document)) == {
        "name",
        "tablePattern",
        "enabled",
        "priority",
        "tags.a",
        "rewriteDataFiles.strategy",
        "rewriteDataFiles.sortOrder[1]",
        "rewriteDataFiles.sortOrder[2]",
        "rewriteDataFiles.targetFileSizeBytes",
        "expireSnapshots.retainLast",
        "expireSnapshots.maxSnapshotAge",
    }


def test_what_is_missing_is_named() -> None:
    assert refuse({}) == {"name": "is required", "tablePattern": "is required"}


@pytest.mark.parametrize(
    ("document", "path", "nearest"),
    [
        ({"rewriteDataFile": {}}, "rewriteDataFile", "rewriteDataFiles"),
        ({"rewrite_data_files": {}}, "rewrite_data_files", "rewriteDataFiles"),
        ({"rewriteDataFiles": {"targetFileSize": 1}}, "rewriteDataFiles.targetFileSize", "targetFileSizeBytes"),
        ({"expireSnapshots": {"expireSnapshotId": 1}}, "expireSnapshots.expireSnapshotId", "expireSnapshotIds"),
    ],
)
def test_an_unknown_field_is_answered_with_the_nearest_known_one(
    document: dict[str, Any], path: str, nearest: str
) -> None:
    assert refuse(MINIMAL | document) == {path: f"unknown field; did you mean {nearest}?"}


def test_an_unknown_field_like_no_other_is_answered_with_the_known_ones() -> None:
    known = "cleanExpiredMetadata, expireSnapshotIds, maxSnapshotAge, retainLast"

    assert refuse(MINIMAL | {"expireSnapshots": {"zz": 1}}) == {
        "expireSnapshots.zz": f"unknown field; known are {known}"
    }


@pytest.mark.parametrize(
    ("document", "path", "nearest"),
    [
        ({"rewriteDataFilesSchedule": {"cron": "0 2 * * *"}}, "rewriteDataFilesSchedule.cron", "cronExpression"),
        ({"budget": {"perPass": {"operation": 1}}}, "budget.perPass.operation", "operations"),
        ({"healthThresholds": {"fileCount": {"warn": 1}}}, "healthThresholds.fileCount.warn", "warning"),
        (
            {"triggerConditions": {"perOperation": {"EXPIRE_SNAPSHOTS": {"snapshotCount": 1}}}},
            "triggerConditions.perOperation.EXPIRE_SNAPSHOTS.snapshotCount",
            "snapshotCountAbove",
        ),
        ({"rewriteManifests": {"rewriteIf": {"lengths": 1}}}, "rewriteManifests.rewriteIf.lengths", "length"),
    ],
)
def test_an_unknown_field_deep_inside_is_named_by_its_path(document: dict[str, Any], path: str, nearest: str) -> None:
    found = refuse(MINIMAL | {"rewriteDataFiles": {}} | document)

    assert found[path] == f"unknown field; did you mean {nearest}?"


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "ä", "a" * 64, "a\n"])
def test_a_wrong_name_is_refused(name: str) -> None:
    assert set(refuse(MINIMAL | {"name": name})) == {"name"}


@pytest.mark.parametrize("name", ["a", "7", "a-b", "a" * 63])
def test_a_right_name_is_accepted(name: str) -> None:
    assert accept(MINIMAL | {"name": name}).name == name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strategy", "binpack"),
        ("strategy", 1),
        ("sortOrder", "a"),
        ("sortOrder", [""]),
        ("sortOrder", ["bucket(4, a)"]),
        ("sortOrder", ["a, b"]),
        ("sortOrder", ["a nulls"]),
        ("sortOrder", ["a desc asc"]),
        ("sortOrder", ["c"] * 101),
        ("zOrderColumns", [" a"]),
        ("targetFileSizeBytes", 0),
        ("targetFileSizeBytes", 1.5),
        ("targetFileSizeBytes", True),
        ("targetFileSizeBytes", 2**63),
        ("minFileSizeBytes", -1),
        ("minInputFiles", 0),
        ("minInputFiles", 2**31),
        ("maxFileGroupSizeBytes", 0),
        ("maxConcurrentFileGroupRewrites", 0),
        ("maxConcurrentFileGroupRewrites", 1_001),
        ("partialProgressEnabled", "true"),
        ("partialProgressMaxCommits", 0),
        ("partialProgressMaxFailedCommits", -1),
        ("filter", ""),
        ("filter", "f(x) = 1"),
        ("rewriteJobOrder", "RANDOM"),
        ("deleteFileThreshold", -1),
        ("deleteRatioThreshold", 0),
        ("deleteRatioThreshold", 1.1),
        ("deleteRatioThreshold", math.nan),
        ("useStartingSequenceNumber", 1),
        ("outputSpecId", -1),
        ("maxFilesToRewrite", 0),
        ("branch", ""),
        ("branch", "a\x00"),
        ("onlyClosedPartitionsAfter", "1 day"),
        ("onlyClosedPartitionsAfter", "PT0S"),
        ("onlyClosedPartitionsAfter", "-P1D"),
        ("onlyClosedPartitionsAfter", "P1Y"),
        ("onlyClosedPartitionsAfter", "P40000D"),
        ("onlyClosedPartitionsAfter", "P" + "9" * 60 + "D"),
    ],
)
def test_a_wrong_value_of_rewrite_data_files_is_refused_at_its_path(field: str, value: Any) -> None:
    (path,) = refuse(MINIMAL | {"rewriteDataFiles": {field: value}})

    assert path.startswith(f"rewriteDataFiles.{field}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retainLast", 0),
        ("maxSnapshotAge", "PT59M59S"),
        ("maxSnapshotAge", 7),
        ("cleanExpiredMetadata", 0),
        ("expireSnapshotIds", [0]),
        ("expireSnapshotIds", [7, 7]),
        ("expireSnapshotIds", list(range(1, 1_002))),
    ],
)
def test_a_wrong_value_of_expire_snapshots_is_refused_at_its_path(field: str, value: Any) -> None:
    (path,) = refuse(MINIMAL | {"expireSnapshots": {field: value}})

    assert path.startswith(f"expireSnapshots.{field}")


@pytest.mark.parametrize(
    ("config", "paths"),
    [
        ({"sortOrder": ["a"]}, {"sortOrder"}),
        ({"strategy": "ZORDER"}, {"zOrderColumns"}),
        ({"strategy": "SORT", "zOrderColumns": ["a"]}, {"zOrderColumns"}),
        ({"strategy": "ZORDER", "zOrderColumns": ["a", "b", "a"]}, {"zOrderColumns"}),
        ({"strategy": "SORT", "sortOrder": ["a", "`a` desc"]}, {"sortOrder"}),
        ({"minFileSizeBytes": 5, "targetFileSizeBytes": 5}, {"targetFileSizeBytes"}),
        ({"targetFileSizeBytes": 5, "maxFileSizeBytes": 5}, {"maxFileSizeBytes"}),
        ({"minFileSizeBytes": 5, "maxFileSizeBytes": 4}, {"maxFileSizeBytes"}),
        ({"branch": "audit", "removeDanglingDeletes": True}, {"removeDanglingDeletes"}),
        ({"branch": "audit", "onlyClosedPartitionsAfter": "P1D"}, {"onlyClosedPartitionsAfter"}),
    ],
)
def test_a_rule_across_fields_is_reported_at_the_field_to_change(config: dict[str, Any], paths: set[str]) -> None:
    assert set(refuse(MINIMAL | {"rewriteDataFiles": config})) == {f"rewriteDataFiles.{path}" for path in paths}


def test_named_snapshots_and_an_age_do_not_go_together() -> None:
    config = {"expireSnapshotIds": [1], "maxSnapshotAge": "P7D", "retainLast": 5}

    assert set(refuse(MINIMAL | {"expireSnapshots": config})) == {
        "expireSnapshots.maxSnapshotAge",
        "expireSnapshots.retainLast",
    }


def test_sort_may_use_the_tables_own_order() -> None:
    assert accept(MINIMAL | {"rewriteDataFiles": {"strategy": "SORT"}})


def test_the_floor_is_the_deployments() -> None:
    document = MINIMAL | {"expireSnapshots": {"maxSnapshotAge": "PT1M"}}

    assert validate_policy(document, floors=NO_FLOORS).document == document
    assert "floor of 1:00:00" in refuse(document)["expireSnapshots.maxSnapshotAge"]


def test_a_stored_policy_is_read_whatever_the_floor_is_now() -> None:
    document = MINIMAL | {"expireSnapshots": {"maxSnapshotAge": "PT1M"}}

    assert PolicySpec.stored(document).document == document


@pytest.mark.parametrize(
    "labels",
    [
        {"description": "x" * 2_001},
        {"description": "\x1b[31m"},
        {"managedBy": "x" * 129},
        {"tags": {"": "v"}},
        {"tags": {"k": "v\x00"}},
        {"tags": {"k": "v" * 257}},
        {"tags": {str(n): "" for n in range(65)}},
    ],
)
def test_labels_have_limits(labels: dict[str, Any]) -> None:
    assert refuse(MINIMAL | labels)


def test_a_refusal_does_not_repeat_the_whole_input() -> None:
    descriptions = refuse(MINIMAL | {"rewriteDataFiles": {"minInputFiles": "x" * 100_000, "filter": "y" * 100_000}})

    assert all(len(description) < 500 for description in descriptions.values())


def test_a_spec_never_changes() -> None:
    with pytest.raises(ValidationError):
        accept(MINIMAL).priority = 3  # type: ignore[misc]  # this is what must not be possible


@pytest.mark.parametrize("labels", [{"description": "d"}, {"tags": {"a": "b"}}, {"managedBy": "m"}])
def test_labels_do_not_change_what_a_policy_does(labels: dict[str, Any]) -> None:
    assert not changes_what_it_does(accept(MINIMAL), accept(MINIMAL | labels))


def test_writing_a_default_down_does_not_change_what_a_policy_does() -> None:
    assert not changes_what_it_does(accept(MINIMAL), accept(MINIMAL | {"enabled": True, "priority": 0}))


@pytest.mark.parametrize(
    "deeds",
    [
        {"tablePattern": "a"},
        {"enabled": False},
        {"priority": 1},
        {"rewriteDataFiles": {}},
        {"expireSnapshots": {"retainLast": 6}},
    ],
)
def test_everything_else_changes_what_a_policy_does(deeds: dict[str, Any]) -> None:
    assert changes_what_it_does(accept(MINIMAL), accept(MINIMAL | deeds))
