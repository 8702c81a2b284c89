"""Requests for work by hand: which policy governs, and the operations that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from control_plane.domain.action import plan_action
from control_plane.domain.catalog import Table, TableState
from control_plane.domain.errors import (
    CatalogUnreachable,
    FieldViolation,
    InvalidArgument,
    NoGoverningPolicy,
    PatternMismatch,
    PolicyDisabled,
    TableNotFound,
)
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationId, OperationType, PolicyName, RunId, TableName, TriggerId
from control_plane.domain.observation import LoadedTable, ObservationError, ObservationKind, ObservationRequest
from control_plane.domain.operation import Operation
from control_plane.domain.policy import Policy
from control_plane.domain.resolution import resolve
from control_plane.ports.records import Store
from control_plane.services.observing import ObservingService, refuse

RESOLVE_WITHIN: Final = timedelta(seconds=5)
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a trigger wants done. Nothing of it is stored."""

    trigger_id: TriggerId
    run_id: RunId
    table: TableName
    operations: Sequence[Operation]


@dataclass(frozen=True, slots=True)
class Planned:
    """One operation of a run, and what keeps it from starting now."""

    operation: Operation
    blockers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Run:
    id: RunId
    table: TableName
    operations: Sequence[Planned]


@dataclass(frozen=True, slots=True)
class Triggered:
    trigger_id: TriggerId
    runs: Sequence[Run]


class TriggeringService:
    """Turns a trigger into queued operations. Manual triggers pass by schedules and conditions, never by guards, caps
    or a pause.
    """

    def __init__(self, store: Store, observing: ObservingService, *, floors: Floors) -> None:
        self._store = store
        self._observing = observing
        self._floors = floors

    async def resolve(self, name: TableName, *, traceparent: str = "") -> Table:
        """The table of that name; one that is not known yet is looked up in its catalog.

        Raises CatalogNotFound, TableNotFound (the catalog says so), CatalogUnreachable or NoExecutor (nobody could
        ask).
        """
        known = await self._known(name)
        if known is not None:
            return known
        await self._store.catalogs.get(name.catalog)
        request = ObservationRequest(ObservationKind.LOAD_TABLE, name.catalog, table=name)
        match await self._observing.observe(request, within=RESOLVE_WITHIN, traceparent=traceparent):
            case LoadedTable() as loaded:
                return await remember(self._store, name, loaded)
            case ObservationError(kind="NOT_FOUND") as error:
                await self._store.tables.missing(name)
                refuse(error, request)
            case ObservationError() as error:
                refuse(error, request)
            case other:
                raise CatalogUnreachable(name.catalog, why=f"its executor answered {type(other).__name__} to a load")

    async def plan(
        self,
        table: Table,
        *,
        policy: PolicyName | None,
        types: Sequence[OperationType],
        by: str,
        traceparent: str = "",
    ) -> Plan:
        """What the policy, or the governing policies, want done to the table. Nothing is queued yet."""
        if policy is None:
            enabled = await self._store.policies.enabled()
            now, chosen = enabled.time, _governing(enabled.policies, table.name, types)
        else:
            chosen = _configured(await self._store.policies.get(policy), table.name, types)
            now = await self._store.now()
        request = Request(TriggerId(str(uuid4())), RunId(str(uuid4())), by, traceparent)
        operations = [
            new_operation(table, chosen[kind], kind, request, now=now, floors=self._floors)
            for kind in sorted(chosen, key=lambda kind: kind.order)
        ]
        return Plan(request.trigger_id, request.run_id, table.name, operations)

    async def queue(self, plan: Plan) -> Triggered:
        """Queue what was planned, all of it in one step of the store."""
        return _triggered(plan, await self._store.operations.enqueue(plan.operations))

    async def preview(self, plan: Plan) -> Triggered:
        """What `queue` would answer now."""
        return _triggered(plan, await self._store.operations.blockers(plan.operations))

    async def _known(self, name: TableName) -> Table | None:
        try:
            table = await self._store.tables.get(name)
        except TableNotFound:
            return None
        return table if table.uuid and table.state is TableState.PRESENT else None


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


async def remember(store: Store, name: TableName, loaded: LoadedTable) -> Table:
    """Keep what a load said of the table, and return it."""
    now = await store.now()
    table = Table(
        name,
        loaded.uuid,
        loaded.location,
        first_seen_time=now,
        last_seen_time=now,
        metadata_location=loaded.metadata_location,
        format_version=loaded.format_version,
        maintenance_enabled=loaded.maintenance_enabled,
    )
    await store.tables.seen([table])
    store.hints.give("targets")
    return table


def _governing(
    policies: Sequence[Policy], table: TableName, types: Sequence[OperationType]
) -> Mapping[OperationType, Policy]:
    chosen: dict[OperationType, Policy] = {}
    for kind in types or OperationType:
        winner = resolve(policies, table, kind).winner
        if winner is not None:
            chosen[kind] = winner
        elif types:
            raise NoGoverningPolicy(str(table), operation_types=kind)
    if not chosen:
        raise NoGoverningPolicy(str(table), operation_types=" or ".join(OperationType))
    return chosen


def _configured(policy: Policy, table: TableName, types: Sequence[OperationType]) -> Mapping[OperationType, Policy]:
    if not policy.spec.runs:
        raise PolicyDisabled(policy.spec.name, shadow=policy.spec.is_enabled)
    if not policy.spec.pattern.matches(table):
        raise PatternMismatch(policy.spec.name, pattern=policy.spec.table_pattern, table=str(table))
    configured = policy.spec.operation_types
    missing = [
        FieldViolation(f"operationTypes[{index}]", f"policy {policy.spec.name!r} does not configure {kind}")
        for index, kind in enumerate(types)
        if kind not in configured
    ]
    if missing:
        raise InvalidArgument(missing)
    return dict.fromkeys(types or configured, policy)


def _triggered(plan: Plan, blockers: Mapping[OperationId, Sequence[str]]) -> Triggered:
    planned = [Planned(operation, blockers.get(operation.id, ())) for operation in plan.operations]
    return Triggered(plan.trigger_id, [Run(plan.run_id, plan.table, planned)])
