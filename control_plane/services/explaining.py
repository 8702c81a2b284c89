"""Why a table's operations run, wait, or do not run: the scheduler's own judgement, asked without a slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import uuid4

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.charges import NOTHING_SPENT, BudgetState, estimate
from control_plane.domain.errors import TableNotFound
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationId, OperationType, RunId, TableName, TriggerId
from control_plane.domain.policy import Policy
from control_plane.domain.resolution import Resolution
from control_plane.domain.scheduling import (
    NO_OUTCOMES,
    Decision,
    DecisionId,
    Outcomes,
    PolicyMode,
    SlotFacts,
    Target,
)
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.slots import Explanation, explain
from control_plane.ports.records import Store
from control_plane.ports.scheduling import DecisionFilter, DecisionPage
from control_plane.services.admission import budgeted
from control_plane.services.governing import GoverningPolicies
from control_plane.services.new_operations import Request, new_operation

_RECENT: Final = 100
"""So many of a table's newest decisions are looked through for the last of each operation type."""

_Key = tuple[OperationType, PolicyMode]


@dataclass(frozen=True, slots=True)
class Explained:
    """One operation type of a table under the policies of one mode. Without a winner nothing was judged."""

    type: OperationType
    mode: PolicyMode
    resolution: Resolution
    explanation: Explanation | None = None
    blockers: Sequence[str] = ()
    last_decision: Decision | None = None


class ExplainingService:
    """Answers for every table at any moment, from what is stored; nothing is asked of an executor."""

    def __init__(
        self,
        store: Store,
        governing: GoverningPolicies,
        *,
        rules: SchedulingRules,
        floors: Floors,
    ) -> None:
        self._store = store
        self._governing = governing
        self._rules = rules
        self._floors = floors

    async def explain(self, name: TableName, *, types: Sequence[OperationType] = ()) -> Sequence[Explained]:
        """In the order of a run; SHADOW policies have an answer of their own where there are any.

        Raises CatalogNotFound, TableNotFound.
        """
        table = await self._table(name)
        key = table.uuid or str(table.name)
        governance = await self._governing.latest()
        facts = {(one.target.type, one.target.mode): one for one in await self._store.scheduling.facts(name)}
        outcomes = (await self._store.scheduling.outcomes([key])).get(key, {})
        lost = (await self._store.catalogs.get(name.catalog)).has_lost(table)
        now = await self._store.now()
        asked = types or tuple(OperationType)
        resolved = {mode: governance.index.resolve_all(table.name, mode) for mode in PolicyMode}
        names = budgeted(one.winner for each in resolved.values() for one in each.values())
        spent = await self._store.scheduling.spent(names, since=now - self._rules.budget_window) if names else {}
        own = [one.target for one in facts.values()]
        first = await self._store.scheduling.first_waiting(names, besides=own) if names else {}
        found: list[Explained] = []
        for mode in PolicyMode:
            for kind, resolution in resolved[mode].items():
                if kind not in asked or (mode is PolicyMode.SHADOW and resolution.winner is None):
                    continue
                explained = Explained(kind, mode, resolution)
                if resolution.winner is not None:
                    one = facts.get((kind, mode))
                    one = _facts(table, key, explained, resolution.winner, one, outcomes, now)
                    one = replace(one, catalog_moved=lost)
                    budget = BudgetState(
                        this_hour=spent.get(resolution.winner.name, NOTHING_SPENT),
                        estimate=estimate(kind, table.health, one.outcomes),
                        first_waiting=first.get(resolution.winner.name),
                    )
                    judged = explain(one, resolution.winner, now=now, rules=self._rules, budget=budget)
                    explained = replace(explained, explanation=judged)
                found.append(explained)
        found.sort(key=lambda each: (each.type.order, each.mode is PolicyMode.SHADOW))
        return await self._with_blockers(table, await self._with_decisions(name, found), now)

    async def judge(
        self, table: Table, policies: Mapping[OperationType, Policy]
    ) -> Mapping[OperationType, Explanation]:
        """Whether the operations would run on the table now if its slots were due, each under the policy given."""
        key = table.uuid or str(table.name)
        facts = {
            one.target.type: one
            for one in await self._store.scheduling.facts(table.name)
            if one.target.mode is PolicyMode.ACTIVE
        }
        outcomes = (await self._store.scheduling.outcomes([key])).get(key, {})
        now = await self._store.now()
        judged: dict[OperationType, Explanation] = {}
        for kind, policy in policies.items():
            asked = Explained(kind, PolicyMode.ACTIVE, Resolution(policy, ()))
            one = _facts(table, key, asked, policy, facts.get(kind), outcomes, now)
            judged[kind] = explain(one, policy, now=now, rules=self._rules)
        return judged

    async def decisions(
        self, where: DecisionFilter, *, after: tuple[datetime, DecisionId] | None, limit: int
    ) -> DecisionPage:
        """One page, newest first."""
        return await self._store.scheduling.decisions(where, after=after, limit=limit)

    async def _table(self, name: TableName) -> Table:
        try:
            return await self._store.tables.get(name)
        except TableNotFound:
            await self._store.catalogs.get(name.catalog)
            raise

    async def _with_decisions(self, name: TableName, found: Sequence[Explained]) -> Sequence[Explained]:
        page = await self._store.scheduling.decisions(DecisionFilter(table=name), after=None, limit=_RECENT)
        last: dict[_Key, Decision] = {}
        for decision in page.decisions:
            last.setdefault((decision.type, decision.mode), decision)
        return [replace(each, last_decision=last.get((each.type, each.mode))) for each in found]

    async def _with_blockers(self, table: Table, found: Sequence[Explained], now: datetime) -> Sequence[Explained]:
        """What would keep an operation from starting, were it queued now."""
        if not table.uuid or table.state is not TableState.PRESENT:
            return found
        queued = {}
        for each in found:
            if each.mode is PolicyMode.ACTIVE and each.resolution.winner is not None:
                request = Request(TriggerId(str(uuid4())), RunId(str(uuid4())), "")
                queued[each.type] = new_operation(
                    table,
                    each.resolution.winner,
                    each.type,
                    request,
                    now=now,
                    floors=self._floors,
                )
        words: Mapping[OperationId, Sequence[str]] = {}
        if queued:
            words = await self._store.operations.blockers(list(queued.values()))
        return [
            replace(each, blockers=words.get(queued[each.type].id, ()))
            if each.mode is PolicyMode.ACTIVE and each.type in queued
            else each
            for each in found
        ]


def _facts(
    table: Table,
    key: str,
    explained: Explained,
    policy: Policy,
    known: SlotFacts | None,
    outcomes: Mapping[OperationType, Outcomes],
    now: datetime,
) -> SlotFacts:
    """What the scheduler would read. A target that does not stand under this policy yet, or has no schedule, has no
    slot.
    """
    if known is not None and _stands_under(known.target, policy):
        return known
    target = Target(
        table.name.catalog,
        key,
        explained.type,
        explained.mode,
        policy.name,
        policy.generation,
        policy.create_time,
        since=now,
    )
    if known is not None:
        return replace(known, target=target)
    return SlotFacts(target, table, outcomes.get(explained.type, NO_OUTCOMES))


def _stands_under(target: Target, policy: Policy) -> bool:
    """Whether it was resolved under this generation; one that was deleted and created anew has the same numbers."""
    return (target.policy, target.policy_generation, target.policy_create_time) == (
        policy.name,
        policy.generation,
        policy.create_time,
    )
