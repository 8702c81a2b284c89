"""Requests for work by hand: which tables, which policy governs each, and the operations that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.errors import CatalogUnreachable, NoGoverningPolicy, TableNotFound, TooManyTables
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationId, OperationType, PolicyName, RunId, TableName, TriggerId
from control_plane.domain.observation import LoadedTable, ObservationError, ObservationKind, ObservationRequest
from control_plane.domain.operation import Operation
from control_plane.domain.pattern import Pattern
from control_plane.domain.policy import Policy
from control_plane.domain.slots import Explanation
from control_plane.ports.records import Store
from control_plane.services.explaining import ExplainingService
from control_plane.services.new_operations import Request, configured, governing, mismatch, new_operation
from control_plane.services.observing import ObservingService, refuse

RESOLVE_WITHIN: Final = timedelta(seconds=5)
MAX_TABLES: Final = 10_000
MAX_OPERATIONS: Final = 20_000
"""Of one trigger: its answer names them all, in one message."""
_AT_ONCE: Final = 500
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Withheld:
    """An operation that was asked for under its conditions, and why it does not run."""

    type: OperationType
    policy: PolicyName
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """What a trigger wants done to one table."""

    id: RunId
    table: TableName
    operations: Sequence[Operation]
    withheld: Sequence[Withheld] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a trigger wants done. Nothing of it is stored."""

    trigger_id: TriggerId
    runs: Sequence[PlannedRun]

    @property
    def operations(self) -> Sequence[Operation]:
        return [operation for run in self.runs for operation in run.operations]


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
    withheld: Sequence[Withheld] = ()


@dataclass(frozen=True, slots=True)
class Triggered:
    trigger_id: TriggerId
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of the tables of a trigger."""

    by: str
    policy: PolicyName | None = None
    """None: of each operation type the policy that governs."""
    types: Sequence[OperationType] = ()
    """None: all that are configured."""
    respect_conditions: bool = False
    traceparent: str = ""


class TriggeringService:
    """Turns a trigger into queued operations. Manual triggers pass by schedules and conditions, never by guards, caps
    or a pause.
    """

    def __init__(
        self, store: Store, observing: ObservingService, explaining: ExplainingService, *, floors: Floors
    ) -> None:
        self._store = store
        self._observing = observing
        self._explaining = explaining
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

    async def matching(self, pattern: Pattern, *, most: int) -> Sequence[Table]:
        """The known tables that the pattern matches, by name. Raises TooManyTables rather than to leave any out."""
        found: list[Table] = []
        after: TableName | None = None
        while page := await self._store.tables.list(catalog=None, after=after, limit=_PAGE):
            found.extend(table for table in page if _is_present(table) and pattern.matches(table.name))
            if len(found) > most:
                raise TooManyTables(str(pattern), limit=most)
            after = page[-1].name
        if not found:
            raise TableNotFound(str(pattern))
        return found

    async def plan(self, tables: Sequence[Table], wanted: Wanted) -> Plan:
        """What the policy, or the governing policies, want done to the tables. Nothing is queued yet.

        Of several tables those are left out of which no policy asks anything; if that is all of them, or the only one,
        it is refused. Raises NoGoverningPolicy, PolicyNotFound, PolicyDisabled, PatternMismatch, TooManyTables.
        """
        policy = None if wanted.policy is None else await self._store.policies.get(wanted.policy)
        named = None if policy is None else configured(policy, wanted.types)
        enabled = await self._store.policies.enabled()
        trigger = TriggerId(str(uuid4()))
        runs: list[PlannedRun] = []
        for table in tables:
            if policy is None or named is None:
                chosen = governing(enabled.policies, table.name, wanted.types)
                if len(tables) == 1:
                    _require(chosen, table.name, wanted.types)
            else:
                chosen = named if policy.spec.pattern.matches(table.name) else {}
            if chosen:
                request = Request(trigger, RunId(str(uuid4())), wanted.by, wanted.traceparent)
                runs.append(await self._run(table, chosen, request, now=enabled.time, wanted=wanted))
        if not runs and policy is not None:
            raise mismatch(policy, tables[0].name)
        if not runs:
            raise NoGoverningPolicy(str(tables[0].name), operation_types=_words(wanted.types))
        plan = Plan(trigger, runs)
        if len(plan.operations) > MAX_OPERATIONS:
            raise TooManyTables(f"{len(runs)} tables", limit=MAX_OPERATIONS, unit="operations")
        return plan

    async def queue(self, plan: Plan) -> Triggered:
        """Queue what was planned. Of more than one table within a transaction of the caller's, so that it is all or
        nothing.
        """
        blockers: dict[OperationId, Sequence[str]] = {}
        operations = plan.operations
        for start in range(0, len(operations), _AT_ONCE):
            blockers |= await self._store.operations.enqueue(operations[start : start + _AT_ONCE])
        return _triggered(plan, blockers)

    async def preview(self, plan: Plan) -> Triggered:
        """What `queue` would answer now."""
        blockers: dict[OperationId, Sequence[str]] = {}
        operations = plan.operations
        for start in range(0, len(operations), _AT_ONCE):
            blockers |= await self._store.operations.blockers(operations[start : start + _AT_ONCE])
        return _triggered(plan, blockers)

    async def _run(
        self, table: Table, chosen: Mapping[OperationType, Policy], request: Request, *, now: datetime, wanted: Wanted
    ) -> PlannedRun:
        withheld: list[Withheld] = []
        if wanted.respect_conditions:
            judged = await self._explaining.judge(table, chosen)
            withheld = [Withheld(kind, chosen[kind].name, why) for kind, why in judged.items() if not why.would_run]
        held = {each.type for each in withheld}
        operations = [
            new_operation(table, chosen[kind], kind, request, now=now, floors=self._floors)
            for kind in sorted(chosen.keys() - held, key=lambda kind: kind.order)
        ]
        return PlannedRun(request.run_id, table.name, operations, withheld)

    async def _known(self, name: TableName) -> Table | None:
        try:
            table = await self._store.tables.get(name)
        except TableNotFound:
            return None
        return table if _is_present(table) else None


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


def _is_present(table: Table) -> bool:
    return bool(table.uuid) and table.state is TableState.PRESENT


def _require(chosen: Mapping[OperationType, Policy], table: TableName, types: Sequence[OperationType]) -> None:
    for kind in types:
        if kind not in chosen:
            raise NoGoverningPolicy(str(table), operation_types=kind)
    if not chosen:
        raise NoGoverningPolicy(str(table), operation_types=_words(types))


def _words(types: Sequence[OperationType]) -> str:
    return " or ".join(types or OperationType)


def _triggered(plan: Plan, blockers: Mapping[OperationId, Sequence[str]]) -> Triggered:
    return Triggered(
        plan.trigger_id,
        [
            Run(
                run.id,
                run.table,
                [Planned(operation, blockers.get(operation.id, ())) for operation in run.operations],
                run.withheld,
            )
            for run in plan.runs
        ],
    )
