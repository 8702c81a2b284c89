"""Looks and their answers to and from the domain."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import repeat
from typing import assert_never

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.domain.health import HealthMetrics, Knowledge, Metric
from control_plane.domain.identifiers import CatalogName, ObservationId, OperationId, TableName, TableUuid
from control_plane.domain.observation import (
    Answer,
    CatalogChecks,
    Evidence,
    ExpiryPlan,
    LoadedTable,
    Measurements,
    Observation,
    ObservationError,
    ObservationKind,
    OrphanPlan,
    SnapshotRef,
    Stamp,
    StampedSnapshot,
    TableNames,
    Verdict,
)
from control_plane.domain.operation import Finding, VerificationVerdict
from control_plane.rpc.convert.execution import (
    MAX_SNAPSHOTS,
    MAX_TEXT,
    catalog_to_proto,
    duration_to_proto,
    stamp_to_proto,
    table_to_proto,
    text,
)
from control_plane.services.dispatch import Look
from floe.execution.v1 import assignment_pb2 as pb

MAX_REFS = 10_000
MAX_PATHS = 100


def look_to_proto(look: Look) -> pb.Observe:
    observation: Observation = look.observation
    request = observation.request
    observe = pb.Observe(
        observation_id=observation.id,
        epoch=observation.epoch,
        timeout=duration_to_proto(observation.timeout.total_seconds()),
        catalog=catalog_to_proto(look.catalog),
        traceparent=observation.traceparent,
    )
    if request.table is not None:
        observe.table.CopyFrom(table_to_proto(request.table, request.table_uuid or TableUuid(""), request.location))
    stamps = [stamp_to_proto(stamp) for stamp in request.stamps]
    match request.kind:
        case ObservationKind.LIST_TABLES:
            observe.list_tables.SetInParent()
        case ObservationKind.LOAD_TABLE:
            observe.load_table.SetInParent()
        case ObservationKind.CHECK_CATALOG:
            observe.check_catalog.SetInParent()
        case ObservationKind.INSPECT_TABLE:
            observe.inspect_table.small_file_size_bytes = request.small_file_size_bytes
            observe.inspect_table.large_file_size_bytes = request.large_file_size_bytes
            observe.inspect_table.scan_mode = request.scan_mode.lower()
        case ObservationKind.GATHER_EVIDENCE:
            observe.gather_evidence.CopyFrom(pb.GatherEvidence(stamps=stamps, expiring_snapshot_ids=request.expiring))
        case ObservationKind.VERIFY_OPERATION:
            observe.verify_operation.CopyFrom(
                pb.VerifyOperation(
                    operation_id=request.operation or "",
                    operation_type=request.operation_type or "",
                    stamps=stamps,
                    base_snapshot_id=request.base_snapshot,
                    base_metadata_location=request.base_metadata_location,
                    expiring_snapshot_ids=request.expiring,
                    retained_snapshot_ids=request.retained,
                )
            )
        case ObservationKind.PLAN_EXPIRY:
            observe.plan_expiry.SetInParent()
            json_format.ParseDict(dict(request.action), observe.plan_expiry.action)
        case ObservationKind.LIST_ORPHANS:
            observe.list_orphans.SetInParent()
            json_format.ParseDict(dict(request.action), observe.list_orphans.action)
        case other:
            assert_never(other)
    return observe


def answer_from_proto(catalog: CatalogName, answer: pb.Observation) -> Answer:
    """The look's answer; one that says nothing understood is an INTERNAL error of the look."""
    match answer.WhichOneof("outcome"):
        case "error":
            return ObservationError(text(answer.error.kind, 50) or "INTERNAL", text(answer.error.message, MAX_TEXT))
        case "table_names":
            return _table_names(catalog, answer.table_names)
        case "loaded_table":
            return _loaded(answer.loaded_table)
        case "catalog_checks":
            return CatalogChecks(tuple(_finding(check) for check in answer.catalog_checks.checks[:100]))
        case "measurements":
            return _measurements(answer.measurements)
        case "evidence":
            found = tuple(
                StampedSnapshot(s.snapshot_id, Stamp(OperationId(s.stamp.operation_id), s.stamp.epoch))
                for s in answer.evidence.snapshots
            )
            return Evidence(_loaded(answer.evidence.table), found, tuple(answer.evidence.present_snapshot_ids))
        case "verdict":
            if answer.verdict.verdict not in VerificationVerdict.__members__:
                return ObservationError("INTERNAL", f"unknown verdict {text(answer.verdict.verdict, 50)!r}")
            findings = tuple(_finding(check) for check in answer.verdict.findings[:1_000])
            return Verdict(VerificationVerdict(answer.verdict.verdict), findings)
        case "expiry_plan":
            return _expiry_plan(answer.expiry_plan)
        case "orphan_plan":
            return _orphan_plan(answer.orphan_plan)
        case _:
            return ObservationError("INTERNAL", "the executor's answer is empty, or of a kind that is not known here")


