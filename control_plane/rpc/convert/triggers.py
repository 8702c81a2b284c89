"""Triggers and their runs between the public API and the services."""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.domain.identifiers import OperationType
from control_plane.rpc.convert.operations import type_from_proto, view_to_proto
from control_plane.rpc.convert.values import to_enum, to_timestamp
from control_plane.services.operations import OperationView
from control_plane.services.triggering import Planned, Run, Triggered, Withheld
from floe.v1 import operation_pb2
from floe.v1 import trigger_pb2 as pb


def types_from_proto(kinds: Iterable[operation_pb2.OperationType.ValueType]) -> list[OperationType]:
    """In the order of a run, each once."""
    types = {type_from_proto(kind, field=f"operationTypes[{index}]") for index, kind in enumerate(kinds)}
    return sorted(types, key=lambda kind: kind.order)


def triggered_to_proto(triggered: Triggered, *, brief: bool) -> pb.TriggerMaintenanceResponse:
    """`brief`: of each operation only what tells it from others, so that ten thousand runs fit in one message."""
    runs = [_run(run, brief=brief) for run in triggered.runs]
    return pb.TriggerMaintenanceResponse(trigger_id=triggered.trigger_id, runs=runs)


def _run(run: Run, *, brief: bool) -> pb.Run:
    return pb.Run(
        id=run.id,
        catalog=run.table.catalog,
        namespace=run.table.namespace,
        table=run.table.name,
        operations=[_planned(planned, brief=brief) for planned in run.operations],
        withheld=[_withheld(each) for each in run.withheld],
    )


def _planned(planned: Planned, *, brief: bool) -> operation_pb2.Operation:
    whole = view_to_proto(OperationView(planned.operation, planned.blockers))
    if not brief:
        return whole
    return operation_pb2.Operation(
        id=whole.id, type=whole.type, state=whole.state, policy_name=whole.policy_name, blockers=whole.blockers[:1]
    )


def _withheld(withheld: Withheld) -> pb.WithheldOperation:
    why = withheld.explanation
    return pb.WithheldOperation(
        operation_type=to_enum(operation_pb2.OperationType, "OPERATION_TYPE_", withheld.type),
        policy_name=withheld.policy,
        reason=why.reason,
        text=why.text,
        next_eligible_time=to_timestamp(why.next_eligible),
    )
