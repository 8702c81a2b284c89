"""TriggerService."""

from __future__ import annotations

from typing import Final

from control_plane.domain.errors import DomainError
from control_plane.domain.identifiers import PolicyName
from control_plane.rpc.convert.decisions import explained_to_proto
from control_plane.rpc.convert.triggers import triggered_to_proto, types_from_proto
from control_plane.rpc.convert.values import table_name
from control_plane.rpc.interceptors.identity import current_caller
from control_plane.rpc.once import Once
from control_plane.rpc.types import Context
from control_plane.services.explaining import ExplainingService
from control_plane.services.triggering import TriggeringService
from floe.v1 import trigger_pb2 as pb
from floe.v1 import trigger_pb2_grpc as pb_grpc
from shared.telemetry.traces import current_traceparent

_HINTS: Final = ("operations", "events")


class TriggerServicer(pb_grpc.TriggerServiceServicer):
    def __init__(self, triggering: TriggeringService, explaining: ExplainingService, once: Once) -> None:
        self._triggering = triggering
        self._explaining = explaining
        self._once = once

    async def TriggerMaintenance(
        self, request: pb.TriggerMaintenanceRequest, context: Context
    ) -> pb.TriggerMaintenanceResponse:
        name = table_name(request.catalog, request.namespace, request.table)
        types = types_from_proto(request.operation_types)
        try:
            # Ahead of the transaction: an unknown table is asked for at its catalog, which may take seconds. What
            # has changed meanwhile is seen by the claim, which looks again.
            table = await self._triggering.resolve(name, traceparent=current_traceparent())
            plan = await self._triggering.plan(
                table,
                policy=PolicyName(request.policy_name) if request.policy_name else None,
                types=types,
                by=current_caller(),
                traceparent=current_traceparent(),
            )
        except DomainError as error:
            return await self._once.stored_or_raise(request, pb.TriggerMaintenanceResponse, error)

        async def trigger() -> pb.TriggerMaintenanceResponse:
            act = self._triggering.preview if request.validate_only else self._triggering.queue
            return triggered_to_proto(await act(plan))

        return await self._once.answer(request, pb.TriggerMaintenanceResponse, trigger, hints=_HINTS, one_step=True)

    async def ExplainTrigger(self, request: pb.ExplainTriggerRequest, context: Context) -> pb.ExplainTriggerResponse:
        name = table_name(request.catalog, request.namespace, request.table)
        explained = await self._explaining.explain(name, types=types_from_proto(request.operation_types))
        return pb.ExplainTriggerResponse(explanations=[explained_to_proto(each) for each in explained])
