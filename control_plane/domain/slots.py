"""Deciding a slot: ONE pure function that the scheduler settles by and that explanations ask.

A slot ends FIRED or SKIPPED. DEFERRED is provisional: the slot is looked at again when something may have changed, and
at its end it is SKIPPED with the reason that it waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from control_plane.domain.charges import NO_BUDGET, BudgetState
from control_plane.domain.decision_rows import Clerk, caught_up, given_up, sentence
from control_plane.domain.identifiers import OperationId
from control_plane.domain.policy import Policy
from control_plane.domain.schedule import Planned, first_slot, missed, next_slot, slot_end, slot_text, window
from control_plane.domain.schedule_config import AtWindowEnd, ScheduleConfig
from control_plane.domain.scheduling import (
    Decision,
    DecisionReason,
    PolicyMode,
    SlotFacts,
    SlotVerdict,
    Step,
    Target,
)
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.slot_checks import Finding, checks, first_finding, key_of

_INSTANT: Final = timedelta(microseconds=1)
_SECOND: Final = timedelta(seconds=1)
_STILL_WANTED: Final = frozenset(
    {DecisionReason.BUDGET, DecisionReason.NO_HEALTH, DecisionReason.CATALOG_MOVED, DecisionReason.CATCH_UP}
)
"""Nothing has served it, and nothing says that it is not wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a due target comes to. `verdict` None: no slot was due, only the next one was planned."""

    target: Target
    """As it is from now on."""
    verdict: SlotVerdict | None = None
    reason: DecisionReason | None = None
    text: str = ""
    steps: Sequence[Step] = ()
    next_eligible: datetime | None = None
    decisions: Sequence[Decision] = ()
    """To be stored: earlier slots first, the decided one last."""
    fires: bool = False
    """An operation is to be queued: FIRED by a policy that is ACTIVE."""
    slot: datetime | None = None
    """The decided slot."""
    forced: bool = False
    place: datetime | None = None
    """Of the operation in the queue, its virtual deadline."""
    cancel_at: datetime | None = None
    """When the operation is cancelled if it has not finished: the end of a window that ends what runs in it."""
    wants_inspection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Whether an operation would run if its slot were due now, and why: with the steps of every check."""

    would_run: bool
    verdict: SlotVerdict
    reason: DecisionReason
    text: str
    steps: Sequence[Step]
    blockers: Sequence[DecisionReason]
    """All that is in the way, the decisive one first."""
    next_eligible: datetime | None
    """The earliest instant at which what is in the way may be over, as far as it is known."""
    next_slot: datetime | None
    next_due: datetime | None
    slot_text: str
    awaiting: OperationId | None
    """The operation whose end starts the next interval."""
    wants_inspection: bool


def decide(
    facts: SlotFacts,
    policy: Policy,
    *,
    operation: OperationId,
    now: datetime,
    budget: BudgetState,
    rules: SchedulingRules,
    term: int,
) -> Judgement:
    """What becomes of a target that is due.

    `policy` is the one that governs it, at the target's generation; `operation` is the id of the operation if one
    follows.
    """
    target = facts.target
    schedule = policy.spec.schedule(target.type)
    if schedule is None or not schedule.is_enabled:
        return _withdrawn(facts, now, term)
    if target.slot is None:
        return Judgement(target=_planned_anew(facts, schedule, now))
    finding = first_finding(checks(facts, policy, now=now, budget=budget, rules=rules))
    clerk = Clerk(facts, schedule, now, term)
    slot, earlier = _backlog(clerk, finding, rules)
    deferred = target.deferred and slot == target.slot
    target = _measured(target, finding, now, deferred=deferred)
    finding = _in_time(schedule, slot, finding, now, rules, deferred=deferred, unmeasured_since=target.unmeasured_since)
    active = target.mode is PolicyMode.ACTIVE
    fires = finding.verdict is SlotVerdict.FIRED and active
    target = _in_queue(target, finding, now)
    if finding.verdict is SlotVerdict.DEFERRED:
        after = replace(target, slot=slot, due=_look_again(schedule, slot, finding, target, rules), deferred=True)
    elif fires and schedule.interval is not None:
        after = replace(target, slot=None, due=None, deferred=False, awaiting=operation)
    else:
        after = _at(target, _following(schedule, target, slot, finding, now))
    if finding.verdict is not SlotVerdict.DEFERRED and after.unmeasured_since is not None:
        after = replace(after, unmeasured_since=None)
    decision = clerk.decision(slot, finding, operation=operation if fires else finding.operation)
    opened = window(schedule, slot)
    ends = opened.end if opened is not None and schedule.at_window_end is AtWindowEnd.CANCEL else None
    return Judgement(
        target=after,
        verdict=finding.verdict,
        reason=finding.reason,
        text=decision.text,
        steps=finding.steps,
        next_eligible=finding.next_eligible,
        decisions=(*earlier, decision),
        fires=fires,
        slot=slot,
        forced=finding.forced,
        place=finding.place,
        cancel_at=ends if fires else None,
        wants_inspection=finding.wants_inspection,
    )


