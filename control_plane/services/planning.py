"""What a trigger would do to a table, and the hash that a trigger can demand of it. Nothing is queued."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from control_plane.domain.catalog import Table
from control_plane.domain.errors import CatalogUnreachable, FieldViolation, InvalidArgument, PlanChanged
from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import OperationId, OperationType, TableName
from control_plane.domain.observation import (
    ExpiryPlan,
    LoadedTable,
    Observation,
    ObservationError,
    ObservationKind,
    ObservationRequest,
)
from control_plane.domain.operation import Operation
from control_plane.domain.predictions import Pace, Prediction, Risk, duration, predict, risks
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.slots import Explanation
from control_plane.ports.records import Store
from control_plane.services.explaining import ExplainingService
from control_plane.services.observing import ObservingService, refuse
from control_plane.services.triggering import RESOLVE_WITHIN, TriggeringService, Wanted, remember

_PARTS: Final = ("the table itself", "its metadata file", "the policies that govern it or their generations")
_DIGITS: Final = 20
"""Of each part's SHA-256: 80 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedOperation:
    """What one operation would do, and what is in its way."""

    operation: Operation
    prediction: Prediction
    seconds: float | None
    basis: str
    risks: Sequence[Risk]
    blockers: Sequence[str]
    refusal: str
    explanation: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenancePlan:
    hash: str
    time: datetime
    table: LoadedTable
    health: HealthReport | None
    operations: Sequence[PlannedOperation]


class PlanningService:
    """Plans what the triggering service would queue, on the table as its catalog has it now."""

    def __init__(
        self,
        store: Store,
        observing: ObservingService,
        triggering: TriggeringService,
        explaining: ExplainingService,
        *,
        rules: SchedulingRules,
    ) -> None:
        self._store = store
        self._observing = observing
        self._triggering = triggering
        self._explaining = explaining
        self._rules = rules

    async def plan(self, name: TableName, wanted: Wanted) -> MaintenancePlan:
        """Raises what `TriggeringService.resolve` and `plan` do, NoExecutor and ObservationTimeout."""
        table, loaded = await self._loaded(name, traceparent=wanted.traceparent)
        operations = (await self._triggering.plan([table], wanted)).operations
        now = await self._store.now()
        blockers = await self._store.operations.blockers(operations)
        policies = {each.type: await self._store.policies.get(each.policy) for each in operations}
        explained = await self._explaining.judge(table, policies)
        planned = [
            await self._operation(each, table, loaded, blockers, explained, now=now, traceparent=wanted.traceparent)
            for each in operations
        ]
        return MaintenancePlan(
            hash=plan_hash(loaded, operations), time=now, table=loaded, health=table.health, operations=planned
        )

    async def require(self, name: TableName, wanted: Wanted, *, hash: str) -> Table:
        """The table, if what the hash stands for still holds. Raises PlanChanged, and what `plan` does."""
        given = hash.split(".")
        if len(given) != len(_PARTS) or any(len(part) != _DIGITS for part in given):
            violation = FieldViolation("planHash", "is no hash of a plan; take it from PlanMaintenance as it is")
            raise InvalidArgument([violation])
        table, loaded = await self._loaded(name, traceparent=wanted.traceparent)
        operations = (await self._triggering.plan([table], wanted)).operations
        now = plan_hash(loaded, operations).split(".")
        if changed := [what for what, was, is_now in zip(_PARTS, given, now, strict=True) if was != is_now]:
            raise PlanChanged(str(name), changed=changed)
        return table

    async def _operation(
        self,
        operation: Operation,
        table: Table,
        loaded: LoadedTable,
        blockers: Mapping[OperationId, Sequence[str]],
        explained: Mapping[OperationType, Explanation],
        *,
        now: datetime,
        traceparent: str,
    ) -> PlannedOperation:
        expiry = None
        if operation.type is OperationType.EXPIRE_SNAPSHOTS:
            expiry = await self._expiry(operation, traceparent=traceparent)
        prediction = predict(operation.type, operation.action, table.health, expiry)
        seconds, basis = duration(prediction, await self._pace(operation, table))
        found = risks(
            operation.type,
            prediction,
            table.health,
            loaded,
            expiry,
            seconds=seconds,
            timeout=operation.timeout,
            health_max_age=self._rules.health_max_age,
            now=now,
        )
        return PlannedOperation(
            operation=operation,
            prediction=prediction,
            seconds=seconds,
            basis=basis,
            risks=tuple(found),
            blockers=blockers.get(operation.id, ()),
            refusal=expiry.refusal if expiry is not None else "",
            explanation=explained[operation.type],
        )

    async def _loaded(self, name: TableName, *, traceparent: str) -> tuple[Table, LoadedTable]:
        """The table as its catalog has it now, by a look that began after this call."""
        await self._store.catalogs.get(name.catalog)
        request = ObservationRequest(ObservationKind.LOAD_TABLE, name.catalog, table=name)
        match (await self._look(request, traceparent=traceparent)).answer:
            case LoadedTable() as loaded:
                await remember(self._store, name, loaded)
                return await self._store.tables.get(name), loaded
            case ObservationError(kind="NOT_FOUND") as error:
                await self._store.tables.missing(name)
                refuse(error, request)
            case ObservationError() as error:
                refuse(error, request)
            case other:
                raise CatalogUnreachable(name.catalog, why=f"its executor answered {type(other).__name__} to a load")

    async def _look(self, request: ObservationRequest, *, traceparent: str) -> Observation:
        asked = await self._store.now()
        found = await self._observing.look(request, within=RESOLVE_WITHIN, traceparent=traceparent)
        if found.begin_time is None or found.begin_time < asked:
            # Somebody else's look was joined, which may have missed the last commit.
            found = await self._observing.look(request, within=RESOLVE_WITHIN, traceparent=traceparent)
        return found

    async def _expiry(self, operation: Operation, *, traceparent: str) -> ExpiryPlan | None:
        """What would go and stay. None where the executor cannot say."""
        request = ObservationRequest(
            ObservationKind.PLAN_EXPIRY,
            operation.table.catalog,
            table=operation.table,
            table_uuid=operation.table_uuid,
            location=operation.location,
            action=operation.action,
        )
        match await self._observing.observe(request, within=RESOLVE_WITHIN, traceparent=traceparent):
            case ExpiryPlan() as expiry:
                return expiry
            case ObservationError() as error:
                refuse(error, request)
            case _:
                return None

    async def _pace(self, operation: Operation, table: Table) -> Pace:
        """Of this table if it has any history, else of all tables."""
        rates = self._store.operations.rates
        own = await rates(table_key=table.uuid or str(table.name), type=operation.type, engine=None)
        if own.operations:
            basis = f"from the last {own.operations} of this type on this table"
            return Pace(basis, own.seconds_per_operation, own.seconds_per_byte)
        others = await rates(table_key=None, type=operation.type, engine=None)
        basis = f"from the last {others.operations} of this type on other tables"
        return Pace(basis, others.seconds_per_operation, others.seconds_per_byte)


def plan_hash(table: LoadedTable, operations: Sequence[Operation]) -> str:
    """What a plan goes by, in three parts, so that one can say which of them has changed."""
    governed = [[each.type, each.policy, each.policy_generation] for each in operations]
    parts: Sequence[object] = ([table.uuid, table.location], table.metadata_location, governed)
    return ".".join(sha256(json.dumps(part).encode()).hexdigest()[:_DIGITS] for part in parts)
