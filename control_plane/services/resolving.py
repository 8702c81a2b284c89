"""Which policy governs which table, kept as targets: what a policy's change may touch is marked, what is marked is
matched anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.decision_rows import Clerk
from control_plane.domain.errors import PolicyNotFound
from control_plane.domain.identifiers import OperationType, PolicyName, TableName
from control_plane.domain.pattern import Pattern
from control_plane.domain.policy import Policy
from control_plane.domain.policy_index import Reach, coarse
from control_plane.domain.schedule import first_slot, missed
from control_plane.domain.schedule_config import ScheduleConfig
from control_plane.domain.scheduling import (
    DecisionReason,
    PolicyChange,
    PolicyMode,
    Settled,
    SlotFacts,
    SlotVerdict,
    Step,
    Target,
    TargetKey,
    Term,
)
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.slot_checks import Finding, key_of
from control_plane.ports.records import Store
from control_plane.services.governing import Governance, GoverningPolicies

logger: Final = structlog.get_logger(__name__)

_INSTANT: Final = timedelta(microseconds=1)
_CHANGES: Final = 20
_SPREAD: Final = 500
_RESOLVE: Final = 100
_BREATH: Final = 20
"""After so many tables others get their turn on the loop."""

_Generation = tuple[PolicyName, int]


@dataclass(slots=True)
class _Progress:
    """How far a policy change has been spread, for the log."""

    considered: int = 0
    marked: int = 0


class ResolvingService:
    """The leader's bookkeeping of targets; one set of tables at a time."""

    def __init__(self, store: Store, governing: GoverningPolicies, *, rules: SchedulingRules) -> None:
        self._store = store
        self._governing = governing
        self._rules = rules
        self._seen: frozenset[int] = frozenset()
        self.rests: timedelta | None = None
        """For how long changed policies are left alone, because reading all of them has just taken long."""
        self._progress: dict[int, _Progress] = {}

    async def step(self, term: Term) -> bool:
        """Spread a set and resolve a set. Whether there may be more. Raises TermOver."""
        more = await self._spread(term)
        return await self._resolve(term) or more

    async def _spread(self, term: Term) -> bool:
        changes = await self._store.scheduling.policy_changes(limit=_CHANGES)
        ids = frozenset(change.id for change in changes)
        self.rests = None
        if not ids <= self._seen:
            if wait := self._governing.rest:
                self.rests = wait
                return False
            # Before any table is marked by one of them: what is resolved from now on goes by what it says.
            await self._governing.latest()
        self._seen = ids
        if not changes:
            return False
        change = changes[0]
        patterns = [Pattern.parse(text) for text in change.patterns]
        names, rest = await self._touched(change, _reaches(patterns))
        marked = [name for name in names if any(pattern.matches(name) for pattern in patterns)]
        async with self._store.scheduling.in_term(term):
            await self._store.scheduling.spread(change, marked=marked, after=names[-1] if rest else None)
        self._report(change, considered=len(names), marked=len(marked), ends=not rest)
        return True

    async def _touched(self, change: PolicyChange, reaches: Iterable[Reach]) -> tuple[Sequence[TableName], bool]:
        """The next tables in the order of their names, and whether there may be more."""
        found: set[TableName] = set()
        rest = False
        for reach in reaches:
            page = await self._store.scheduling.tables_touched(
                catalog=reach.catalog, namespace=reach.namespace, after=change.after, limit=_SPREAD
            )
            found.update(page)
            rest = rest or len(page) == _SPREAD
        names = sorted(found)
        return names[:_SPREAD], rest or len(names) > _SPREAD

    def _report(self, change: PolicyChange, *, considered: int, marked: int, ends: bool) -> None:
        progress = self._progress.setdefault(change.id, _Progress())
        progress.considered += considered
        progress.marked += marked
        if ends:
            del self._progress[change.id]
            logger.info(
                "policy_change.spread", policy=change.policy, considered=progress.considered, marked=progress.marked
            )

    async def _resolve(self, term: Term) -> bool:
        governance = await self._governing.current()
        async with self._store.scheduling.in_term(term) as now:
            found = await self._store.scheduling.unresolved(limit=_RESOLVE)
            if not found:
                return False
            ahead = await self._store.scheduling.decided_ahead([table for table, _ in found], now=now)
            resolved: list[tuple[Table, Sequence[Target]]] = []
            closed: list[Settled] = []
            left: dict[_Generation, Policy | None] = {}
            for number, (table, before) in enumerate(found):
                if number % _BREATH == _BREATH - 1:
                    await asyncio.sleep(0)
                targets = _targets(table, before, governance, ahead, now)
                for target, replaced in _left(before, targets, now):
                    schedule = await self._schedule_of(target, left)
                    closed.append(self._close(table, target, replaced, schedule, now, term))
                resolved.append((table, targets))
            if closed:
                await self._store.scheduling.settle(closed)
            await self._store.scheduling.resolved(resolved)
        logger.debug("tables.resolved", tables=len(found), targets=sum(len(targets) for _, targets in resolved))
        return True

    def _close(
        self,
        table: Table,
        target: Target,
        replaced: Target | None,
        schedule: ScheduleConfig | None,
        now: datetime,
        term: Term,
    ) -> Settled:
        """The last word on the slots that came due and that nobody will decide any more."""
        assert target.slot is not None, "a target that is left with a slot"
        reason, text = _why_closed(table, target, replaced)
        finding = Finding(verdict=SlotVerdict.SKIPPED, reason=reason, text=text, steps=(Step("policy", text, False),))
        last, count = target.slot, 1
        if schedule is not None:
            found = missed(schedule, key=key_of(target), slot=target.slot, now=now, most=self._rules.max_missed)
            last, count = found.last, found.count
        decision = Clerk(SlotFacts(target, table), schedule, now, term.number).decision(
            target.slot, finding, last_slot=last if count > 1 else None, slots=count
        )
        return Settled(
            replace(target, slot=None, due=None, deferred=False, place=None, unmeasured_since=None), (decision,)
        )

    async def _schedule_of(self, target: Target, read: dict[_Generation, Policy | None]) -> ScheduleConfig | None:
        """The schedule that the target stood under; each generation is `read` once. None: it is not known any more."""
        key = target.policy, target.policy_generation
        if key not in read:
            try:
                read[key] = await self._store.policies.generation(*key)
            except PolicyNotFound:
                read[key] = None
        policy = read[key]
        if policy is None or policy.create_time != target.policy_create_time:
            return None
        return policy.spec.schedule(target.type)


