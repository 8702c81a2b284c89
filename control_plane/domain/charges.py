"""What operations cost the budget of their policy: an estimate at admission, held against what was spent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from control_plane.domain.budget import Budget, BudgetLimits
from control_plane.domain.health import HealthReport, Metric
from control_plane.domain.identifiers import OperationType
from control_plane.domain.scheduling import NO_OUTCOMES, Charge, Outcomes, Spent, Step
from control_plane.domain.wording import number

BYTES_PER_SECOND: Final = 50_000_000
"""What an engine is taken to rewrite as long as nothing is known of it."""
START_SECONDS: Final = 30.0
"""What any operation takes at least, as long as nothing is known of it."""
NOTHING_SPENT: Final = Spent()
NO_CHARGE: Final = Charge()


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """What a policy's operations were charged so far, and what one more is estimated to cost."""

    this_pass: Spent = NOTHING_SPENT
    this_hour: Spent = NOTHING_SPENT
    estimate: Charge = NO_CHARGE
    table_counted_in_pass: bool = False
    """The table is among those already charged in this pass: it counts once."""
    table_counted_in_hour: bool = False
    first_waiting: datetime | None = None
    """The earliest place among the other targets of the policy that wait for its budget."""

    def is_first(self, place: datetime) -> bool:
        return self.first_waiting is None or place <= self.first_waiting


NO_BUDGET: Final = BudgetState()


def estimate(kind: OperationType, report: HealthReport | None, outcomes: Outcomes = NO_OUTCOMES) -> Charge:
    """What an operation will cost: the bytes that it has to rewrite by the report, else as many as it used to, and the
    time that the engine used to need for as much.
    """
    usual_bytes = outcomes.mean_bytes or 0.0
    measured = _bytes_to_rewrite(kind, report)
    size = usual_bytes if measured is None else measured
    if outcomes.mean_seconds is None:
        return Charge(int(size), START_SECONDS + size / BYTES_PER_SECOND)
    # Ten times as many bytes are not taken to last more than ten times as long, and nothing is free.
    share = min(max(size / usual_bytes, 0.1), 10.0) if usual_bytes else 1.0
    return Charge(int(size), outcomes.mean_seconds * share)


def budget_step(budget: Budget | None, state: BudgetState, *, place: datetime) -> Step | None:
    """Whether the budget has room for one more, with this place in the queue; None if the policy has no budget.

    What costs more than the whole budget by itself runs when nothing else was charged: else it never could. Nobody
    passes by one that waits and ranks before it, or whoever needs much room would wait for ever.
    """
    if budget is None:
        return None
    over: list[str] = []
    over.extend(_over("perPass", budget.per_pass, state.this_pass, state.estimate, counted=state.table_counted_in_pass))
    over.extend(_over("perHour", budget.per_hour, state.this_hour, state.estimate, counted=state.table_counted_in_hour))
    if over:
        return Step("budget", f"budget: {'; '.join(over)} → waits", False)
    if not state.is_first(place):
        return Step("budget", "budget: another of this policy ranks before it and waits for room → waits", False)
    return Step("budget", "budget: there is room for it", True)


def _over(name: str, limits: BudgetLimits | None, spent: Spent, cost: Charge, *, counted: bool) -> Iterator[str]:
    if limits is None:
        return
    rows: tuple[tuple[str, float | None, float, float], ...] = (
        ("tables", limits.tables, spent.tables, 0 if counted else 1),
        ("operations", limits.operations, spent.operations, 1),
        ("bytes", limits.bytes, spent.bytes, cost.bytes),
        ("engineSeconds", limits.engine_seconds, spent.engine_seconds, cost.engine_seconds),
    )
    for unit, limit, used, more in rows:
        if limit and used and used + more > limit:
            yield f"{name}.{unit} {number(limit)}: {number(used)} spent, it needs {number(more)}"


def _bytes_to_rewrite(kind: OperationType, report: HealthReport | None) -> float | None:
    """None: the report does not know."""
    if kind in (OperationType.EXPIRE_SNAPSHOTS, OperationType.ORPHAN_CLEANUP, OperationType.COMPUTE_STATISTICS):
        return 0
    if report is None:
        return None
    metrics = report.metrics
    candidates: dict[OperationType, tuple[Metric, ...]] = {
        OperationType.REWRITE_DATA_FILES: (metrics.reducible_bytes, metrics.total_bytes),
        OperationType.REWRITE_POSITION_DELETES: (metrics.delete_bytes,),
        OperationType.REWRITE_MANIFESTS: (metrics.manifest_bytes,),
    }
    return next((metric.value for metric in candidates[kind] if metric.value is not None), None)
