"""TriggerService."""

from __future__ import annotations

from typing import Final

from control_plane.domain.catalog import Table
from control_plane.domain.errors import DomainError, FieldViolation, InvalidArgument
from control_plane.domain.identifiers import PolicyName, TableName
from control_plane.domain.pattern import Pattern
from control_plane.rpc.convert.decisions import explained_to_proto
from control_plane.rpc.convert.plans import plan_to_proto
from control_plane.rpc.convert.triggers import triggered_to_proto, types_from_proto
from control_plane.rpc.convert.values import table_name
from control_plane.rpc.interceptors.identity import current_caller
from control_plane.rpc.once import Once
from control_plane.rpc.types import Context
from control_plane.services.explaining import ExplainingService
from control_plane.services.planning import PlanningService
from control_plane.services.triggering import MAX_TABLES, TriggeringService, Wanted
from floe.v1 import trigger_pb2 as pb
from floe.v1 import trigger_pb2_grpc as pb_grpc
from shared.telemetry.traces import current_traceparent

_HINTS: Final = ("operations", "events")


class TriggerServicer(pb_grpc.TriggerServiceServicer):
    def __init__(
        self, triggering: TriggeringService, planning: PlanningService, explaining: ExplainingService, once: Once
    ) -> None:
        self._planning = planning
        self._triggering = triggering
        self._explaining = explaining
        self._once = once

    async def TriggerMaintenance(
        self, request: pb.TriggerMaintenanceRequest, context: Context
    ) -> pb.TriggerMaintenanceResponse:
        traceparent = current_traceparent()
        wanted = Wanted(
            by=current_caller(),
            policy=PolicyName(request.policy_name) if request.policy_name else None,
            types=types_from_proto(request.operation_types),
            respect_conditions=request.respect_conditions,
            traceparent=traceparent,
        )
        target, most = _target(request)
        try:
            # Ahead of the transaction: an unknown table is asked for at its catalog, which may take seconds. What
            # has changed meanwhile is seen by the claim, which looks again.
            if isinstance(target, Pattern):
                tables = await self._triggering.matching(target, most=most)
            else:
                tables = [await self._table(target, request, wanted)]
            plan = await self._triggering.plan(tables, wanted)
        except DomainError as error:
            return await self._once.stored_or_raise(request, pb.TriggerMaintenanceResponse, error)

        async def trigger() -> pb.TriggerMaintenanceResponse:
            act = self._triggering.preview if request.validate_only else self._triggering.queue
            return triggered_to_proto(await act(plan), brief=bool(request.pattern))

        return await self._once.answer(
            request, pb.TriggerMaintenanceResponse, trigger, hints=_HINTS, one_step=not request.pattern
        )

    async def PlanMaintenance(self, request: pb.PlanMaintenanceRequest, context: Context) -> pb.PlanMaintenanceResponse:
        name = table_name(request.catalog, request.namespace, request.table)
        wanted = Wanted(
            by=current_caller(),
            policy=PolicyName(request.policy_name) if request.policy_name else None,
            types=types_from_proto(request.operation_types),
            traceparent=current_traceparent(),
        )
        return plan_to_proto(await self._planning.plan(name, wanted))

    async def _table(self, name: TableName, request: pb.TriggerMaintenanceRequest, wanted: Wanted) -> Table:
        if request.plan_hash:
            return await self._planning.require(name, wanted, hash=request.plan_hash)
        return await self._triggering.resolve(name, traceparent=wanted.traceparent)

    async def ExplainTrigger(self, request: pb.ExplainTriggerRequest, context: Context) -> pb.ExplainTriggerResponse:
        name = table_name(request.catalog, request.namespace, request.table)
        explained = await self._explaining.explain(name, types=types_from_proto(request.operation_types))
        return pb.ExplainTriggerResponse(explanations=[explained_to_proto(each) for each in explained])


def _target(request: pb.TriggerMaintenanceRequest) -> tuple[TableName | Pattern, int]:
    """The table, or the pattern with the most tables that it may match."""
    if request.plan_hash and (request.pattern or request.respect_conditions):
        other = "a pattern" if request.pattern else "respectConditions"
        raise InvalidArgument(
            [FieldViolation("planHash", f"is of all that one table wants, and does not go with {other}")]
        )
    if not request.pattern:
        if request.max_tables:
            raise InvalidArgument([FieldViolation("maxTables", "goes with a pattern, and there is none")])
        return table_name(request.catalog, request.namespace, request.table), 1
    named = [
        FieldViolation(field, "give a table or a pattern, not both")
        for field in ("catalog", "namespace", "table")
        if getattr(request, field)
    ]
    if named:
        raise InvalidArgument(named)
    if not 0 <= request.max_tables <= MAX_TABLES:
        raise InvalidArgument(
            [FieldViolation("maxTables", f"must be from 0 (the most) to {MAX_TABLES}, is {request.max_tables}")]
        )
    return Pattern.parse(request.pattern, field="pattern"), request.max_tables or MAX_TABLES
