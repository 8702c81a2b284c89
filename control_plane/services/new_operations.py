"""Operations as they are when they are planned: which policy each is of, and what it will be told to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from control_plane.domain.action import plan_action
from control_plane.domain.catalog import Table
from control_plane.domain.errors import FieldViolation, InvalidArgument, PatternMismatch, PolicyDisabled
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationId, OperationType, RunId, TableName, TriggerId
from control_plane.domain.operation import Operation
from control_plane.domain.policy import Policy
from control_plane.domain.resolution import resolve

QUEUE_FOR: Final = timedelta(hours=24)
RUN_TIMEOUT: Final = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Request:
    """Who asked, under which trigger; the same for every operation of a run."""

    trigger_id: TriggerId
    run_id: RunId
    by: str
    traceparent: str = ""
    retry_of: OperationId | None = None


def new_operation(
    table: Table,
    policy: Policy,
    kind: OperationType,
    request: Request,
    *,
    now: datetime,
    floors: Floors,
) -> Operation:
    """A QUEUED operation of `policy` on `table`, planned at `now`: its relative ages are absolute from here on."""
    return Operation(
        id=OperationId(str(uuid4())),
        type=kind,
        table=table.name,
        table_uuid=table.uuid,
        location=table.location,
        policy=policy.spec.name,
        policy_generation=policy.generation,
        action=plan_action(policy, kind, now=now, floors=floors),
        trigger_id=request.trigger_id,
        run_id=request.run_id,
        requested_by=request.by,
        create_time=now,
        update_time=now,
        queue_deadline=now + QUEUE_FOR,
        timeout=RUN_TIMEOUT,
        virtual_deadline=now,
        retry_of=request.retry_of,
        traceparent=request.traceparent,
    )


def governing(
    policies: Sequence[Policy], table: TableName, types: Sequence[OperationType]
) -> Mapping[OperationType, Policy]:
    """Of each type that is asked for (none: of every type) the policy that governs the table, where there is one."""
    found = {kind: resolve(policies, table, kind).winner for kind in types or OperationType}
    return {kind: winner for kind, winner in found.items() if winner is not None}


def configured(policy: Policy, types: Sequence[OperationType]) -> Mapping[OperationType, Policy]:
    """The types asked for (none: all that the policy configures) under one policy that was named.

    Raises PolicyDisabled, and InvalidArgument for a type that it does not configure.
    """
    if not policy.spec.runs:
        raise PolicyDisabled(policy.spec.name, shadow=policy.spec.is_enabled)
    missing = [
        FieldViolation(f"operationTypes[{index}]", f"policy {policy.spec.name!r} does not configure {kind}")
        for index, kind in enumerate(types)
        if kind not in policy.spec.operation_types
    ]
    if missing:
        raise InvalidArgument(missing)
    return dict.fromkeys(types or policy.spec.operation_types, policy)


def mismatch(policy: Policy, target: object) -> PatternMismatch:
    return PatternMismatch(policy.spec.name, pattern=policy.spec.table_pattern, table=str(target))
