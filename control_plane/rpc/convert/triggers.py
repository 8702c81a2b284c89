"""Triggers and their runs between the public API and the services."""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.domain.identifiers import OperationType
from control_plane.rpc.convert.operations import type_from_proto, view_to_proto
from control_plane.services.operations import OperationView
from control_plane.services.triggering import Planned, Run, Triggered
from floe.v1 import operation_pb2
from floe.v1 import trigger_pb2 as pb


def types_from_proto(kinds: Iterable[operation_pb2.OperationType.ValueType]) -> list[OperationType]:
    """In the order of a run, each once."""
    types = {type_from_proto(kind, field=f"operationTypes[{index}]") for index, kind in enumerate(kinds)}
    return sorted(types, key=lambda kind: kind.order)


def triggered_to_proto(triggered: Triggered) -> pb.TriggerMaintenanceResponse:
    return pb.TriggerMaintenanceResponse(trigger_id=triggered.trigger_id, runs=[_run(run) for run in triggered.runs])


def _run(run: Run) -> pb.Run:
    return pb.Run(
        id=run.id,
        catalog=run.table.catalog,
        namespace=run.table.namespace,
        table=run.table.name,
        operations=[_planned(planned) for planned in run.operations],
    )


def _planned(planned: Planned) -> operation_pb2.Operation:
    return view_to_proto(OperationView(planned.operation, planned.blockers))