def observation_id(answer: pb.Observation) -> ObservationId:
    return ObservationId(text(answer.observation_id, 64))


def _table_names(catalog: CatalogName, listed: pb.TableNames) -> TableNames:
    names: list[TableName] = []
    locations: dict[TableName, str] = {}
    told = listed.metadata_locations if len(listed.metadata_locations) == len(listed.tables) else repeat("")
    for table, location in zip(listed.tables, told, strict=False):
        try:
            name = TableName(catalog, tuple(table.namespace), table.name)
        except ValueError:
            continue  # A name that no table can have here; nothing could be asked about it.
        names.append(name)
        if location:
            locations[name] = text(location, MAX_TEXT)
    return TableNames(tuple(names), listed.complete and len(names) == len(listed.tables), locations)


def _expiry_plan(plan: pb.ExpiryPlan) -> ExpiryPlan:
    return ExpiryPlan(
        table=_loaded(plan.table),
        expiring=tuple(plan.expiring_snapshot_ids[:MAX_SNAPSHOTS]),
        retained=tuple(plan.retained_snapshot_ids[:MAX_SNAPSHOTS]),
        expiring_count=max(0, plan.expiring_count),
        retained_count=max(0, plan.retained_count),
        newest_expiring_time=_time_of(plan, "newest_expiring_time"),
        oldest_retained_time=_time_of(plan, "oldest_retained_time"),
        refs=tuple(SnapshotRef(text(ref.name, 255), ref.snapshot_id, ref.is_branch) for ref in plan.refs[:MAX_REFS]),
        refusal=text(plan.refusal, MAX_TEXT),
    )


def _orphan_plan(plan: pb.OrphanPlan) -> OrphanPlan:
    return OrphanPlan(
        table=_loaded(plan.table),
        files=max(0, plan.file_count),
        bytes=max(0, plan.total_bytes),
        remaining=max(0, plan.remaining_count),
        oldest_time=_time_of(plan, "oldest_time"),
        newest_time=_time_of(plan, "newest_time"),
        listed_files=max(0, plan.listed_count),
        listed_bytes=max(0, plan.listed_bytes),
        young_files=max(0, plan.young_count),
        sample=tuple(text(path, MAX_TEXT) for path in plan.sample_paths[:MAX_PATHS]),
        digest=text(plan.digest, 64),
        exceeded=tuple(text(cap, MAX_TEXT) for cap in plan.exceeded_caps[:10]),
        refusal=text(plan.refusal, MAX_TEXT),
    )


def _measurements(measured: pb.Measurements) -> Answer:
    table = _loaded(measured.table)
    metrics: list[tuple[str, Metric]] = []
    for m in measured.measurements:
        try:
            metrics.append((m.name, Metric(m.value if m.HasField("value") else None, Knowledge(m.knowledge))))
        except ValueError as error:
            return ObservationError("INTERNAL", f"metric {text(m.name, 100)!r}: {error}")
    return Measurements(
        table,
        HealthMetrics.measured(
            metrics,
            metadata_location=table.metadata_location,
            format_version=table.format_version,
            current_snapshot_id=table.current_snapshot,
            scan_mode=text(measured.scan_mode, 20),
        ),
    )


def _loaded(table: pb.LoadedTable) -> LoadedTable:
    return LoadedTable(
        TableUuid(text(table.table.uuid, 64)),
        text(table.table.location, MAX_TEXT),
        text(table.metadata_location, MAX_TEXT),
        table.format_version,
        table.current_snapshot_id if table.HasField("current_snapshot_id") else None,
        maintenance_enabled=not table.maintenance_disabled,
    )


def _finding(check: pb.Check) -> Finding:
    return Finding(text(check.check, 100), check.passed, text(check.detail, MAX_TEXT), text(check.hint, MAX_TEXT))


def _time_of(message: pb.ExpiryPlan | pb.OrphanPlan, field: str) -> datetime | None:
    """The time in a field that may be unset; None too for a time that a table's metadata made up."""
    time: Timestamp = getattr(message, field)
    try:
        return time.ToDatetime(tzinfo=UTC) if any(set_.name == field for set_, _ in message.ListFields()) else None
    except (OverflowError, ValueError):
        return None
