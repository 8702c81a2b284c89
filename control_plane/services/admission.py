"""What a slot that fires becomes: an operation with its place in the queue, charged to the budget of its policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4, uuid5

from control_plane.domain.charges import NOTHING_SPENT, BudgetState, estimate
from control_plane.domain.debt import place_of
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationId, OperationType, PolicyName, RunId, TriggerId
from control_plane.domain.operation import Operation
from control_plane.domain.policy import Policy
from control_plane.domain.schedule import slot_end
from control_plane.domain.scheduling import Charge, Settled, SlotFacts, Spent, Wake
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.slots import Judgement
from control_plane.services.new_operations import QUEUE_FOR, RUN_TIMEOUT, Request, new_operation

SCHEDULER: Final = "scheduler"


@dataclass(slots=True)
class _Account:
    """What one policy was charged. Tables are told apart, because one counts once."""

    spent: Spent = NOTHING_SPENT
    tables: set[str] = field(default_factory=set)

    def charge(self, table_key: str, cost: Charge) -> None:
        new = table_key not in self.tables
        self.tables.add(table_key)
        self.spent = Spent(
            self.spent.tables + new,
            self.spent.operations + 1,
            self.spent.bytes + cost.bytes,
            self.spent.engine_seconds + cost.engine_seconds,
        )


@dataclass(slots=True)
class Pass:
    """One pass of the scheduler: everything that was due when it began, in as many transactions as it takes.

    What it charged counts in memory, whether or not its transactions could be stored: budgets are rather kept than
    exceeded.
    """

    term: int
    trigger_id: UUID = field(default_factory=uuid4)
    decided: int = 0
    fired: int = 0
    spent: dict[PolicyName, _Account] = field(default_factory=dict)
    spent_in_hour: dict[PolicyName, _Account] = field(default_factory=dict)

    def unknown(self, policies: Iterable[PolicyName]) -> list[PolicyName]:
        """Those of which this pass does not know yet what they were charged before it."""
        return [policy for policy in policies if policy not in self.spent_in_hour]

    def know(self, policies: Iterable[PolicyName], before: Mapping[PolicyName, Spent]) -> None:
        for policy in policies:
            self.spent_in_hour.setdefault(policy, _Account(before.get(policy, NOTHING_SPENT)))


class Admission:
    """One transaction's worth of a pass."""

    def __init__(
        self,
        current: Pass,
        *,
        now: datetime,
        rules: SchedulingRules,
        floors: Floors,
        first_waiting: Mapping[PolicyName, datetime],
    ) -> None:
        self._pass = current
        self._first_waiting = dict(first_waiting)
        self._now = now
        self._rules = rules
        self._floors = floors
        self._planned: dict[tuple[PolicyName, OperationType], Operation] = {}

    def budget(self, policy: Policy, facts: SlotFacts, cost: Charge) -> BudgetState:
        """What is left of the budget of the policy, for one more operation."""
        if policy.spec.budget is None:
            return BudgetState(estimate=cost)
        this_pass = self._pass.spent.get(policy.name, _Account())
        this_hour = self._pass.spent_in_hour.get(policy.name, _Account())
        key = facts.target.table_key
        return BudgetState(
            this_pass=this_pass.spent,
            this_hour=this_hour.spent,
            estimate=cost,
            table_counted_in_pass=key in this_pass.tables,
            # A table of an earlier pass counts again: it was told in a number, not by its name.
            table_counted_in_hour=key in this_hour.tables,
            first_waiting=self._first_waiting.get(policy.name),
        )

    def cost(self, facts: SlotFacts) -> Charge:
        return estimate(facts.target.type, facts.table.health, facts.outcomes)

    def place(self, facts: SlotFacts) -> datetime:
        """Where it stands among others of its policy that want the same budget."""
        return facts.target.place or place_of(facts, cost=self.cost(facts), now=self._now, rules=self._rules)

    def keep_waiting(self, policy: Policy, place: datetime) -> None:
        """It found no room, and those behind it must not pass it by."""
        self._first_waiting[policy.name] = min(place, self._first_waiting.get(policy.name, place))

    def charge(self, policy: Policy, facts: SlotFacts, cost: Charge) -> Charge | None:
        """Count it. None if the policy has no budget, and nothing needs to be kept of it."""
        if policy.spec.budget is None:
            return None
        for accounts in (self._pass.spent, self._pass.spent_in_hour):
            accounts.setdefault(policy.name, _Account()).charge(facts.target.table_key, cost)
        return cost

    def operation(self, identity: OperationId, facts: SlotFacts, policy: Policy, judgement: Judgement) -> Operation:
        """The operation of a slot that fires."""
        target, table = facts.target, facts.table
        schedule = policy.spec.schedule(target.type)
        assert schedule is not None and judgement.slot is not None, "what fires has a schedule and a slot"
        assert judgement.place is not None, "what fires has a place in the queue"
        ends = slot_end(schedule, slot=judgement.slot)
        return replace(
            self._plan(facts, policy),
            id=identity,
            table=table.name,
            table_uuid=table.uuid,
            location=table.location,
            run_id=RunId(str(uuid5(self._pass.trigger_id, f"{target.catalog}\n{target.table_key}"))),
            slot=judgement.slot,
            cancel_at=judgement.cancel_at,
            timeout=schedule.timeout.length if schedule.timeout is not None else RUN_TIMEOUT,
            queue_deadline=ends if ends > self._now else self._now + QUEUE_FOR,
            virtual_deadline=judgement.place,
        )

    def _plan(self, facts: SlotFacts, policy: Policy) -> Operation:
        """What the operations of one policy and type have in common: their action is planned at one instant."""
        key = (policy.name, facts.target.type)
        if key not in self._planned:
            trigger = TriggerId(str(self._pass.trigger_id))
            self._planned[key] = new_operation(
                facts.table,
                policy,
                facts.target.type,
                Request(trigger, RunId(""), SCHEDULER),
                now=self._now,
                floors=self._floors,
            )
        return self._planned[key]


def budgeted(policies: Iterable[Policy | None]) -> list[PolicyName]:
    """The names of those that have a budget."""
    return sorted({policy.name for policy in policies if policy is not None and policy.spec.budget is not None})


def makes_room(
    due: Iterable[tuple[SlotFacts, Policy | None]], settled: Iterable[Settled], *, now: datetime, rules: SchedulingRules
) -> Sequence[Wake]:
    """Who may be next for the budgets of policies of which something ran, or does not wait any more.

    Twice as many as ran: what there is room for is found in a few steps, however many wait. What a budget gives to one
    pass is not given to the next at once.
    """
    counts: Counter[PolicyName] = Counter()
    soon: dict[PolicyName, datetime] = {}
    for (facts, policy), one in zip(due, settled, strict=True):
        if policy is None or policy.spec.budget is None:
            continue
        soon[policy.name] = now if policy.spec.budget.per_pass is None else now + rules.budget_retry
        if one.operation is not None:
            counts[policy.name] += 2
        elif facts.target.place is not None and one.target.place is None:
            counts[policy.name] += 1
    return [Wake(policy, count, soon[policy]) for policy, count in sorted(counts.items())]