def explain(
    facts: SlotFacts,
    policy: Policy,
    *,
    now: datetime,
    rules: SchedulingRules,
    budget: BudgetState = NO_BUDGET,
) -> Explanation:
    """What would be decided if the target's slot were due now. It needs no schedule."""
    target = facts.target
    found = list(checks(facts, policy, now=now, budget=budget, rules=rules))
    decisive = first_finding(iter(found))
    assert decisive.verdict is not None and decisive.reason is not None, "a decisive finding has a verdict and a reason"
    schedule = policy.spec.schedule(target.type)
    in_the_way = [each for each in found if each.verdict in (SlotVerdict.SKIPPED, SlotVerdict.DEFERRED)]
    return Explanation(
        would_run=decisive.verdict is SlotVerdict.FIRED and target.mode is PolicyMode.ACTIVE,
        verdict=decisive.verdict,
        reason=decisive.reason,
        text=sentence(decisive, target.mode, supposed=True),
        steps=[step for finding in found for step in finding.steps],
        blockers=[each.reason for each in in_the_way if each.reason is not None],
        next_eligible=max((each.next_eligible for each in in_the_way if each.next_eligible is not None), default=None),
        next_slot=target.slot,
        next_due=target.due,
        slot_text=slot_text(schedule, target.slot) if schedule is not None and target.slot is not None else "",
        awaiting=target.awaiting,
        wants_inspection=any(each.wants_inspection for each in found),
    )


def _backlog(clerk: Clerk, finding: Finding, rules: SchedulingRules) -> tuple[datetime, Sequence[Decision]]:
    """The slot to decide, the last that came due, and what is recorded of those before it."""
    facts, schedule, now = clerk.facts, clerk.schedule, clerk.now
    slot = facts.target.slot
    assert schedule is not None and slot is not None, "a backlog has a schedule and begins with a slot"
    key = key_of(facts.target)
    if slot <= facts.target.since:
        # Given back by an operation of an earlier generation: what came due since then, that one has answered for.
        return slot, ()
    found = missed(schedule, key=key, slot=slot, now=now, most=rules.max_missed)
    if found.last == slot:
        return slot, ()
    earlier: list[Decision] = []
    first, count = slot, found.count - 1
    if facts.target.deferred:
        earlier.append(clerk.decision(slot, given_up(finding, schedule, found.last)))
        following = next_slot(schedule, key=key, after=slot)
        first, count = (following.slot if following is not None else found.last), count - 1
    if first < found.last:
        # All but the last: what was missed until just before the last came due.
        came = next_slot(schedule, key=key, after=found.last - _SECOND)
        before = (came.due if came is not None else found.last) - _INSTANT
        last = missed(schedule, key=key, slot=first, now=before, most=1).last
        earlier.append(clerk.decision(first, caught_up(schedule, found.last), last_slot=last, slots=max(count, 1)))
    return found.last, earlier


def _in_time(
    schedule: ScheduleConfig,
    slot: datetime,
    finding: Finding,
    now: datetime,
    rules: SchedulingRules,
    *,
    deferred: bool,
    unmeasured_since: datetime | None,
) -> Finding:
    """The finding, unless the time of the slot is over: nothing waits longer, and nothing fires after its window."""
    opened = window(schedule, slot)
    if finding.verdict is SlotVerdict.FIRED and opened is not None and opened.end is not None and opened.end <= now:
        text = "its window closed before it could be decided" if not deferred else "its window closed while it waited"
        step = Step("window", text, False)
        return replace(
            finding,
            verdict=SlotVerdict.SKIPPED,
            reason=DecisionReason.CATCH_UP,
            text=text,
            steps=(*finding.steps, step),
            forced=False,
        )
    if finding.verdict is not SlotVerdict.DEFERRED:
        return finding
    waited = unmeasured_since is not None and unmeasured_since + rules.health_wait <= now
    if slot_end(schedule, slot=slot) > now and not waited:
        return finding
    return replace(finding, verdict=SlotVerdict.SKIPPED)