def _reaches(patterns: Iterable[Pattern]) -> Sequence[Reach]:
    """Those of all the patterns; none lies within another."""
    reaches = dict.fromkeys(reach for pattern in patterns for reach in coarse(pattern))
    return [one for one in reaches if not any(other != one and other.covers(one) for other in reaches)]


def _targets(
    table: Table,
    before: Iterable[Target],
    governance: Governance,
    ahead: Mapping[TargetKey, datetime],
    now: datetime,
) -> Sequence[Target]:
    """What the policies that govern the table now want of it; one that is not PRESENT has no targets."""
    if table.state is not TableState.PRESENT:
        return ()
    known = {(target.type, target.mode): target for target in before}
    return [
        _target(table, policy, kind, mode, known.get((kind, mode)), ahead, now)
        for mode in PolicyMode
        for kind, policy in governance.governing(table.name, mode).items()
        if _is_scheduled(policy, kind)
    ]


def _is_scheduled(policy: Policy, kind: OperationType) -> bool:
    schedule = policy.spec.schedule(kind)
    return schedule is not None and schedule.is_enabled


def _target(
    table: Table,
    policy: Policy,
    kind: OperationType,
    mode: PolicyMode,
    before: Target | None,
    ahead: Mapping[TargetKey, datetime],
    now: datetime,
) -> Target:
    key: TargetKey = (table.name.catalog, table.uuid or str(table.name), kind, mode)
    # A clock that was set back comes to slots again that are decided.
    since = max(now, ahead[key] + _INSTANT) if key in ahead else now
    target = Target(
        *key,
        policy.name,
        policy.generation,
        policy.create_time,
        since=since,
    )
    if before is not None and _is_same(before, target):
        return before
    if before is not None and before.policy == target.policy:
        # A policy that is edited often must not make those wait for ever that wait for its budget.
        target = replace(target, waiting_since=before.waiting_since)
    schedule = policy.spec.schedule(kind)
    assert schedule is not None, "a target has a schedule"
    if schedule.interval is not None:
        # It counts from the last end, which the decision knows: an operation under way may be it.
        return replace(target, due=now, awaiting=before.awaiting if before is not None else None)
    planned = first_slot(schedule, key=key_of(target), since=since, last_finish=None)
    return target if planned is None else replace(target, slot=planned.slot, due=planned.due)


def _is_same(before: Target, after: Target) -> bool:
    """Under the same generation of the same policy: its schedule goes on where it stands."""
    return (before.policy, before.policy_generation, before.policy_create_time) == (
        after.policy,
        after.policy_generation,
        after.policy_create_time,
    )


def _left(before: Iterable[Target], after: Iterable[Target], now: datetime) -> Iterator[tuple[Target, Target | None]]:
    """Targets that go while a slot of theirs is due or waits, with what comes in their place."""
    staying = {(target.type, target.mode): target for target in after}
    for target in before:
        replaced = staying.get((target.type, target.mode))
        if replaced is not None and _is_same(target, replaced):
            continue
        if target.slot is not None and (target.deferred or target.slot <= now):
            yield target, replaced


def _why_closed(table: Table, target: Target, replaced: Target | None) -> tuple[DecisionReason, str]:
    if table.state is not TableState.PRESENT:
        return DecisionReason.TABLE_GONE, f"the table is {table.state}"
    if replaced is None:
        text = f"no policy schedules {target.type} on the table any more"
    elif replaced.policy == target.policy:
        text = f"policy {target.policy} has changed"
    else:
        text = f"policy {replaced.policy} governs the table now"
    return DecisionReason.POLICY_CHANGED, text
