"""Targets, decisions and budgets in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.errors import TableNotFound
from control_plane.domain.identifiers import CatalogName, OperationId, OperationType, PolicyName, TableName
from control_plane.domain.operation import Operation, OperationState
from control_plane.domain.scheduling import (
    NO_OUTCOMES,
    Decision,
    DecisionId,
    Outcomes,
    PolicyChange,
    PolicyMode,
    Settled,
    SlotFacts,
    Spent,
    Target,
    TargetKey,
    Term,
    Wake,
)
from control_plane.ports.scheduling import DecisionFilter, DecisionPage, TermOver
from control_plane.store.fences import fence_key
from control_plane.store.memory.leadership import in_force
from control_plane.store.memory.operation_changes import add
from control_plane.store.memory.state import DecisionKey, KeptCharge, Memory, State
from control_plane.store.memory.tables import named, table_key, whole


class MemoryScheduling:
    """The whole of `ports.scheduling.SchedulingStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    @asynccontextmanager
    async def in_term(self, term: Term) -> AsyncIterator[datetime]:
        """A scheduling transaction; raises TermOver if the term is not in force."""
        async with self._memory.step() as state:
            if in_force(state, term, self._memory) is None:
                raise TermOver
            yield self._memory.now()

    async def due(self, *, limit: int) -> Sequence[SlotFacts]:
        async with self._memory.step() as state:
            now = self._memory.now()
            waiting = [(target.due, key) for key, target in state.targets.items() if target.due is not None]
            found = [state.targets[key] for due, key in sorted(waiting) if due <= now]
            return _facts(state, found[:limit])

    async def next_due(self) -> datetime | None:
        async with self._memory.step() as state:
            return min((target.due for target in state.targets.values() if target.due is not None), default=None)

    async def approaching(self, *, after: Target | None, before: datetime, limit: int) -> Sequence[SlotFacts]:
        async with self._memory.step() as state:
            waiting = [
                (target.due, key)
                for key, target in state.targets.items()
                if target.due is not None and target.due < before
            ]
            if after is not None and after.due is not None:
                behind = after.due, _target_key(after)
                waiting = [one for one in waiting if one > behind]
            return _facts(state, [state.targets[key] for _, key in sorted(waiting)[:limit]])

    async def settle(self, settled: Sequence[Settled]) -> None:
        async with self._memory.step() as state:
            now = self._memory.now()
            for one in settled:
                for decision in one.decisions:
                    state.decisions[_decision_key(decision)] = decision
                operation = one.operation
                if operation is None:
                    continue
                if _waits_already(state, operation):
                    raise ValueError(
                        f"{operation.type} of {operation.table} is scheduled already and waits; "
                        f"operation {operation.id} must not be scheduled beside it"
                    )
                add(state, operation, now)
                if one.charge is not None:
                    state.charges[operation.id] = KeptCharge(operation.policy, fence_key(operation), now, one.charge)
            for target in (one.target for one in settled):
                if _target_key(target) not in state.targets:
                    continue
                if target.awaiting is not None and target.awaiting not in state.operations:
                    # It ended before this target awaited it, and will wake nobody.
                    soon = now + timedelta(seconds=1)
                    target = replace(target, due=min(target.due or soon, soon))
                state.targets[_target_key(target)] = target

    async def policy_changes(self, *, limit: int) -> Sequence[PolicyChange]:
        async with self._memory.step() as state:
            return [change for _, change in sorted(state.policy_changes.items())][:limit]

    async def spread(self, change: PolicyChange, *, marked: Sequence[TableName], after: TableName | None) -> None:
        async with self._memory.step() as state:
            for name in marked:
                if (table := named(state, name)) is not None:
                    state.unresolved.add(table_key(table))
            if after is None:
                state.policy_changes.pop(change.id, None)
            elif change.id in state.policy_changes:
                state.policy_changes[change.id] = replace(change, after=after)

    async def tables_touched(
        self, *, catalog: CatalogName | None, namespace: Sequence[str] | None, after: TableName | None, limit: int
    ) -> Sequence[TableName]:
        prefix = tuple(namespace or ())
        async with self._memory.step() as state:
            return sorted(
                table.name
                for table in state.tables
                if table.state is TableState.PRESENT
                and catalog in (None, table.name.catalog)
                and table.name.namespace[: len(prefix)] == prefix
                and (after is None or table.name > after)
            )[:limit]

    async def unresolved(self, *, limit: int) -> Sequence[tuple[Table, Sequence[Target]]]:
        async with self._memory.step() as state:
            marked = [table for table in state.tables if table_key(table) in state.unresolved]
            return [(whole(state, table), _targets(state, table)) for table in marked[:limit]]

    async def decided_ahead(self, tables: Sequence[Table], *, now: datetime) -> Mapping[TargetKey, datetime]:
        keys = {table_key(table) for table in tables}
        async with self._memory.step() as state:
            ahead: dict[TargetKey, datetime] = {}
            for (catalog, fence, kind, mode, _, slot), decision in state.decisions.items():
                last = max(slot, decision.last_slot or slot)
                if (catalog, fence) in keys and last > now:
                    key = catalog, fence, kind, mode
                    ahead[key] = max(last, ahead.get(key, last))
            return ahead

    async def resolved(self, tables: Sequence[tuple[Table, Sequence[Target]]]) -> None:
        async with self._memory.step() as state:
            for table, targets in tables:
                wanted = {_target_key(target): target for target in targets}
                for before in _targets(state, table):
                    if _target_key(before) not in wanted:
                        del state.targets[_target_key(before)]
                for key, target in wanted.items():
                    if not _is_governed_alike(state.targets.get(key), target):
                        state.targets[key] = target
                state.unresolved.discard(table_key(table))
                if table.state is TableState.PRESENT:
                    _displace(state, table)

    async def facts(self, table: TableName) -> Sequence[SlotFacts]:
        async with self._memory.step() as state:
            found = named(state, table)
            if found is None:
                raise TableNotFound(str(table))
            targets = sorted(_targets(state, found), key=lambda target: (target.type.order, target.mode))
            return _facts(state, targets)

    async def outcomes(self, table_keys: Sequence[str]) -> Mapping[str, Mapping[OperationType, Outcomes]]:
        wanted = set(table_keys)
        async with self._memory.step() as state:
            found: dict[str, dict[OperationType, Outcomes]] = {}
            for (key, kind), outcomes in state.outcomes.items():
                if key in wanted:
                    found.setdefault(key, {})[kind] = outcomes
            return found

    async def spent(self, policies: Sequence[PolicyName], *, since: datetime) -> Mapping[PolicyName, Spent]:
        async with self._memory.step() as state:
            spent: dict[PolicyName, Spent] = {}
            tables: dict[PolicyName, set[str]] = {}
            for kept in state.charges.values():
                if kept.policy not in policies or kept.time < since:
                    continue
                tables.setdefault(kept.policy, set()).add(kept.table_key)
                before = spent.get(kept.policy, Spent())
                spent[kept.policy] = Spent(
                    len(tables[kept.policy]),
                    before.operations + 1,
                    before.bytes + kept.charge.bytes,
                    before.engine_seconds + kept.charge.engine_seconds,
                )
            return spent

    async def first_waiting(
        self, policies: Sequence[PolicyName], *, besides: Sequence[Target]
    ) -> Mapping[PolicyName, datetime]:
        left_out = {_target_key(target) for target in besides}
        async with self._memory.step() as state:
            first: dict[PolicyName, datetime] = {}
            for key, target in state.targets.items():
                if target.policy in policies and target.place is not None and key not in left_out:
                    first[target.policy] = min(target.place, first.get(target.policy, target.place))
            return first

    async def wake(self, wakes: Sequence[Wake]) -> None:
        async with self._memory.step() as state:
            for one in wakes:
                queue = sorted(
                    (target.place, key)
                    for key, target in state.targets.items()
                    if target.policy == one.policy and target.place is not None
                )
                for _, key in queue[: one.most]:
                    target = state.targets[key]
                    if target.due is not None and target.due > one.due:
                        state.targets[key] = replace(target, due=one.due)

    async def decisions(
        self, where: DecisionFilter, *, after: tuple[datetime, DecisionId] | None, limit: int
    ) -> DecisionPage:
        async with self._memory.step() as state:
            found = sorted(
                (
                    decision
                    for decision in state.decisions.values()
                    if _matches(where, decision) and (after is None or (decision.time, decision.id) < after)
                ),
                key=lambda decision: (decision.time, decision.id),
                reverse=True,
            )
        page = found[:limit]
        more = len(found) > limit and bool(page)
        return DecisionPage(page, (page[-1].time, page[-1].id) if more else None)

    async def counts(self) -> Mapping[str, int]:
        async with self._memory.step() as state:
            now = self._memory.now()
            targets = state.targets.values()
            return {
                "targets": len(targets),
                "due": sum(target.due is not None and target.due <= now for target in targets),
                "deferred": sum(target.deferred for target in targets),
                "unresolved": len(state.unresolved),
            }


def _target_key(target: Target) -> TargetKey:
    return target.catalog, target.table_key, target.type, target.mode


def _decision_key(decision: Decision) -> DecisionKey:
    return decision.catalog, decision.table_key, decision.type, decision.mode, decision.policy, decision.slot


def _targets(state: State, table: Table) -> Sequence[Target]:
    key = table_key(table)
    return [target for identity, target in state.targets.items() if identity[:2] == key]


def _is_governed_alike(before: Target | None, after: Target) -> bool:
    """Under the same generation of the same policy: its schedule goes on where it stands."""
    return before is not None and (before.policy, before.policy_generation, before.policy_create_time) == (
        after.policy,
        after.policy_generation,
        after.policy_create_time,
    )


def _facts(state: State, targets: Iterable[Target]) -> Sequence[SlotFacts]:
    keys = {(target.catalog, target.table_key) for target in targets}
    tables = {table_key(table): whole(state, table) for table in state.tables if table_key(table) in keys}
    return [
        SlotFacts(
            target,
            tables[target.catalog, target.table_key],
            state.outcomes.get((target.table_key, target.type), NO_OUTCOMES),
            _open_operation(state, target.table_key, target.type),
            catalog_moved=state.catalogs[target.catalog].has_lost(tables[target.catalog, target.table_key]),
        )
        for target in targets
    ]


def _of_table(state: State, key: str) -> Iterator[Operation]:
    return (operation for operation in state.operations.values() if fence_key(operation) == key)


def _open_operation(state: State, key: str, kind: OperationType) -> OperationId | None:
    found = [(o.create_time, o.id) for o in _of_table(state, key) if o.type is kind]
    return min(found)[1] if found else None


def _waits_already(state: State, operation: Operation) -> bool:
    return operation.slot is not None and any(
        other.slot is not None and other.state is OperationState.QUEUED and other.type is operation.type
        for other in _of_table(state, fence_key(operation))
    )


def _displace(state: State, table: Table) -> None:
    """Tell apart what waits by the schedule of another policy or generation than the one that governs now, if any."""
    catalog, key = table_key(table)
    for operation in _of_table(state, key):
        if operation.slot is None or operation.state is not OperationState.QUEUED or operation.catalog != catalog:
            continue
        target = state.targets.get((catalog, key, operation.type, PolicyMode.ACTIVE))
        governed = (operation.policy, operation.policy_generation)
        if target is None or (target.policy, target.policy_generation) != governed:
            state.displaced.add(operation.id)
        else:
            state.displaced.discard(operation.id)


def _matches(where: DecisionFilter, decision: Decision) -> bool:
    return (
        where.catalog in (None, decision.catalog)
        and where.table in (None, decision.table)
        and where.policy in (None, decision.policy)
        and (not where.types or decision.type in where.types)
        and (not where.verdicts or decision.verdict in where.verdicts)
        and (not where.modes or decision.mode in where.modes)
        and (where.since is None or decision.time >= where.since)
    )
