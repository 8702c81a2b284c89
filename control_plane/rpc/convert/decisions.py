"""Decisions and explanations between the public API and the services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import CatalogName, PolicyName
from control_plane.domain.resolution import Loser
from control_plane.domain.scheduling import Decision, SlotVerdict, Step
from control_plane.ports.scheduling import DecisionFilter
from control_plane.rpc.convert.operations import type_from_proto
from control_plane.rpc.convert.values import from_enum, table_name, to_datetime, to_enum, to_timestamp
from control_plane.services.explaining import Explained
from floe.v1 import decision_pb2 as pb
from floe.v1 import operation_pb2, table_pb2, trigger_pb2

_TYPE: Final = "OPERATION_TYPE_"
_VERDICT: Final = "SLOT_VERDICT_"
_NOBODY: Final = "no_governing_policy"


def decision_to_proto(decision: Decision) -> pb.Decision:
    return pb.Decision(
        id=decision.id,
        catalog=decision.table.catalog,
        namespace=decision.table.namespace,
        table=decision.table.name,
        operation_type=to_enum(operation_pb2.OperationType, _TYPE, decision.type),
        mode=decision.mode,
        policy_name=decision.policy,
        policy_generation=decision.policy_generation,
        slot_time=to_timestamp(decision.slot),
        slot_text=decision.slot_text,
        last_slot_time=to_timestamp(decision.last_slot),
        slots=decision.slots,
        verdict=to_enum(pb.SlotVerdict, _VERDICT, decision.verdict),
        reason=decision.reason,
        text=decision.text,
        steps=_steps(decision.steps),
        operation_id=decision.operation or "",
        next_eligible_time=to_timestamp(decision.next_eligible),
        decide_time=to_timestamp(decision.time),
        term=decision.term,
    )


def decision_filter_from_proto(request: table_pb2.ListDecisionsRequest) -> DecisionFilter:
    table = None
    if request.namespace or request.table:
        missing = [
            FieldViolation(field, "is required beside namespace and table: a decision is about one table")
            for field, text in (
                ("catalog", request.catalog),
                ("namespace", request.namespace),
                ("table", request.table),
            )
            if not text
        ]
        if missing:
            raise InvalidArgument(missing)
        table = table_name(request.catalog, request.namespace, request.table)
    return DecisionFilter(
        catalog=CatalogName(request.catalog) if request.catalog else None,
        table=table,
        policy=PolicyName(request.policy_name) if request.policy_name else None,
        types=[
            type_from_proto(kind, field=f"operationTypes[{index}]")
            for index, kind in enumerate(request.operation_types)
        ],
        verdicts=[
            SlotVerdict(from_enum(pb.SlotVerdict, _VERDICT, verdict, field=f"verdicts[{index}]"))
            for index, verdict in enumerate(request.verdicts)
        ],
        since=to_datetime(request.since, field="since") if request.HasField("since") else None,
    )


def explained_to_proto(explained: Explained) -> trigger_pb2.TriggerExplanation:
    winner, judged = explained.resolution.winner, explained.explanation
    answer: dict[str, Any] = {
        "reason": _NOBODY,
        "text": f"no enabled policy configures {explained.type} for this table",
    }
    if winner is not None and judged is not None:
        answer = {
            "policy_name": winner.name,
            "policy_generation": winner.generation,
            "would_run": judged.would_run,
            "verdict": to_enum(pb.SlotVerdict, _VERDICT, judged.verdict),
            "reason": judged.reason,
            "text": judged.text,
            "steps": _steps(judged.steps),
            "next_eligible_time": to_timestamp(judged.next_eligible),
            "next_slot_time": to_timestamp(judged.next_slot),
            "next_due_time": to_timestamp(judged.next_due),
            "awaited_operation_id": judged.awaiting or "",
        }
    last = explained.last_decision
    return trigger_pb2.TriggerExplanation(
        operation_type=to_enum(operation_pb2.OperationType, _TYPE, explained.type),
        mode=explained.mode,
        losers=[_loser(loser) for loser in explained.resolution.losers],
        blockers=explained.blockers,
        last_decision=decision_to_proto(last) if last is not None else None,
        **answer,
    )


def _steps(steps: Sequence[Step]) -> list[pb.DecisionStep]:
    return [pb.DecisionStep(name=step.name, text=step.text, passed=step.passed) for step in steps]


def _loser(loser: Loser) -> trigger_pb2.PolicyLoser:
    return trigger_pb2.PolicyLoser(policy_name=loser.policy, reason=loser.reason, detail=loser.detail)
