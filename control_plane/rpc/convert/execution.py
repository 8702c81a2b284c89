"""The executor stream's messages to and from the domain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from control_plane.domain.catalog import Catalog
from control_plane.domain.errors import FieldViolation, InvalidArgument, NotHandedOut
from control_plane.domain.executor import Capabilities
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    OperationId,
    OperationType,
    TableName,
    TableUuid,
)
from control_plane.domain.observation import (
    Stamp,
)
from control_plane.domain.operation import (
    Effects,
    Failure,
    FailureClass,
    Lease,
    Operation,
    Outcome,
    Plan,
    Progress,
    Result,
)
from control_plane.domain.rules import Rules
from control_plane.services.dispatch import Grant, Hello
from floe.execution.v1 import assignment_pb2 as pb

MAX_TEXT = 4_000
MAX_SNAPSHOTS = 100_000
MAX_LEASES = 1_000
_CANCEL_COMES_WITHIN = timedelta(seconds=10)
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


MAX_SLOTS: Final = 1_000
# What an assignment can say.
_HANDED_OUT = frozenset({OperationType.REWRITE_DATA_FILES, OperationType.EXPIRE_SNAPSHOTS})


def lease_from_proto(lease: pb.Lease) -> Lease:
    return Lease(OperationId(lease.operation_id), lease.epoch, lease.token)


def lease_to_proto(lease: Lease) -> pb.Lease:
    return pb.Lease(operation_id=lease.operation, epoch=lease.epoch, token=lease.token)


def hello_from_proto(hello: pb.Hello) -> Hello:
    can = hello.capabilities
    slots_fit = 0 <= can.slots <= MAX_SLOTS and 0 <= can.metadata_slots <= MAX_SLOTS
    if not hello.executor_id or not slots_fit or len(hello.leases) > MAX_LEASES:
        raise InvalidArgument(
            [FieldViolation("hello", "needs an executor id, 0 to 1,000 slots and at most 1,000 leases")]
        )
    # What a newer executor can do beyond that is none of this control plane's business.
    types = [kind for kind in OperationType if kind in _HANDED_OUT and kind in can.operation_types]
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
            metadata_slots=can.metadata_slots,
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
        ack_within=duration_to_proto(rules.ack_within.total_seconds()),
        table=table_to_proto(operation.table, operation.table_uuid, operation.location),
        catalog=catalog_to_proto(grant.catalog),
        policy_name=operation.policy,
        policy_generation=operation.policy_generation,
        timeout=duration_to_proto(_time_left(operation).total_seconds()),
        cancel_grace=duration_to_proto(30),
        retries_left=max(0, operation.max_attempts - operation.attempt),
        solo=operation.solo,
        traceparent=operation.traceparent,
        earlier=[stamp_to_proto(stamp) for stamp in grant.earlier],
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
            raise NotHandedOut(other)
    return assignment


def _time_left(operation: Operation) -> timedelta:
    """How long a run that starts now may take. At the end of a window that ends what runs in it, a cancel comes first:
    this is for an executor that none reaches.
    """
    if operation.cancel_at is None or operation.update_time is None:
        return operation.timeout
    left = operation.cancel_at - operation.update_time + _CANCEL_COMES_WITHIN
    return max(min(operation.timeout, left), _CANCEL_COMES_WITHIN)


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


def text(value: str, limit: int) -> str:
    """A peer's text: bounded, and without control characters that would forge log lines."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}"
        for character in value[:limit]
    )


def table_to_proto(name: TableName, uuid: TableUuid, location: str) -> pb.TableRef:
    return pb.TableRef(namespace=name.namespace, name=name.name, uuid=uuid, location=location)


def stamp_to_proto(stamp: Stamp) -> pb.Stamp:
    return pb.Stamp(operation_id=stamp.operation, epoch=stamp.epoch)


def duration_to_proto(seconds: float) -> Any:
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration
