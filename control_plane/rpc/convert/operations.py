"""Operations, filters and watches between the public API and the domain."""

from __future__ import annotations

from typing import Final

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import CatalogName, OperationId, OperationType, PolicyName, RunId, TriggerId
from control_plane.domain.operation import (
    Attempt,
    Failure,
    Operation,
    OperationState,
    Progress,
    Verification,
)
from control_plane.ports.operations import OperationFilter
from control_plane.rpc.convert.values import from_enum, id_of, ids_of, table_name_of_levels, to_enum, to_timestamp
from control_plane.rpc.pagination import write_cursor
from control_plane.services.operations import OperationView, WatchUpdate
from floe.v1 import operation_pb2 as pb

_TYPE: Final = "OPERATION_TYPE_"
_STATE: Final = "OPERATION_STATE_"
_OUTCOME: Final = "OUTCOME_"
_EFFECTS: Final = "EFFECTS_"
_FAILURE: Final = "FAILURE_CLASS_"
_VERDICT: Final = "VERIFICATION_VERDICT_"
METRIC_NAMES: Final = frozenset(pb.OperationMetrics.DESCRIPTOR.fields_by_name) - {
    "duration_ms",
    "engine_type",
    "execution_id",
}


def type_from_proto(value: pb.OperationType.ValueType, *, field: str) -> OperationType:
    return OperationType(from_enum(pb.OperationType, _TYPE, value, field=field))


def type_to_proto(kind: OperationType) -> pb.OperationType.ValueType:
    value: pb.OperationType.ValueType = to_enum(pb.OperationType, _TYPE, kind)
    return value


def filter_from_proto(where: pb.OperationFilter) -> OperationFilter:
    if where.namespace and not (where.catalog and where.table):
        raise InvalidArgument([FieldViolation("filter.namespace", "needs `catalog` and `table` beside it")])
    if where.table and not (where.catalog and where.namespace):
        raise InvalidArgument([FieldViolation("filter.table", "needs `catalog` and `namespace` beside it")])
    table = (
        table_name_of_levels(where.catalog, where.namespace, where.table, field="filter.table") if where.table else None
    )
    return OperationFilter(
        catalog=CatalogName(where.catalog) if where.catalog and table is None else None,
        table=table,
        run=RunId(id_of(where.run_id, field="filter.runId")) if where.run_id else None,
        trigger=TriggerId(id_of(where.trigger_id, field="filter.triggerId")) if where.trigger_id else None,
        policy=PolicyName(where.policy_name) if where.policy_name else None,
        states=tuple(
            OperationState(from_enum(pb.OperationState, _STATE, state, field=f"filter.states[{index}]"))
            for index, state in enumerate(where.states)
        ),
        types=tuple(type_from_proto(kind, field=f"filter.types[{index}]") for index, kind in enumerate(where.types)),
        ids=tuple(OperationId(id) for id in ids_of(where.operation_ids, field="filter.operationIds")),
    )


def view_to_proto(view: OperationView) -> pb.Operation:
    message = operation_to_proto(view.operation)
    message.blockers.extend(view.blockers)
    message.attempts.extend(_attempt(attempt) for attempt in view.attempts)
    if view.progress is not None:
        message.progress.CopyFrom(progress_to_proto(view.progress))
    return message


def operation_to_proto(operation: Operation) -> pb.Operation:
    return pb.Operation(
        id=operation.id,
        type=to_enum(pb.OperationType, _TYPE, operation.type),
        state=to_enum(pb.OperationState, _STATE, operation.state),
        state_reason=operation.state_reason,
        catalog=operation.table.catalog,
        namespace=operation.table.namespace,
        table=operation.table.name,
        table_uuid=operation.table_uuid,
        policy_name=operation.policy,
        policy_generation=operation.policy_generation,
        trigger_id=operation.trigger_id,
        run_id=operation.run_id,
        attempt=operation.attempt,
        max_attempts=operation.max_attempts,
        epoch=operation.epoch,
        executor_id=operation.executor or "",
        outcome=to_enum(pb.Outcome, _OUTCOME, operation.outcome),
        effects=to_enum(pb.Effects, _EFFECTS, operation.effects),
        failure=_failure(operation.failure),
        metrics=_metrics(operation),
        snapshot_ids=operation.snapshots,
        verification=_verification(operation.verification),
        cancel_request_time=to_timestamp(operation.cancel_request_time),
        cancel_requested_by=operation.cancel_requested_by,
        retry_of=operation.retry_of or "",
        requested_by=operation.requested_by,
        create_time=to_timestamp(operation.create_time),
        not_before=to_timestamp(operation.not_before),
        queue_deadline=to_timestamp(operation.queue_deadline),
        start_time=to_timestamp(operation.start_time),
        finish_time=to_timestamp(operation.finish_time),
        update_time=to_timestamp(operation.update_time or operation.create_time),
        etag=str(operation.revision),
        late_effects=operation.late_effects,
        origin=to_enum(pb.OperationOrigin, "OPERATION_ORIGIN_", operation.origin),
        slot_time=to_timestamp(operation.slot),
    )


def progress_to_proto(progress: Progress) -> pb.OperationProgress:
    return pb.OperationProgress(
        phase=progress.phase,
        groups_done=progress.groups_done,
        groups_total=progress.groups_total,
        tasks_done=progress.tasks_done,
        tasks_total=progress.tasks_total,
        bytes_written=progress.bytes_written,
        estimated=progress.estimated,
        report_time=to_timestamp(progress.time),
    )


def update_to_proto(update: WatchUpdate) -> pb.WatchOperationsResponse:
    message = pb.WatchOperationsResponse(cursor=write_cursor(update.cursor) if update.cursor is not None else "")
    if update.event is not None:
        event = update.event
        message.event.CopyFrom(
            pb.OperationEvent(
                sequence=event.sequence,
                event=event.event,
                event_time=to_timestamp(event.time),
                from_state=to_enum(pb.OperationState, _STATE, event.from_state),
                to_state=to_enum(pb.OperationState, _STATE, event.to_state),
                operation=operation_to_proto(event.operation),
            )
        )
    elif update.progress is not None:
        operation, progress = update.progress
        message.progress.CopyFrom(
            pb.OperationProgressUpdate(operation_id=operation, progress=progress_to_proto(progress))
        )
    else:
        message.heartbeat.SetInParent()
    return message


def _metrics(operation: Operation) -> pb.OperationMetrics:
    """What the executors counted. A name that the API does not know, from a newer executor, is left out."""
    metrics = pb.OperationMetrics(engine_type=operation.engine, execution_id=operation.execution_id)
    for name, value in operation.metrics.items():
        if name in METRIC_NAMES:
            setattr(metrics, name, value)
    if operation.start_time is not None and operation.finish_time is not None:
        metrics.duration_ms = round((operation.finish_time - operation.start_time).total_seconds() * 1000)
    return metrics


def _failure(failure: Failure | None) -> pb.Failure | None:
    if failure is None:
        return None
    message = pb.Failure(message=failure.message)
    setattr(message, "class", to_enum(pb.FailureClass, _FAILURE, failure.kind))  # a keyword in Python
    return message


def _verification(verification: Verification | None) -> pb.Verification | None:
    if verification is None:
        return None
    return pb.Verification(
        verdict=to_enum(pb.VerificationVerdict, _VERDICT, verification.verdict),
        findings=[
            pb.VerificationFinding(check=f.check, passed=f.passed, detail=f.detail) for f in verification.findings
        ],
        verify_time=to_timestamp(verification.time),
    )


def _attempt(attempt: Attempt) -> pb.Attempt:
    return pb.Attempt(
        number=attempt.number,
        epoch=attempt.epoch,
        executor_id=attempt.executor,
        start_time=to_timestamp(attempt.start_time),
        finish_time=to_timestamp(attempt.finish_time),
        outcome=to_enum(pb.Outcome, _OUTCOME, attempt.outcome),
        effects=to_enum(pb.Effects, _EFFECTS, attempt.effects),
        failure=_failure(attempt.failure),
        decided_by=attempt.decided_by,
    )