def _measured(target: Target, finding: Finding, now: datetime, *, deferred: bool) -> Target:
    """Since when it waits for a health report: from when nothing else held its slot back."""
    if finding.reason is not DecisionReason.NO_HEALTH:
        return target if target.unmeasured_since is None else replace(target, unmeasured_since=None)
    return target if deferred and target.unmeasured_since is not None else replace(target, unmeasured_since=now)


def _look_again(
    schedule: ScheduleConfig, slot: datetime, finding: Finding, target: Target, rules: SchedulingRules
) -> datetime:
    """When a slot that waits is looked at again, at the latest."""
    instants = [slot_end(schedule, slot=slot)]
    if finding.next_eligible is not None:
        instants.append(finding.next_eligible)
    if target.unmeasured_since is not None:
        instants.append(target.unmeasured_since + rules.health_wait)
    return min(instants)


def _in_queue(target: Target, finding: Finding, now: datetime) -> Target:
    """Where it stands in the queue for its policy's budget: it keeps its age until it runs or is not wanted."""
    if finding.reason is not DecisionReason.BUDGET and target.waiting_since is None:
        return target
    if finding.reason not in _STILL_WANTED:
        return replace(target, waiting_since=None, place=None)
    if finding.reason is not DecisionReason.BUDGET:
        return replace(target, place=None)
    since = target.waiting_since or min(target.due or now, now)
    return replace(
        target, waiting_since=since, place=finding.place if finding.verdict is SlotVerdict.DEFERRED else None
    )


def _withdrawn(facts: SlotFacts, now: datetime, term: int) -> Judgement:
    """The policy has no schedule for it any more."""
    target = replace(
        facts.target,
        slot=None,
        due=None,
        deferred=False,
        awaiting=None,
        waiting_since=None,
        place=None,
        unmeasured_since=None,
    )
    slot = facts.target.slot
    if slot is None:
        return Judgement(target=target)
    text = f"policy {facts.target.policy} has no enabled schedule for {facts.target.type} any more"
    finding = Finding(
        verdict=SlotVerdict.SKIPPED,
        reason=DecisionReason.POLICY_CHANGED,
        text=text,
        steps=(Step("schedule", text, False),),
    )
    decision = Clerk(facts, None, now, term).decision(slot, finding)
    return Judgement(
        target=target,
        verdict=finding.verdict,
        reason=finding.reason,
        text=decision.text,
        steps=finding.steps,
        decisions=(decision,),
        slot=slot,
    )


def _planned_anew(facts: SlotFacts, schedule: ScheduleConfig, now: datetime) -> Target:
    """Where a target without a slot stands: an interval counts from the end of the last operation."""
    target = facts.target
    if target.awaiting is not None and target.awaiting == facts.open_operation:
        return replace(target, due=None)
    since = target.since if schedule.interval is not None else max(target.since, now)
    planned = first_slot(schedule, key=key_of(target), since=since, last_finish=facts.outcomes.last_finish_time)
    return _at(target, planned)


def _following(
    schedule: ScheduleConfig, target: Target, slot: datetime, finding: Finding, now: datetime
) -> Planned | None:
    """The slot after one that is decided: a cron's next, an interval from now on."""
    if schedule.interval is None:
        return next_slot(schedule, key=key_of(target), after=max(slot, target.since))
    if finding.reason is DecisionReason.CATCH_UP:
        # The window closed on it: it is due as soon as the next one opens.
        return first_slot(schedule, key=key_of(target), since=now, last_finish=None)
    return next_slot(schedule, key=key_of(target), after=now)


def _at(target: Target, planned: Planned | None) -> Target:
    if planned is None:
        return replace(target, slot=None, due=None, deferred=False, awaiting=None)
    return replace(target, slot=planned.slot, due=planned.due, deferred=False, awaiting=None)
