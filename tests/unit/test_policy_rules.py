"""What a policy's schedules, conditions, thresholds, budget and operations may say: docs/policies.md, rule by rule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control_plane.domain.errors import InvalidArgument
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationType
from control_plane.domain.policy import PolicySpec, changes_what_it_does, validate_policy
from control_plane.domain.scheduling import PolicyMode
from control_plane.domain.thresholds import DEFAULT, RELAXED, STRICT, Limits

EVERY_OPERATION: dict[str, Any] = {
    "rewriteDataFiles": {},
    "rewritePositionDeletes": {"targetFileSizeBytes": 1, "filter": "a = 1"},
    "rewriteManifests": {
        "specId": 0,
        "sortBy": ["day", "two words"],
        "stagingLocation": "s3://bucket/staging",
        "rewriteIf": {
            "path": "s3://bucket/m.avro",
            "length": 1,
            "specId": 0,
            "content": "DELETES",
            "sequenceNumber": 0,
            "minSequenceNumber": 0,
            "snapshotId": 2**63 - 1,
            "addedFilesCount": 0,
            "existingFilesCount": 1,
            "deletedFilesCount": 2,
            "addedRowsCount": 0,
            "existingRowsCount": 2**40,
            "deletedRowsCount": 1,
            "firstRowId": 0,
            "partitionSummaries": [
                {"containsNull": False, "containsNan": True, "lowerBound": "1", "upperBound": "9"},
                {},
            ],
        },
    },
    "expireSnapshots": {},
    "orphanCleanup": {
        "olderThan": "P2D",
        "location": "s3://bucket/lake/sales/orders/data",
        "prefixMismatchMode": "IGNORE",
        "equalSchemes": {"s3a": "s3"},
        "equalAuthorities": {"old.example:8020": "new"},
        "maxFiles": 10,
        "maxBytes": 2**40,
        "maxShareOfTable": 0.5,
    },
    "computeStatistics": {"columns": ["a", "b"], "partitionStatistics": False},
}
EVERY_SCHEDULE: dict[str, Any] = {
    "rewriteDataFilesSchedule": {
        "cronExpression": "0 2 * * MON-FRI",
        "timeZone": "Europe/Zurich",
        "windowStart": "22:00",
        "windowEnd": "04:30",
        "allowedDays": ["MONDAY", "SUNDAY"],
        "atWindowEnd": "CANCEL",
        "timeout": "PT2H",
        "jitter": "PT10M",
        "enabled": False,
    },
    "expireSnapshotsSchedule": {"interval": "P1D", "jitter": "PT23H59M"},
    "rewritePositionDeletesSchedule": {"cronExpression": "*/10 0 3 L * ?"},
    "rewriteManifestsSchedule": {"interval": "PT6H"},
    "orphanCleanupSchedule": {"interval": "P7D"},
    "computeStatisticsSchedule": {"interval": "P7D"},
}
CONDITIONS: dict[str, Any] = {
    "smallFilePercentageAbove": 12.5,
    "smallFileCountAbove": 0,
    "reducibleFileCountAbove": 1,
    "totalFileSizeAboveBytes": 2**50,
    "deleteFileCountAbove": 1,
    "deleteFileRatioAbove": 1.5,
    "snapshotCountAbove": 3,
    "snapshotAgeAboveDays": 0.5,
    "partitionCountAbove": 9,
    "partitionSkewAbove": 3,
    "manifestCountAbove": 5,
    "manifestSizeAboveBytes": 6,
    "minIntervalMinutes": 0,
    "criticalPipeline": True,
    "criticalPipelineMaxDelayMinutes": 1,
    "triggerLogic": "AND",
    "expression": "smallFileCount > 100 && deleteFileRatio >= 0.5",
}
EVERYTHING: dict[str, Any] = {
    "name": "p",
    "tablePattern": "*",
    "mode": "SHADOW",
    **EVERY_OPERATION,
    **EVERY_SCHEDULE,
    "healthThresholds": {
        "preset": "RELAXED",
        "smallFileSizeBytes": 1,
        "largeFileSizeBytes": 2**40,
        "fileCount": {"warning": 1, "critical": 2},
        "partitionSkew": {"critical": 99.5},
        "deleteFileRatio": {},
    },
    "triggerConditions": {
        **CONDITIONS,
        "perOperationMinIntervalMinutes": {"EXPIRE_SNAPSHOTS": 60},
        "perOperation": {"EXPIRE_SNAPSHOTS": CONDITIONS, "ORPHAN_CLEANUP": {}},
    },
    "budget": {"perPass": {"tables": 0, "operations": 1}, "perHour": {"bytes": 2**50, "engineSeconds": 3600}},
}


def accept(document: dict[str, Any]) -> PolicySpec:
    return validate_policy({"name": "p", "tablePattern": "*"} | document, floors=Floors())


def refuse(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as refusal:
        accept(document)
    return {violation.field: violation.description for violation in refusal.value.violations}


def test_everything_that_can_be_written_is_read_back_in_full() -> None:
    assert accept(EVERYTHING).document == EVERYTHING
    assert PolicySpec.stored(EVERYTHING).document == EVERYTHING


def test_operations_stand_in_the_order_of_a_run() -> None:
    assert accept(EVERYTHING).operation_types == tuple(OperationType)
    assert [kind.order for kind in OperationType] == list(range(6))


@pytest.mark.parametrize("kind", list(OperationType))
def test_each_operation_has_its_config_and_its_schedule(kind: OperationType) -> None:
    spec, bare = accept(EVERYTHING), accept({})

    assert spec.config(kind) is not None
    assert spec.schedule(kind) is not None
    assert spec.conditions(kind) is not None
    assert (bare.config(kind), bare.schedule(kind), bare.conditions(kind)) == (None, None, None)


SCHEDULES: list[tuple[str, dict[str, Any], str, str]] = [
    ("neither cron nor interval", {}, "cronExpression", "exactly one of them"),
    ("both", {"cronExpression": "0 2 * * *", "interval": "PT1H"}, "cronExpression", "exactly one of them"),
    ("an integer interval", {"interval": 6}, "interval", "ISO 8601 duration such as PT6H or P7D"),
    ("an interval in months", {"interval": "P1M"}, "interval", "years or months"),
    ("an interval of nothing", {"interval": "PT0S"}, "interval", "not longer than zero"),
    ("an interval of an instant", {"interval": "PT0.001S"}, "interval", "at least a second"),
    ("no duration", {"interval": "6h"}, "interval", "is no duration"),
    ("a cron of four fields", {"cronExpression": "0 2 * *"}, "cronExpression", "has 4 fields"),
    ("a cron of a 61st minute", {"cronExpression": "61 2 * * *"}, "cronExpression", "minute"),
    ("a cron that never fires", {"cronExpression": "0 2 30 2 *"}, "cronExpression", "never fires"),
    ("a cron that is no text", {"cronExpression": 5}, "cronExpression", "must be a text"),
    ("a zone that is none", {"interval": "PT1H", "timeZone": "Mars/Base"}, "timeZone", "IANA"),
    ("a zone by path", {"interval": "PT1H", "timeZone": "../../etc/passwd"}, "timeZone", "IANA"),
    ("what the machine is set to", {"interval": "PT1H", "timeZone": "localtime"}, "timeZone", "IANA"),
    ("a zone with leap seconds", {"interval": "PT1H", "timeZone": "right/UTC"}, "timeZone", "IANA"),
    ("an abbreviation", {"interval": "PT1H", "timeZone": "CEST"}, "timeZone", "IANA"),
    ("an empty zone", {"interval": "PT1H", "timeZone": ""}, "timeZone", "must not be empty"),
    ("a window without an end", {"interval": "PT1H", "windowStart": "22:00"}, "windowEnd", "beside windowStart"),
    ("a window without a start", {"interval": "PT1H", "windowEnd": "22:00"}, "windowStart", "beside windowEnd"),
    (
        "a window of no length",
        {"interval": "PT1H", "windowStart": "22:00", "windowEnd": "22:00"},
        "windowEnd",
        "must differ",
    ),
    ("24:00", {"interval": "PT1H", "windowStart": "22:00", "windowEnd": "24:00"}, "windowEnd", "HH:mm"),
    ("one digit", {"interval": "PT1H", "windowStart": "9:00", "windowEnd": "10:00"}, "windowStart", "HH:mm"),
    ("seconds", {"interval": "PT1H", "windowStart": "09:00:00", "windowEnd": "10:00"}, "windowStart", "HH:mm"),
    ("a day that is none", {"interval": "PT1H", "allowedDays": ["MONDAY", "MO"]}, "allowedDays[1]", "must be one of"),
    ("a day twice", {"interval": "PT1H", "allowedDays": ["MONDAY", "MONDAY"]}, "allowedDays", "more than once"),
    ("days as a text", {"interval": "PT1H", "allowedDays": "MONDAY,FRIDAY"}, "allowedDays", "must be a list"),
    ("an end of no window", {"interval": "PT1H", "atWindowEnd": "CANCEL"}, "atWindowEnd", "without windowStart"),
    (
        "an end that is none",
        {"interval": "PT1H", "windowStart": "01:00", "windowEnd": "02:00", "atWindowEnd": "STOP"},
        "atWindowEnd",
        "must be one of FINISH, CANCEL",
    ),
    ("a timeout of nothing", {"interval": "PT1H", "timeout": "PT0S"}, "timeout", "not longer than zero"),
    ("a timeout in hours", {"interval": "PT1H", "timeout": 2}, "timeout", "must be a text"),
    (
        "a jitter as long as the interval",
        {"interval": "PT1H", "jitter": "PT60M"},
        "jitter",
        "shorter than the interval",
    ),
    (
        "a cron outside its window",
        {"cronExpression": "0 12 * * *", "windowStart": "22:00", "windowEnd": "04:00"},
        "cronExpression",
        "never falls inside its window",
    ),
    (
        "a cron on no allowed day",
        {"cronExpression": "0 2 * * MON", "allowedDays": ["FRIDAY"]},
        "cronExpression",
        "never falls inside its window",
    ),
    ("a field of the original", {"interval": "P1D", "priority": 3}, "priority", "unknown field"),
]


@pytest.mark.parametrize(
    ("schedule", "field", "description"),
    [row[1:] for row in SCHEDULES],
    ids=[f"a schedule with {row[0]}" for row in SCHEDULES],
)
def test_a_wrong_schedule_is_refused_at_its_path(schedule: dict[str, Any], field: str, description: str) -> None:
    found = refuse({"rewriteDataFiles": {}, "rewriteDataFilesSchedule": schedule})

    assert list(found) == [f"rewriteDataFilesSchedule.{field}"]
    assert description in found[f"rewriteDataFilesSchedule.{field}"]


def test_a_schedule_needs_its_operation() -> None:
    found = refuse({"rewriteDataFiles": {}, "expireSnapshotsSchedule": {"interval": "P1D"}})

    assert found == {"expireSnapshotsSchedule": "schedules what expireSnapshots does not configure; add that too"}


def test_a_schedule_knows_its_zone_and_whether_it_is_enabled() -> None:
    schedule = accept(EVERYTHING).schedule(OperationType.REWRITE_DATA_FILES)
    other = accept(EVERYTHING).schedule(OperationType.EXPIRE_SNAPSHOTS)

    assert schedule is not None
    assert other is not None
    assert (schedule.zone.key, schedule.is_enabled) == ("Europe/Zurich", False)
    assert (other.zone.key, other.is_enabled) == ("UTC", True)


CONDITION_ROWS: list[tuple[str, Any, str]] = [
    ("smallFilePercentageAbove", 100.5, "at most 100"),
    ("smallFilePercentageAbove", -1, "at least 0"),
    ("smallFileCountAbove", 1.5, "an integer"),
    ("smallFileCountAbove", -1, "at least 0"),
    ("totalFileSizeAboveBytes", 2**63, "at most"),
    ("deleteFileRatioAbove", "0.1", "a number"),
    ("deleteFileRatioAbove", float("nan"), "a finite number"),
    ("minIntervalMinutes", -1, "at least 0"),
    ("minIntervalMinutes", 527_041, "at most 527040"),
    ("criticalPipelineMaxDelayMinutes", 0, "at least 1"),
    ("criticalPipeline", "yes", "true or false"),
    ("triggerLogic", "XOR", "must be one of OR, AND"),
    ("expression", "", "empty"),
    ("expression", "smallFiles > 3", "did you mean smallFileCount"),
    ("expression", "[1, 2].all(x, x > 0)", "character"),
    ("expression", "size(smallFileCount) > 3", "functions"),
    ("expression", "smallFileCount + 3", "must be true or false"),
    ("expression", "a" * 1_001, "at most 1,000"),
]


@pytest.mark.parametrize(("field", "value", "description"), CONDITION_ROWS)
@pytest.mark.parametrize("path", ["triggerConditions", "triggerConditions.perOperation.EXPIRE_SNAPSHOTS"])
def test_a_wrong_condition_is_refused_at_its_path(path: str, field: str, value: Any, description: str) -> None:
    conditions: dict[str, Any] = {field: value}
    if path.endswith("EXPIRE_SNAPSHOTS"):
        conditions = {"perOperation": {"EXPIRE_SNAPSHOTS": conditions}}

    found = refuse({"triggerConditions": conditions})

    assert list(found) == [f"{path}.{field}"]
    assert description in found[f"{path}.{field}"]


def test_a_critical_pipeline_says_how_late_is_too_late() -> None:
    assert list(refuse({"triggerConditions": {"criticalPipeline": True}})) == [
        "triggerConditions.criticalPipelineMaxDelayMinutes"
    ]
    critical = {"perOperation": {"EXPIRE_SNAPSHOTS": {"criticalPipeline": True}}}
    assert list(refuse({"triggerConditions": critical})) == [
        "triggerConditions.perOperation.EXPIRE_SNAPSHOTS.criticalPipelineMaxDelayMinutes"
    ]
    # What an operation does not say for itself it takes from the shared conditions.
    accept({"triggerConditions": critical | {"criticalPipelineMaxDelayMinutes": 60}})


@pytest.mark.parametrize("field", ["perOperation", "perOperationMinIntervalMinutes"])
def test_an_operation_type_that_is_none_is_refused_at_its_path(field: str) -> None:
    value: Any = {} if field == "perOperation" else 1

    (path,) = refuse({"triggerConditions": {field: {"COMPACT": value}}})

    assert path == f"triggerConditions.{field}.COMPACT"


THRESHOLDS: list[tuple[str, dict[str, Any], str]] = [
    ("a pair out of order", {"fileCount": {"warning": 3, "critical": 2}}, "fileCount"),
    (
        "a warning above the preset's critical limit",
        {"preset": "STRICT", "snapshotCount": {"warning": 201}},
        "snapshotCount",
    ),
    ("a critical limit below the preset's warning", {"partitionSkew": {"critical": 2.5}}, "partitionSkew"),
    ("small not below large", {"smallFileSizeBytes": 10, "largeFileSizeBytes": 10}, "smallFileSizeBytes"),
    ("small above the preset's large", {"smallFileSizeBytes": 2**31}, "smallFileSizeBytes"),
    ("a limit of zero", {"fileCount": {"warning": 0}}, "fileCount.warning"),
    ("a size of zero", {"smallFileSizeBytes": 0}, "smallFileSizeBytes"),
    ("a preset that is none", {"preset": "LAX"}, "preset"),
    ("a number for a pair", {"fileCount": 3}, "fileCount"),
]


@pytest.mark.parametrize(
    ("thresholds", "field"), [row[1:] for row in THRESHOLDS], ids=[f"§5 {row[0]}" for row in THRESHOLDS]
)
def test_wrong_thresholds_are_refused_at_their_path(thresholds: dict[str, Any], field: str) -> None:
    assert list(refuse({"healthThresholds": thresholds})) == [f"healthThresholds.{field}"]


def test_thresholds_are_the_preset_and_what_differs() -> None:
    assert accept({}).thresholds == DEFAULT
    assert accept({"healthThresholds": {}}).thresholds == DEFAULT
    assert accept({"healthThresholds": {"preset": "STRICT"}}).thresholds == STRICT
    relaxed = accept({"healthThresholds": {"preset": "RELAXED", "fileCount": {"warning": 7}}}).thresholds

    assert relaxed.file_count == Limits(7, RELAXED.file_count.critical)
    assert relaxed.snapshot_count == RELAXED.snapshot_count


@pytest.mark.parametrize("limit", ["tables", "operations", "bytes", "engineSeconds"])
@pytest.mark.parametrize("value", [-1, 1.5, "1", True, 2**63])
def test_a_wrong_budget_is_refused_at_its_path(limit: str, value: Any) -> None:
    assert list(refuse({"budget": {"perHour": {limit: value}}})) == [f"budget.perHour.{limit}"]


OPERATIONS: list[tuple[str, dict[str, Any], str]] = [
    ("rewritePositionDeletes", {"targetFileSizeBytes": 0}, "targetFileSizeBytes"),
    ("rewritePositionDeletes", {"filter": "f(a)"}, "filter"),
    ("rewritePositionDeletes", {"rewriteAll": True, "filter": "a = 1"}, "filter"),
    ("rewriteManifests", {"specId": -1}, "specId"),
    ("rewriteManifests", {"sortBy": ["a", "a"]}, "sortBy"),
    ("rewriteManifests", {"sortBy": [""]}, "sortBy[0]"),
    ("rewriteManifests", {"stagingLocation": ""}, "stagingLocation"),
    ("rewriteManifests", {"rewriteIf": {"content": "BOTH"}}, "rewriteIf.content"),
    ("rewriteManifests", {"rewriteIf": {"length": -1}}, "rewriteIf.length"),
    (
        "rewriteManifests",
        {"rewriteIf": {"partitionSummaries": [{}, {"nan": 1}]}},
        "rewriteIf.partitionSummaries[1].nan",
    ),
    ("orphanCleanup", {"retentionPeriodInDays": 0}, "retentionPeriodInDays"),
    ("orphanCleanup", {"retentionPeriodInDays": 3, "olderThan": "P3D"}, "olderThan"),
    ("orphanCleanup", {"olderThan": "PT23H59M"}, "olderThan"),
    ("orphanCleanup", {"location": "s3://bucket/lake/../other"}, "location"),
    ("orphanCleanup", {"location": "s3://bucket/lake//t"}, "location"),
    ("orphanCleanup", {"location": "s3://bucket/lake/*"}, "location"),
    ("orphanCleanup", {"location": "s3://bucket/lake/%2e%2e"}, "location"),
    ("orphanCleanup", {"location": "s3://bucket/a\x00"}, "location"),
    ("orphanCleanup", {"prefixMismatchMode": "ALL"}, "prefixMismatchMode"),
    ("orphanCleanup", {"equalSchemes": {"s3a": 3}}, "equalSchemes.s3a"),
    ("orphanCleanup", {"maxFiles": 0}, "maxFiles"),
    ("orphanCleanup", {"maxShareOfTable": 0}, "maxShareOfTable"),
    ("orphanCleanup", {"maxShareOfTable": 1.1}, "maxShareOfTable"),
    ("computeStatistics", {"columns": ["a", "a"]}, "columns"),
    ("computeStatistics", {"columns": ["c"] * 101}, "columns"),
    ("computeStatistics", {"partitionStatistics": "no"}, "partitionStatistics"),
]


@pytest.mark.parametrize(("operation", "config", "field"), OPERATIONS)
def test_a_wrong_operation_is_refused_at_its_path(operation: str, config: dict[str, Any], field: str) -> None:
    assert list(refuse({operation: config})) == [f"{operation}.{field}"]


def test_deleting_what_is_only_written_differently_is_refused_with_the_reason() -> None:
    found = refuse({"orphanCleanup": {"prefixMismatchMode": "DELETE"}})

    assert "would cost live files" in found["orphanCleanup.prefixMismatchMode"]


def test_the_floor_of_orphans_is_the_deployments() -> None:
    document = {"name": "p", "tablePattern": "*", "orphanCleanup": {"retentionPeriodInDays": 3}}
    high = Floors(orphan_age=timedelta(days=5))

    with pytest.raises(InvalidArgument) as refusal:
        validate_policy(document, floors=high)
    assert [each.field for each in refusal.value.violations] == ["orphanCleanup.retentionPeriodInDays"]
    assert PolicySpec.stored(document).document == document


@pytest.mark.parametrize("mode", ["shadow", "OFF", 1])
def test_a_mode_that_is_none_is_refused(mode: Any) -> None:
    assert list(refuse({"mode": mode})) == ["mode"]


def test_the_mode_is_active_unless_it_says_otherwise() -> None:
    assert accept({}).effective_mode is PolicyMode.ACTIVE
    assert accept({"mode": "SHADOW"}).effective_mode is PolicyMode.SHADOW
    assert not changes_what_it_does(accept({}), accept({"mode": "ACTIVE"}))


@pytest.mark.parametrize(
    "deeds",
    [
        {"mode": "SHADOW"},
        {"rewriteDataFiles": {}, "rewriteDataFilesSchedule": {"interval": "PT1H"}},
        {"triggerConditions": {"snapshotCountAbove": 1}},
        {"healthThresholds": {"preset": "STRICT"}},
        {"budget": {"perPass": {"tables": 1}}},
        {"computeStatistics": {}},
    ],
)
def test_all_that_it_says_changes_what_a_policy_does(deeds: dict[str, Any]) -> None:
    assert changes_what_it_does(accept({}), accept(deeds))
