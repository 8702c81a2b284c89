"""What stands between a slot and its operation, in order (docs/semantics.md §8): for decisions and explanations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from control_plane.domain.catalog import TableState
from control_plane.domain.charges import BudgetState, budget_step
from control_plane.domain.debt import place_of
from control_plane.domain.identifiers import OperationId
from control_plane.domain.outcomes import back_off_hold, throttle_hold
from control_plane.domain.policy import Policy
from control_plane.domain.schedule import next_slot
from control_plane.domain.scheduling import DecisionReason, PolicyMode, SlotFacts, SlotVerdict, Step, Target
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.triggers import Evaluation, evaluate, thresholds_met


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check. `verdict` None: it does not stand in the way."""

    verdict: SlotVerdict | None = None
    reason: DecisionReason | None = None
    text: str = ""
    steps: Sequence[Step] = ()
    next_eligible: datetime | None = None
    operation: OperationId | None = None
    wants_inspection: bool = False
    forced: bool = False
    place: datetime | None = None
    """In the queue, of what is wanted now: whether it runs or waits for its policy's budget."""


def checks(
    facts: SlotFacts, policy: Policy, *, now: datetime, budget: BudgetState, rules: SchedulingRules
) -> Iterator[Finding]:
    """Every check in order. The first with a verdict decides; the last has FIRED, and comes only if nothing was in the
    way of the conditions.
    """
    yield _table(facts)
    yield _overlap(facts)
    yield _catalog(facts)
    yield _back_off(facts, now, rules)
    evaluation = evaluate(
        policy.spec.conditions(facts.target.type),
        facts.target.type,
        report=facts.table.health,
        outcomes=facts.outcomes,
        first_seen=facts.table.first_seen_time,
        now=now,
        health_max_age=rules.health_max_age,
    )
    yield _conditions(evaluation)
    if not evaluation.runs:
        return
    if not evaluation.forced:
        yield _throttle(facts, policy, evaluation, now, rules)
    deadline = evaluation.critical_deadline if evaluation.forced else None
    place = place_of(facts, cost=budget.estimate, now=now, rules=rules, critical_deadline=deadline)
    yield _budget(policy, budget, place, now, rules)
    yield _fires(facts, evaluation, place)


def first_finding(found: Iterator[Finding]) -> Finding:
    """The finding that decides, with the steps of all that came before it."""
    steps: list[Step] = []
    for finding in found:
        steps.extend(finding.steps)
        if finding.verdict is not None:
            return replace(finding, steps=steps)
    raise AssertionError("a slot fires unless a check is in its way")


def key_of(target: Target) -> str:
    """What spreads the slots of a schedule over its jitter."""
    return f"{target.catalog}/{target.table_key}/{target.type}"


def interval_of(policy: Policy, target: Target, *, at: datetime) -> timedelta:
    """How far apart the slots of the schedule are: its interval, or from the first slot of its cron after an instant to
    the second.
    """
    schedule = policy.spec.schedule(target.type)
    if schedule is None:
        return timedelta()
    if schedule.interval is not None:
        return schedule.interval.length
    first = next_slot(schedule, key=key_of(target), after=at)
    second = next_slot(schedule, key=key_of(target), after=first.slot) if first is not None else None
    return second.slot - first.slot if first is not None and second is not None else timedelta()


def _table(facts: SlotFacts) -> Finding:
    if facts.table.state is TableState.PRESENT:
        return Finding()
    text = f"the table is {facts.table.state}"
    return Finding(
        verdict=SlotVerdict.SKIPPED,
        reason=DecisionReason.TABLE_GONE,
        text=text,
        steps=(Step("table", text, False),),
    )


def _overlap(facts: SlotFacts) -> Finding:
    if facts.open_operation is None:
        return Finding()
    text = f"operation {facts.open_operation} of the same type on this table is not finished"
    return Finding(
        verdict=SlotVerdict.SKIPPED,
        reason=DecisionReason.OVERLAP,
        text=text,
        steps=(Step("overlap", text, False),),
        operation=facts.open_operation,
    )


