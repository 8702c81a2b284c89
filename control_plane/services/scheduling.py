"""The leader's work, a step at a time: tables are matched with policies, and what is due is decided.

Everything is a transaction of the term: what is not committed when the term ends was not done, and is done by the next
leader. A slot is decided in the same transaction that moves its target to the next one, so none fires twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog

from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationId, OperationType, PolicyName
from control_plane.domain.policy import Policy
from control_plane.domain.scheduling import Settled, SlotFacts, Term
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.slots import decide
from control_plane.ports.records import Clock, Store
from control_plane.services.admission import Admission, Pass, budgeted, makes_room
from control_plane.services.discovery import DiscoveryService
from control_plane.services.governing import Governance, GoverningPolicies
from control_plane.services.resolving import ResolvingService

logger: Final = structlog.get_logger(__name__)

NOTHING: Final = timedelta()
_LONGEST_PAUSE: Final = timedelta(seconds=30)
_SHORTEST_PAUSE: Final = timedelta(milliseconds=5)
_LOCKED_PAUSE: Final = timedelta(milliseconds=500)
"""What is due was locked by somebody who changes it."""
_STAMP_EVERY: Final = timedelta(seconds=1)
_SET: Final = 100
"""Targets in one transaction: an election waits for it, and the calls of this process for each step of it."""
_AT_A_TIME: Final = 5
_IN_A_ROW: Final = 4
"""Sets before the other work of the leader has its turn."""
_BREATH: Final = 10
"""After so many decisions others get their turn on the loop."""
_CHANGED_PAUSE: Final = timedelta(seconds=1)
_BROKEN_PAUSE: Final = timedelta(minutes=1)


class Scheduler:
    """Spreads policy changes, resolves tables, and decides slots; one set each a step."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        governing: GoverningPolicies,
        resolving: ResolvingService,
        discovery: DiscoveryService,
        *,
        rules: SchedulingRules,
        floors: Floors,
        enabled: bool = True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._governing = governing
        self._resolving = resolving
        self._discovery = discovery
        self._rules = rules
        self._floors = floors
        self._enabled = enabled
        self._pass: Pass | None = None
        self._budgets = asyncio.Lock()
        self._deciding = asyncio.Lock()
        self._backlog = False
        """More is due than one set."""
        self._stamped = 0.0

    async def step(self, term: Term) -> timedelta:
        """Do one set of what there is to do. How long there is nothing more; zero: there is more now.

        Raises TermOver.
        """
        more = await self._resolving.step(term)
        if self._enabled:
            more = await self._decide(term) or more
        await self._stamp(term, anyway=not more)
        if more:
            return NOTHING
        pause = await self._pause()
        return pause if self._resolving.rests is None else min(pause, max(self._resolving.rests, _SHORTEST_PAUSE))

    async def _stamp(self, term: Term, *, anyway: bool) -> None:
        """Show others that this leader gets things done."""
        now = self._clock.monotonic()
        if anyway or now - self._stamped >= _STAMP_EVERY.total_seconds():
            await self._store.leadership.passed(term)
            self._stamped = now

    async def _pause(self) -> timedelta:
        """Until the earliest target is due."""
        due = await self._store.scheduling.next_due() if self._enabled else None
        if due is None:
            return _LONGEST_PAUSE
        left = due - await self._store.now()
        return min(max(left, _SHORTEST_PAUSE if left > NOTHING else _LOCKED_PAUSE), _LONGEST_PAUSE)

    async def _decide(self, term: Term) -> bool:
        """Decide some sets of what is due. Whether there may be more."""
        due = await self._store.scheduling.next_due()
        if due is None or due > await self._store.now():
            return False
        governance = await self._governing.current()
        if self._pass is None or self._pass.term != term.number:
            self._pass = Pass(term.number)
        # While the database stores one set, another is decided: sets are disjoint, since what is due is locked.
        lanes, sets = (_AT_A_TIME, _IN_A_ROW) if self._backlog else (1, 1)
        deciding = (self._decide_sets(governance, self._pass, term, most=sets) for _ in range(lanes))
        full: list[bool] = []
        for done in await asyncio.gather(*deciding, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
            full.append(done)
        self._backlog = any(full)
        if not self._backlog:
            self._end_pass(term)
        return self._backlog

    async def _decide_sets(self, governance: Governance, current: Pass, term: Term, *, most: int) -> bool:
        """One after the other, as long as they are full. Whether the last was."""
        for _ in range(most):
            if await self._decide_set(governance, current, term) < _SET:
                return False
        return True

    async def _decide_set(self, governance: Governance, current: Pass, term: Term) -> int:
        """How many targets were due."""
        async with AsyncExitStack() as until_stored, self._store.scheduling.in_term(term) as now:
            found = await self._store.scheduling.due(limit=_SET)
            due = [(facts, governance.of(facts.target)) for facts in found]
            if budgeted(policy for _, policy in due):
                # Who is first in the queue for a budget is known when the sets before have been stored.
                await until_stored.enter_async_context(self._budgets)
            settled: Sequence[Settled] = ()
            if due:
                admission = await self._admission(due, current, now)
                # One set is decided while others are read and stored, so that calls wait for ten decisions and no more.
                async with self._deciding:
                    settled = await self._settled(due, admission, now, term)
            await self._store.scheduling.settle(settled)
            if woken := makes_room(due, settled, now=now, rules=self._rules):
                await self._store.scheduling.wake(woken)
        fired = sum(one.operation is not None for one in settled)
        if fired:
            self._store.hints.give("operations")
            self._store.hints.give("events")
        current.decided += sum(bool(one.decisions) for one in settled)
        current.fired += fired
        return len(found)

    async def _settled(
        self, due: Sequence[tuple[SlotFacts, Policy | None]], admission: Admission, now: datetime, term: Term
    ) -> Sequence[Settled]:
        settled: dict[int, Settled] = {}
        open_now: dict[tuple[str, OperationType], OperationId] = {}
        for number, index in enumerate(_in_order(due, admission)):
            if number % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            facts, policy = due[index]
            key = (facts.target.table_key, facts.target.type)
            if facts.open_operation is None and key in open_now:
                # The same table, registered in another catalog too.
                facts = replace(facts, open_operation=open_now[key])
            one = self._one(facts, policy, admission, now, term)
            if one.operation is not None:
                open_now[key] = one.operation.id
            settled[index] = one
        return [settled[index] for index in range(len(due))]

    async def _admission(
        self, due: Sequence[tuple[SlotFacts, Policy | None]], current: Pass, now: datetime
    ) -> Admission:
        first: Mapping[PolicyName, datetime] = {}
        if names := budgeted(policy for _, policy in due):
            if unknown := current.unknown(names):
                since = now - self._rules.budget_window
                current.know(unknown, await self._store.scheduling.spent(unknown, since=since))
            first = await self._store.scheduling.first_waiting(names, besides=[facts.target for facts, _ in due])
        return Admission(current, now=now, rules=self._rules, floors=self._floors, first_waiting=first)

    def _end_pass(self, term: Term) -> None:
        ended, self._pass = self._pass, None
        if ended is not None and ended.decided:
            logger.info("pass.completed", term=term.number, decided=ended.decided, fired=ended.fired)

    def _one(self, facts: SlotFacts, policy: Policy | None, admission: Admission, now: datetime, term: Term) -> Settled:
        if policy is None:
            # It has changed since the table was resolved: the slot is for the target that will be.
            return Settled(replace(facts.target, due=now + _CHANGED_PAUSE))
        identity = OperationId(str(uuid4()))
        try:
            cost = admission.cost(facts)
            judgement = decide(
                facts,
                policy,
                operation=identity,
                now=now,
                budget=admission.budget(policy, facts, cost),
                rules=self._rules,
                term=term.number,
            )
            operation = admission.operation(identity, facts, policy, judgement) if judgement.fires else None
        except Exception:
            # One that cannot be decided holds up no other; its slot stays.
            logger.exception("slot.undecided", table=str(facts.table.name), type=facts.target.type)
            return Settled(replace(facts.target, due=now + _BROKEN_PAUSE))
        if judgement.wants_inspection:
            self._discovery.inspect_soon(facts.table.name)
        if judgement.target.place is not None:
            admission.keep_waiting(policy, judgement.target.place)
        charge = admission.charge(policy, facts, cost) if operation is not None else None
        return Settled(judgement.target, judgement.decisions, operation, charge)


def _in_order(due: Sequence[tuple[SlotFacts, Policy | None]], admission: Admission) -> Sequence[int]:
    """Indices in the order of deciding: of those that share a budget the first in its queue are first."""
    places = {
        index: admission.place(facts)
        for index, (facts, policy) in enumerate(due)
        if policy is not None and policy.spec.budget is not None
    }
    return [*sorted(places, key=lambda index: places[index]), *(i for i in range(len(due)) if i not in places)]
