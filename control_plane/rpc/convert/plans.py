"""Plans between the public API and the services."""

from __future__ import annotations

from control_plane.rpc.convert.values import to_enum, to_timestamp
from control_plane.services.planning import MaintenancePlan, PlannedOperation
from floe.v1 import operation_pb2
from floe.v1 import trigger_pb2 as pb


def plan_to_proto(plan: MaintenancePlan) -> pb.PlanMaintenanceResponse:
    return pb.PlanMaintenanceResponse(
        plan_hash=plan.hash,
        plan_time=to_timestamp(plan.time),
        metadata_location=plan.table.metadata_location,
        measure_time=to_timestamp(plan.health.measure_time if plan.health is not None else None),
        operations=[_operation(each) for each in plan.operations],
    )


def _operation(planned: PlannedOperation) -> pb.PlannedOperation:
    predicted = planned.prediction
    return pb.PlannedOperation(
        operation_type=to_enum(operation_pb2.OperationType, "OPERATION_TYPE_", planned.operation.type),
        policy_name=planned.operation.policy,
        policy_generation=planned.operation.policy_generation,
        input_files=predicted.input_files,
        input_bytes=predicted.input_bytes,
        output_files=predicted.output_files,
        output_bytes=predicted.output_bytes,
        expiring_snapshots=predicted.expiring_snapshots,
        retained_snapshots=predicted.retained_snapshots,
        duration_seconds=planned.seconds,
        duration_basis=planned.basis,
        risks=[pb.PlanRisk(code=risk.code, text=risk.text) for risk in planned.risks],
        blockers=planned.blockers,
        refusal=planned.refusal,
        would_run=planned.explanation.would_run,
        condition_text=planned.explanation.text,
    )
