"""Observations between the wire and the values of the observation lane."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from executor import assignment as own
from executor import convert
from executor.convert import UnknownRequest
from executor.observation import model
from executor.observation.errors import ErrorKind, ObservationError
from floe.execution.v1 import assignment_pb2 as pb

Request = (
    model.ListTables
    | model.LoadTable
    | model.CheckCatalog
    | model.InspectTable
    | model.GatherEvidence
    | model.VerifyOperation
    | model.PlanExpiry
    | model.ListOrphans
)
Answer = (
    model.TableNames
    | model.LoadedTable
    | model.CatalogChecks
    | model.Measurements
    | model.Evidence
    | model.Verification
    | model.ExpiryPlan
    | model.OrphanPlan
)

OBSERVATION_KINDS: Final = tuple(
    name.removeprefix("OBSERVATION_KIND_") for name, number in pb.ObservationKind.items() if number
)

_MOST_SNAPSHOTS: Final = 100_000


def request(message: pb.Observe) -> Request:
    """Raises `UnknownRequest` with what is not understood."""
    catalog = convert.catalog(message.catalog)
    table = convert.table(message.table, catalog)
    match message.WhichOneof("request"):
        case "list_tables":
            return model.ListTables(catalog)
        case "load_table":
            return model.LoadTable(catalog, table.namespace, table.name)
        case "check_catalog":
            return model.CheckCatalog(catalog)
        case "inspect_table":
            return _inspection(table, message.inspect_table)
        case "gather_evidence":
            wanted = message.gather_evidence
            return model.GatherEvidence(table, convert.stamps(wanted.stamps), tuple(wanted.expiring_snapshot_ids))
        case "verify_operation":
            return _verification(table, message.verify_operation)
        case "plan_expiry":
            return model.PlanExpiry(table, convert.expiry(message.plan_expiry.action))
        case "list_orphans":
            return model.ListOrphans(table, convert.orphan_cleanup(message.list_orphans.action))
        case _:
            raise UnknownRequest("this executor's version does not know the kind of the observation; upgrade it")


def _inspection(table: own.Table, message: pb.InspectTable) -> model.InspectTable:
    mode = message.scan_mode.lower()
    if mode not in ("", "auto", *model.ScanMode):
        raise UnknownRequest(f"inspect_table: scan mode {mode[:50]!r} is not known; upgrade this executor")
    unset = model.InspectTable(table)
    return model.InspectTable(
        table,
        small_file_size=message.small_file_size_bytes or unset.small_file_size,
        large_file_size=message.large_file_size_bytes or unset.large_file_size,
        scan_mode=None if mode in ("", "auto") else model.ScanMode(mode),
    )


def _verification(table: own.Table, message: pb.VerifyOperation) -> model.VerifyOperation:
    try:
        type_ = own.OperationType(message.operation_type)
    except ValueError as unknown:
        raise UnknownRequest(f"verify_operation: {unknown}; upgrade this executor") from unknown
    return model.VerifyOperation(
        table,
        operation=own.OperationId(message.operation_id),
        type=type_,
        stamps=convert.stamps(message.stamps),
        base_snapshot=message.base_snapshot_id if message.HasField("base_snapshot_id") else None,
        base_metadata_location=message.base_metadata_location,
        expiring_snapshots=tuple(message.expiring_snapshot_ids),
        retained_snapshots=tuple(message.retained_snapshot_ids),
    )


def to_wire(
    asked: pb.Observe, answer: Answer | ObservationError, *, began: Timestamp, elapsed: timedelta
) -> pb.Observation:
    """The answer to `asked`, whose reading began no earlier than `began`."""
    took = Duration()
    took.FromTimedelta(elapsed)
    message = pb.Observation(observation_id=asked.observation_id, epoch=asked.epoch, begin_time=began, elapsed=took)
    match answer:
        case ObservationError():
            message.error.CopyFrom(pb.ObservationError(kind=answer.kind, message=str(answer)))
        case model.TableNames():
            message.table_names.CopyFrom(_table_names(answer))
        case model.LoadedTable():
            message.loaded_table.CopyFrom(_loaded_table(answer))
        case model.CatalogChecks(checks):
            found = (pb.Check(check=c.check, passed=c.passed, detail=c.detail, hint=c.hint) for c in checks)
            message.catalog_checks.CopyFrom(pb.CatalogChecks(checks=found))
        case model.Measurements():
            message.measurements.CopyFrom(_measurements(answer))
        case model.Evidence():
            _set_evidence(message, answer)
        case model.Verification():
            message.verdict.CopyFrom(_verdict(answer))
        case model.ExpiryPlan():
            message.expiry_plan.CopyFrom(_expiry_plan(answer))
        case model.OrphanPlan():
            message.orphan_plan.CopyFrom(_orphan_plan(answer))
    return message


def _table_names(answer: model.TableNames) -> pb.TableNames:
    tables = (pb.TableRef(namespace=each.namespace, name=each.name) for each in answer.names)
    known = answer.metadata_locations
    locations = [known.get(each, "") for each in answer.names] if known else []
    return pb.TableNames(tables=tables, complete=answer.complete, metadata_locations=locations)


def _loaded_table(table: model.LoadedTable) -> pb.LoadedTable:
    return pb.LoadedTable(
        table=pb.TableRef(namespace=table.namespace, name=table.name, uuid=table.uuid, location=table.location),
        metadata_location=table.metadata_location,
        format_version=table.format_version,
        current_snapshot_id=table.current_snapshot_id,
        properties=table.properties,
        maintenance_disabled=not table.is_maintained,
    )


def _measurements(answer: model.Measurements) -> pb.Measurements:
    return pb.Measurements(
        table=_loaded_table(answer.table),
        scan_mode=answer.scan_mode,
        measurements=(pb.Measurement(name=m.name, knowledge=m.knowledge, value=m.value) for m in answer.metrics),
    )


def _set_evidence(message: pb.Observation, answer: model.Evidence) -> None:
    if answer.table is None or answer.identity is not model.Identity.SAME:
        # Either way the table that was asked about is not there; what stands under its name is another's.
        why = "another table has its name" if answer.identity is model.Identity.REPLACED else "it does not exist"
        message.error.CopyFrom(pb.ObservationError(kind=ErrorKind.NOT_FOUND, message=f"the table is gone: {why}"))
        return
    snapshots = (
        pb.StampedSnapshot(
            snapshot_id=each.snapshot_id, stamp=pb.Stamp(operation_id=each.stamp.operation, epoch=each.stamp.epoch)
        )
        for each in answer.snapshots
    )
    message.evidence.CopyFrom(
        pb.Evidence(table=_loaded_table(answer.table), snapshots=snapshots, present_snapshot_ids=answer.present)
    )


def _verdict(answer: model.Verification) -> pb.Verdict:
    findings = []
    for finding in answer.findings:
        passed = finding.judgement is model.Judgement.PASSED
        hint = "" if passed else finding.judgement.value
        findings.append(pb.Check(check=finding.check, passed=passed, detail=finding.detail, hint=hint))
    table = _loaded_table(answer.table) if answer.table is not None else None
    return pb.Verdict(table=table, verdict=answer.verdict, findings=findings)


def _expiry_plan(answer: model.ExpiryPlan) -> pb.ExpiryPlan:
    plan = pb.ExpiryPlan(
        table=_loaded_table(answer.table),
        expiring_snapshot_ids=answer.expiring[:_MOST_SNAPSHOTS],
        retained_snapshot_ids=answer.retained[:_MOST_SNAPSHOTS],
        expiring_count=len(answer.expiring),
        retained_count=len(answer.retained),
        refs=(pb.SnapshotRef(name=r.name, snapshot_id=r.snapshot_id, is_branch=r.is_branch) for r in answer.refs),
        refusal=answer.refusal,
    )
    if answer.newest_expiring is not None:
        plan.newest_expiring_time.FromDatetime(answer.newest_expiring)
    if answer.oldest_retained is not None:
        plan.oldest_retained_time.FromDatetime(answer.oldest_retained)
    return plan


def _orphan_plan(answer: model.OrphanPlan) -> pb.OrphanPlan:
    plan = pb.OrphanPlan(
        table=_loaded_table(answer.table),
        file_count=answer.files,
        total_bytes=answer.size,
        remaining_count=answer.remaining,
        listed_count=answer.listed_files,
        listed_bytes=answer.listed_size,
        young_count=answer.young,
        sample_paths=answer.sample,
        digest=answer.digest,
        exceeded_caps=answer.exceeded,
        refusal=answer.refusal,
    )
    if answer.oldest is not None:
        plan.oldest_time.FromDatetime(answer.oldest)
    if answer.newest is not None:
        plan.newest_time.FromDatetime(answer.newest)
    return plan