def _catalog(facts: SlotFacts) -> Finding:
    if not facts.catalog_moved:
        return Finding()
    text = (
        f"catalog {facts.target.catalog} was moved; it was not listed completely since, and nobody saw this table in "
        "its new place"
    )
    return Finding(
        verdict=SlotVerdict.DEFERRED,
        reason=DecisionReason.CATALOG_MOVED,
        text=text,
        steps=(Step("catalog", text, False),),
    )


def _back_off(facts: SlotFacts, now: datetime, rules: SchedulingRules) -> Finding:
    hold = back_off_hold(facts.outcomes, facts.target, facts.table, now=now, rules=rules)
    if hold.step is None:
        return Finding()
    if not hold.holds:
        return Finding(steps=(hold.step,))
    return Finding(
        verdict=SlotVerdict.DEFERRED,
        reason=DecisionReason.BACK_OFF,
        text=hold.words,
        steps=(hold.step,),
        next_eligible=hold.until,
    )


def _conditions(evaluation: Evaluation) -> Finding:
    waits = evaluation.reason in (DecisionReason.MIN_INTERVAL, DecisionReason.NO_HEALTH)
    verdict = None if evaluation.runs else SlotVerdict.DEFERRED if waits else SlotVerdict.SKIPPED
    return Finding(
        verdict=verdict,
        reason=evaluation.reason,
        text=evaluation.text,
        steps=evaluation.steps,
        next_eligible=evaluation.next_eligible,
        wants_inspection=evaluation.wants_inspection,
    )


def _throttle(
    facts: SlotFacts, policy: Policy, evaluation: Evaluation, now: datetime, rules: SchedulingRules
) -> Finding:
    if facts.outcomes.consecutive_no_change < rules.no_changes_before_throttle:
        return Finding()
    hold = throttle_hold(
        facts.outcomes,
        facts.table,
        interval=interval_of(policy, facts.target, at=facts.target.slot or now),
        newly_met=_newly_met(facts, policy),
        now=now,
        rules=rules,
    )
    if hold.step is None:
        return Finding()
    if not hold.holds:
        return Finding(steps=(hold.step,))
    ends = [end for end in (hold.until, evaluation.critical_deadline) if end is not None]
    return Finding(
        verdict=SlotVerdict.SKIPPED,
        reason=DecisionReason.NO_CHANGE_THROTTLE,
        text=hold.words,
        steps=(hold.step,),
        next_eligible=min(ends, default=None),
    )


def _newly_met(facts: SlotFacts, policy: Policy) -> bool:
    """Whether conditions that are met now were not met when it last ran: ages grow, and policies change."""
    last, target, report = facts.outcomes.last_success_time, facts.target, facts.table.health
    if last is None or target.since > last:
        return True
    if report is None:
        return False
    return thresholds_met(policy.spec.conditions(target.type), target.type, report, at=last) is not True


def _budget(policy: Policy, budget: BudgetState, place: datetime, now: datetime, rules: SchedulingRules) -> Finding:
    step = budget_step(policy.spec.budget, budget, place=place)
    if step is None:
        return Finding()
    if step.passed:
        return Finding(steps=(step,))
    return Finding(
        verdict=SlotVerdict.DEFERRED,
        reason=DecisionReason.BUDGET,
        text=f"the budget is spent: {step.text.removeprefix('budget: ').removesuffix(' → waits')}",
        steps=(step,),
        next_eligible=now + (rules.budget_retry if budget.is_first(place) else rules.budget_patience),
        place=place,
    )


def _fires(facts: SlotFacts, evaluation: Evaluation, place: datetime) -> Finding:
    shadow = facts.target.mode is PolicyMode.SHADOW
    return Finding(
        verdict=SlotVerdict.FIRED,
        reason=DecisionReason.SHADOW if shadow else evaluation.reason,
        text=evaluation.text,
        forced=evaluation.forced,
        place=place,
    )
