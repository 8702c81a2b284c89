"""The deployment and its stop switches between the public API and the domain."""

from __future__ import annotations

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import CatalogName, quoted
from control_plane.domain.pause import Pause
from control_plane.rpc.convert.values import required, table_name, to_timestamp
from control_plane.services.system import SchedulerInfo, Scope, SystemInfo
from floe.v1 import system_pb2 as pb


def info_to_proto(info: SystemInfo) -> pb.GetServerInfoResponse:
    return pb.GetServerInfoResponse(
        version=info.replica.version,
        replica_id=info.replica.id,
        start_time=to_timestamp(info.replica.start_time),
        store_type=info.replica.store_type,
        schema_version=info.schema_version,
        settings=info.replica.settings,
        pauses=[pause_to_proto(pause) for pause in info.pauses],
        operation_counts={state.value: count for state, count in info.operation_counts.items()},
        attached_executors=info.attached_executors,
        scheduler=_scheduler(info.scheduler),
    )


def _scheduler(scheduler: SchedulerInfo) -> pb.SchedulerInfo:
    term, counts = scheduler.term, scheduler.counts
    message = pb.SchedulerInfo(
        enabled=scheduler.enabled,
        targets=counts["targets"],
        due_targets=counts["due"],
        deferred_targets=counts["deferred"],
        unresolved_tables=counts["unresolved"],
        next_due_time=to_timestamp(scheduler.next_due),
    )
    if term is not None:
        message.leader_replica_id, message.term = term.holder, term.number
        message.term_start_time.FromDatetime(term.start_time)
        if term.last_pass_time is not None:
            message.last_pass_time.FromDatetime(term.last_pass_time)
    return message


def scope_from_proto(request: pb.PauseRequest | pb.ResumeRequest) -> Scope:
    """Nothing: the deployment; a catalog; or a table with its catalog and namespace."""
    if request.namespace or request.table:
        if not request.catalog:
            raise InvalidArgument([FieldViolation("catalog", "is required beside a namespace and a table")])
        return Scope(
            catalog=CatalogName(request.catalog), table=table_name(request.catalog, request.namespace, request.table)
        )
    return Scope(catalog=CatalogName(required(request.catalog, field="catalog"))) if request.catalog else Scope()


def pause_to_proto(pause: Pause) -> pb.PauseScope:
    return pb.PauseScope(
        catalog=pause.catalog or "",
        namespace=".".join(quoted(level) for level in pause.table.namespace) if pause.table is not None else "",
        table=pause.table.name if pause.table is not None else "",
        reason=pause.reason,
        until=to_timestamp(pause.until),
        paused_by=pause.paused_by,
        pause_time=to_timestamp(pause.pause_time),
    )
