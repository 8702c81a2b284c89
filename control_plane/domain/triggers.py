"""Whether an operation's conditions let it run: docs/semantics.md §3, in its order, each step in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from control_plane.domain.expression import compiled
from control_plane.domain.gates import GATED_BY_TIME_ALONE, Narrowed, Threshold, min_interval_end, narrowed
from control_plane.domain.health import HealthReport, figure
from control_plane.domain.identifiers import OperationType
from control_plane.domain.scheduling import DecisionReason, Outcomes, Step
from control_plane.domain.trigger_conditions import TriggerConditions
from control_plane.domain.wording import number, span

_UNREADABLE_MAX_AGE: Final = timedelta(minutes=15)
"""A catalog that was down for a moment must not silence a table for as long as a good report counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the conditions say. `runs` None: it cannot be known, for want of a health report or of a figure in it."""

    runs: bool | None
    reason: DecisionReason
    text: str
    """The step that decided, in a sentence."""
    steps: Sequence[Step]
    forced: bool = False
    critical_deadline: datetime | None = None
    """When it is forced at the latest, if it is critical."""
    next_eligible: datetime | None = None
    wants_inspection: bool = False
    """Waits for a health report that is newer than what there is."""


def evaluate(
    conditions: TriggerConditions | None,
    kind: OperationType,
    *,
    report: HealthReport | None,
    outcomes: Outcomes,
    first_seen: datetime,
    now: datetime,
    health_max_age: timedelta,
) -> Evaluation:
    """Whether the conditions let an operation of this type run now, step by step."""
    gate = narrowed(conditions, kind)
    steps: list[Step] = []
    if gate.left_out:
        steps.append(Step("conditions", f"not asked of {_not_spoken_of(kind)}: {', '.join(gate.left_out)}"))
    if gate.is_empty:
        text = f"no condition gates {kind}"
        steps.append(Step("conditions", text, True))
        return Evaluation(runs=True, reason=DecisionReason.NO_CONDITIONS, text=text, steps=steps)

    deadline = None
    if gate.critical_delay is not None:
        deadline = (outcomes.last_success_time or first_seen) + gate.critical_delay
        step = _critical_step(deadline, gate.critical_delay, outcomes, now)
        steps.append(step)
        if step.passed:
            return Evaluation(
                runs=True,
                reason=DecisionReason.CRITICAL_DELAY,
                text=f"a critical pipeline waits no longer than {span(gate.critical_delay)} for a success",
                steps=steps,
                forced=True,
                critical_deadline=deadline,
            )

    if gate.min_interval is not None:
        eligible = min_interval_end(gate, outcomes)
        step = _min_interval_step(gate.min_interval, outcomes, now)
        steps.append(step)
        if eligible is not None and not step.passed:
            return Evaluation(
                runs=False,
                reason=DecisionReason.MIN_INTERVAL,
                text=_too_soon(gate.min_interval, outcomes, now),
                steps=steps,
                critical_deadline=deadline,
                next_eligible=eligible if deadline is None else min(eligible, deadline),
            )

    if not gate.asks_health:
        text = f"time alone gates {kind}, and it has come"
        steps.append(Step("conditions", text, True))
        return Evaluation(
            runs=True, reason=DecisionReason.CONDITIONS_MET, text=text, steps=steps, critical_deadline=deadline
        )

    step = _health_step(report, outcomes, now, health_max_age)
    steps.append(step)
    if report is None or not step.passed:
        return Evaluation(
            runs=None,
            reason=DecisionReason.NO_HEALTH,
            text=step.text,
            steps=steps,
            critical_deadline=deadline,
            next_eligible=deadline,
            wants_inspection=True,
        )
    found = list(_conditions(gate, report, now))
    steps.extend(condition.step for condition in found)
    return _verdict(gate, found, steps, report, deadline)


def thresholds_met(
    conditions: TriggerConditions | None, kind: OperationType, report: HealthReport, *, at: datetime
) -> bool | None:
    """What steps 5 and 6 alone say of the report, with the ages that it has at this instant."""
    gate = narrowed(conditions, kind)
    if not gate.asks_health:
        return True
    return _verdict(gate, list(_conditions(gate, report, at)), [], report, None).runs


@dataclass(frozen=True, slots=True)
class _Condition:
    """One threshold, or the expression, as it was held against the report."""

    met: bool | None
    nearness: float
    """How far it is on the way to being met; 1 is there."""
    step: Step
    words: str


def _conditions(gate: Narrowed, report: HealthReport, now: datetime) -> Iterator[_Condition]:
    for threshold, limit in gate.thresholds:
        yield _held(threshold, limit, figure(report.metrics, threshold.figure, now=now).value)
    if gate.expression:
        expression = compiled(gate.expression)
        met = expression.evaluate(report, now=now)
        read = [(name, figure(report.metrics, meant, now=now).value) for name, meant in expression.figures]
        actual = ", ".join(f"{name} {_shown(value)}" for name, value in read)
        quoted = gate.expression if len(gate.expression) <= 120 else gate.expression[:119] + "…"
        step = Step("expression", f"expression {quoted}: {actual} → {_verdict_word(met)}", met)
        words = f"the expression {quoted} {'holds' if met else 'does not hold'} with {actual}"
        yield _Condition(met, 1.0 if met else 0.0, step, words)


def _held(threshold: Threshold, limit: float, actual: float | None) -> _Condition:
    met = None if actual is None else actual >= limit
    text = f"{threshold.json_name} {number(limit)}: actual {_shown(actual)} → {_verdict_word(met)}"
    nearness = 0.0 if actual is None else 1.0 if actual >= limit else actual / limit
    words = threshold.words.format(actual=_shown(actual), limit=number(limit))
    return _Condition(met, nearness, Step(threshold.json_name, text, met), words)


def _verdict(
    gate: Narrowed, found: Sequence[_Condition], steps: list[Step], report: HealthReport, deadline: datetime | None
) -> Evaluation:
    met = [condition for condition in found if condition.met]
    unmet = [condition for condition in found if condition.met is False]
    unknown = [condition for condition in found if condition.met is None]
    runs: bool | None
    if gate.match_all:
        runs = False if unmet else None if unknown else True
    else:
        runs = True if met else None if unknown else False
    asked = f"{'all' if gate.match_all else 'any'} of {len(found)}"
    counted = f"{len(met)} met, {len(unmet)} not met, {len(unknown)} unknown"
    steps.append(Step("triggerLogic", f"{asked} must be met: {counted} → {_verdict_word(runs)}", runs))
    if runs:
        reason, decisive = DecisionReason.CONDITIONS_MET, met
    elif runs is False:
        reason, decisive = DecisionReason.CONDITIONS_NOT_MET, unmet
    else:
        reason, decisive = DecisionReason.CONDITIONS_UNKNOWN, unknown
    nearest = max(decisive, key=lambda condition: condition.nearness)
    text = nearest.words
    if runs is None:
        text = f"{nearest.step.name} cannot be judged, because the report does not know its figure"
        text += f": {report.error}" if report.error else ""
    return Evaluation(
        runs=runs,
        reason=reason,
        text=text,
        steps=steps,
        critical_deadline=deadline,
        next_eligible=None if runs else deadline,
    )


def _critical_step(deadline: datetime, delay: timedelta, outcomes: Outcomes, now: datetime) -> Step:
    since = "the last success" if outcomes.last_success_time is not None else "the table was seen first"
    if deadline <= now:
        text = f"criticalPipeline: {span(delay)} have passed since {since} → forced"
        return Step("criticalPipeline", text, True)
    text = f"criticalPipeline: forced {span(delay)} after {since}, in {span(deadline - now)} → not yet"
    return Step("criticalPipeline", text, False)


def _min_interval_step(interval: timedelta, outcomes: Outcomes, now: datetime) -> Step:
    if outcomes.last_success_time is None:
        return Step("minInterval", f"minInterval {span(interval)}: it never succeeded yet → passed", True)
    passed = now - outcomes.last_success_time
    ago = f"minInterval {span(interval)}: the last success was {span(passed)} ago"
    if passed >= interval:
        return Step("minInterval", f"{ago} → passed", True)
    return Step("minInterval", f"{ago} → waits {span(interval - passed)}", False)


def _too_soon(interval: timedelta, outcomes: Outcomes, now: datetime) -> str:
    assert outcomes.last_success_time is not None, "only what succeeded once can be too soon"
    ago = span(now - outcomes.last_success_time)
    return f"the last success was {ago} ago, the policy asks for at least {span(interval)}"


def _health_step(report: HealthReport | None, outcomes: Outcomes, now: datetime, max_age: timedelta) -> Step:
    if report is None:
        return Step("health", "the table was not inspected yet; an inspection is asked for", False)
    age = now - report.measure_time
    if report.error and age > _UNREADABLE_MAX_AGE:
        text = f"the table could not be read {span(age)} ago; an inspection is asked for"
        return Step("health", text, False)
    if age > max_age:
        text = f"the health report is {span(age)} old, {span(max_age)} is the most; an inspection is asked for"
        return Step("health", text, False)
    changed = outcomes.consecutive_no_change == 0 and outcomes.last_success_time is not None
    if changed and outcomes.last_success_time is not None and report.measure_time < outcomes.last_success_time:
        # It shows the table as it was before this very operation had changed it.
        text = "the health report is older than the last success; an inspection is asked for"
        return Step("health", text, False)
    return Step("health", f"the health report is {span(age)} old, {span(max_age)} is the most", True)


def _not_spoken_of(kind: OperationType) -> str:
    if kind in GATED_BY_TIME_ALONE:
        return f"{kind}, which time alone gates"
    return f"{kind}, which they do not speak of"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else number(value)


def _verdict_word(met: bool | None) -> str:
    return "unknown" if met is None else "met" if met else "not met"
