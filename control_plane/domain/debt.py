"""How much maintenance a table is owed: a score for people, the part that can be reduced, a place in the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from control_plane.domain.debt_weights import MAX_SCORE
from control_plane.domain.health import HealthReport, figure
from control_plane.domain.identifiers import OperationType
from control_plane.domain.outcomes import back_off_end
from control_plane.domain.recommendations import operations_for
from control_plane.domain.scheduling import Charge, Outcomes, SlotFacts
from control_plane.domain.scheduling_rules import SchedulingRules

_BEFORE_ALL: Final = timedelta(days=3_650)


@dataclass(frozen=True, slots=True)
class DebtPart:
    """One line of the breakdown: `issues.TOO_MANY_SNAPSHOTS`, `staleness`, `failure_rate` or `consecutive_failures`."""

    name: str
    points: float
    reducible: bool = False
    """Maintenance can make it smaller, and nothing holds that back: it counts for admission."""


@dataclass(frozen=True, slots=True)
class Debt:
    """The score is the sum of the parts, at most 1,000. None where there is no report."""

    score: float | None
    parts: Sequence[DebtPart]
    rank: float
    """What ranks it for admission: the parts that maintenance can reduce now."""


def debt_of(
    report: HealthReport | None,
    outcomes: Mapping[OperationType, Outcomes],
    *,
    now: datetime,
    rules: SchedulingRules,
) -> Debt:
    """The debt of a table. Failures make it visible; what they hold back by a back-off does not rank it."""
    if report is None:
        return Debt(None, (), 0.0)
    weights = rules.debt_weights
    helping = {kind for kind in OperationType if not _backs_off(outcomes.get(kind), now, rules)}
    parts = [
        DebtPart(
            f"issues.{issue.type}",
            weights.of(issue.severity),
            reducible=not helping.isdisjoint(operations_for(issue, report)),
        )
        for issue in report.issues
    ]
    stale_days = figure(report.metrics, "newest_snapshot_age_days", now=now).value
    if stale_days:
        parts.append(DebtPart("staleness", weights.per_stale_day * stale_days))
    finished = sum(each.finished for each in outcomes.values())
    failed = sum(each.failed for each in outcomes.values())
    if failed:
        parts.append(DebtPart("failure_rate", weights.per_failure_percent * 100 * failed / finished))
    in_a_row = max((each.consecutive_failures for each in outcomes.values()), default=0)
    if in_a_row:
        parts.append(DebtPart("consecutive_failures", weights.per_consecutive_failure * in_a_row))
    score = min(MAX_SCORE, sum(part.points for part in parts))
    return Debt(score, tuple(parts), min(MAX_SCORE, sum(part.points for part in parts if part.reducible)))


def benefit_of(
    kind: OperationType,
    report: HealthReport | None,
    outcomes: Outcomes,
    *,
    now: datetime,
    rules: SchedulingRules,
) -> float:
    """The debt that one operation can take off the table; nothing while it backs off."""
    if report is None or _backs_off(outcomes, now, rules):
        return 0.0
    weights = rules.debt_weights
    return sum(weights.of(issue.severity) for issue in report.issues if kind in operations_for(issue, report))


def virtual_deadline(
    came_due: datetime,
    *,
    benefit: float,
    cost: Charge,
    rules: SchedulingRules,
    critical_deadline: datetime | None = None,
) -> datetime:
    """The place of an operation in the queue, an absolute instant: whoever waits comes closer by itself.

    It lies between when the operation came due and `max_delay` later, the sooner the more debt it takes off per minute
    of engine time. So nothing stands behind what came due more than `max_delay` after it. A critical deadline that is
    over comes before everything, the longest overdue first.
    """
    if critical_deadline is not None:
        return critical_deadline - _BEFORE_ALL
    minutes = max(cost.engine_seconds, 1.0) / 60
    worth = max(benefit, 0.0) / minutes
    return came_due + rules.max_delay * (rules.debt_per_minute_at_half / (rules.debt_per_minute_at_half + worth))


def place_of(
    facts: SlotFacts,
    *,
    cost: Charge,
    now: datetime,
    rules: SchedulingRules,
    critical_deadline: datetime | None = None,
) -> datetime:
    """The virtual deadline of what a target wants. Whoever waits for a budget is as old as its first slot that did."""
    target = facts.target
    came_due = target.waiting_since or target.due or now
    return virtual_deadline(
        min(came_due, now),
        benefit=benefit_of(target.type, facts.table.health, facts.outcomes, now=now, rules=rules),
        cost=cost,
        rules=rules,
        critical_deadline=critical_deadline,
    )


def _backs_off(outcomes: Outcomes | None, now: datetime, rules: SchedulingRules) -> bool:
    if outcomes is None:
        return False
    end = back_off_end(outcomes, rules=rules)
    return end is not None and end > now
