"""The executor stream's messages to and from the domain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, assert_never

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from control_plane.domain.catalog import Catalog
from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.executor import Capabilities
from control_plane.domain.health import HealthMetrics, Knowledge, Metric
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    ObservationId,
    OperationId,
    OperationType,
    TableName,
    TableUuid,
)
from control_plane.domain.observation import (
    Answer,
    CatalogChecks,
    Evidence,
    LoadedTable,
    Measurements,
    Observation,
    ObservationError,
    ObservationKind,
    Stamp,
    StampedSnapshot,
    TableNames,
    Verdict,
)
from control_plane.domain.operation import (
    Effects,
    Failure,
    FailureClass,
    Finding,
    Lease,
    Outcome,
    Plan,
    Progress,
    Result,
    VerificationVerdict,
)
from control_plane.domain.rules import Rules
from control_plane.services.dispatch import Grant, Hello, Look
from floe.execution.v1 import assignment_pb2 as pb

MAX_TEXT = 4_000
MAX_SNAPSHOTS = 100_000
MAX_LEASES = 1_000
_METRICS = frozenset(
    {
        "files_rewritten",
        "files_added",
        "bytes_rewritten",
        "bytes_added",
        "manifests_rewritten",
        "snapshots_expired",
        "data_files_removed",
        "delete_files_removed",
        "orphan_files_removed",
        "bytes_freed",
    }
)


def lease_from_proto(lease: pb.Lease) -> Lease:
    return Lease(OperationId(lease.operation_id), lease.epoch, lease.token)


def lease_to_proto(lease: Lease) -> pb.Lease:
    return pb.Lease(operation_id=lease.operation, epoch=lease.epoch, token=lease.token)


def hello_from_proto(hello: pb.Hello) -> Hello:
    can = hello.capabilities
    if not hello.executor_id or can.slots < 0 or can.slots > 1_000 or len(hello.leases) > MAX_LEASES:
        raise InvalidArgument(
            [FieldViolation("hello", "needs an executor id, 0 to 1,000 slots and at most 1,000 leases")]
        )
    # Types of a newer executor that this control plane does not know are none of its business.
    types = [OperationType(name) for name in can.operation_types if name in OperationType.__members__]
    return Hello(
        protocol=hello.protocol_version,
        executor=ExecutorId(text(hello.executor_id, 64)),
        display_name=text(hello.display_name, 200),
        software_version=text(hello.software_version, 100),
        capabilities=Capabilities(
            engine=text(can.engine, 50),
            engine_version=text(can.engine_version, 100),
            operation_types=types,
            slots=can.slots,
            observation_slots=min(can.observation_slots, 1_000),
            observation_kinds=list(can.observation_kinds),
            catalogs=[CatalogName(name) for name in can.catalogs],
            labels={text(key, 63): text(value, 255) for key, value in can.labels.items()},
        ),
        leases=[lease_from_proto(lease) for lease in hello.leases],
        wall_time=hello.wall_time.ToDatetime(tzinfo=UTC),
    )


def grant_to_proto(grant: Grant, rules: Rules) -> pb.Assignment:
    operation = grant.operation
    assignment = pb.Assignment(
        lease=lease_to_proto(operation.lease),
        attempt=operation.attempt,
        ack_within=_duration(rules.ack_within.total_seconds()),
        table=_table(operation.table, operation.table_uuid, operation.location),
        catalog=catalog_to_proto(grant.catalog),
        policy_name=operation.policy,
        policy_generation=operation.policy_generation,
        timeout=_duration(operation.timeout.total_seconds()),
        cancel_grace=_duration(30),
        retries_left=max(0, operation.max_attempts - operation.attempt),
        solo=operation.solo,
        traceparent=operation.traceparent,
        earlier=[_stamp(stamp) for stamp in grant.earlier],
        earlier_snapshot_ids=grant.earlier_snapshots,
    )
    match operation.type:
        case OperationType.REWRITE_DATA_FILES:
            json_format.ParseDict(dict(operation.action), assignment.rewrite_data_files)
            assignment.rewrite_data_files.SetInParent()
        case OperationType.EXPIRE_SNAPSHOTS:
            json_format.ParseDict(dict(operation.action), assignment.expire_snapshots)
            assignment.expire_snapshots.SetInParent()
        case other:
            assert_never(other)
    return assignment


def catalog_to_proto(catalog: Catalog) -> pb.CatalogRecord:
    return pb.CatalogRecord(
        name=catalog.name,
        type=catalog.type.lower(),
        uri=catalog.uri,
        warehouse=catalog.warehouse,
        properties=catalog.properties,
        secrets=catalog.secrets,
        generation=catalog.generation,
    )


def look_to_proto(look: Look) -> pb.Observe:
    observation: Observation = look.observation
    request = observation.request
    observe = pb.Observe(
        observation_id=observation.id,
        epoch=observation.epoch,
        timeout=_duration(observation.timeout.total_seconds()),
        catalog=catalog_to_proto(look.catalog),
        traceparent=observation.traceparent,
    )
    if request.table is not None:
        observe.table.CopyFrom(_table(request.table, request.table_uuid or TableUuid(""), request.location))
    stamps = [_stamp(stamp) for stamp in request.stamps]
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
        case other:
            assert_never(other)
    return observe


def plan_from_proto(plan: pb.PlanReport) -> Plan:
    if len(plan.expiring_snapshot_ids) > MAX_SNAPSHOTS or len(plan.retained_snapshot_ids) > MAX_SNAPSHOTS:
        raise InvalidArgument([FieldViolation("plan", f"names more than {MAX_SNAPSHOTS:,} snapshots")])
    return Plan(
        base_snapshot=plan.base_snapshot_id if plan.HasField("base_snapshot_id") else None,
        base_metadata_location=text(plan.base_metadata_location, MAX_TEXT),
        max_commits=max(1, plan.max_commits),
        expected_groups=plan.expected_groups if plan.HasField("expected_groups") else None,
        expiring_snapshots=tuple(plan.expiring_snapshot_ids),
        retained_snapshots=tuple(plan.retained_snapshot_ids),
    )


def progress_from_proto(report: pb.ProgressReport, time: datetime) -> Progress:
    def known(name: str) -> int | None:
        return max(0, getattr(report, name)) if report.HasField(name) else None  # type: ignore[arg-type]  # the field's name is ours

    return Progress(
        phase=text(report.phase, 100),
        groups_done=known("groups_done"),
        groups_total=known("groups_total"),
        tasks_done=known("tasks_done"),
        tasks_total=known("tasks_total"),
        bytes_written=known("bytes_written"),
        estimated=report.estimated,
        time=time,
    )


def result_from_proto(result: pb.Result) -> Result:
    """Raises InvalidArgument for values that no executor of this protocol sends."""
    try:
        failure = None
        if result.HasField("failure"):
            failure = Failure(FailureClass[getattr(result.failure, "class")], text(result.failure.message, MAX_TEXT))
        return Result(
            outcome=Outcome[result.outcome],
            effects=Effects[result.effects],
            failure=failure,
            cancelled=result.cancelled,
            skipped=text(result.skip_reason, 100),
            snapshots=tuple(result.snapshot_ids[:MAX_SNAPSHOTS]),
            metrics={name: value for name, value in sorted(result.metrics.items()) if name in _METRICS and value >= 0},
            commits_answered=result.commits_answered,
            execution_id=text(result.execution_id, 200),
        )
    except KeyError as error:
        raise InvalidArgument([FieldViolation("result", f"has the unknown value {error}")]) from error


def answer_from_proto(catalog: CatalogName, answer: pb.Observation) -> Answer:
    """The look's answer; one that says nothing understood is an INTERNAL error of the look."""
    match answer.WhichOneof("outcome"):
        case "error":
            return ObservationError(text(answer.error.kind, 50) or "INTERNAL", text(answer.error.message, MAX_TEXT))
        case "table_names":
            names: list[TableName] = []
            for table in answer.table_names.tables:
                try:
                    names.append(TableName(catalog, tuple(table.namespace), table.name))
                except ValueError:
                    continue  # A name that no table can have here; nothing could be asked about it.
            return TableNames(
                tuple(names), answer.table_names.complete and len(names) == len(answer.table_names.tables)
            )
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
        case _:
            return ObservationError("INTERNAL", "the executor's answer is empty, or of a kind that is not known here")


def text(value: str, limit: int) -> str:
    """A peer's text: bounded, and without control characters that would forge log lines."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}"
        for character in value[:limit]
    )


def observation_id(answer: pb.Observation) -> ObservationId:
    return ObservationId(text(answer.observation_id, 64))


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
    )


def _finding(check: pb.Check) -> Finding:
    return Finding(text(check.check, 100), check.passed, text(check.detail, MAX_TEXT), text(check.hint, MAX_TEXT))


def _table(name: TableName, uuid: TableUuid, location: str) -> pb.TableRef:
    return pb.TableRef(namespace=name.namespace, name=name.name, uuid=uuid, location=location)


def _stamp(stamp: Stamp) -> pb.Stamp:
    return pb.Stamp(operation_id=stamp.operation, epoch=stamp.epoch)


def _duration(seconds: float) -> Any:
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration
