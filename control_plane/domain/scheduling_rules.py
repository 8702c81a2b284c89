"""The numbers of scheduling."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from control_plane.domain.debt_weights import DEFAULT_WEIGHTS, DebtWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingRules:
    """The numbers of scheduling; docs/semantics.md says what follows from each."""

    health_max_age: timedelta = timedelta(hours=1)
    """A health report older than this decides nothing."""
    health_wait: timedelta = timedelta(minutes=15)
    """How long a slot waits for a health report."""

    failures_before_back_off: int = 3
    back_off: timedelta = timedelta(hours=6)

    no_changes_before_throttle: int = 5
    throttle_step: float = 1.5
    throttle_most: float = 4.0
    throttle_at_least: timedelta = timedelta(hours=6)

    budget_retry: timedelta = timedelta(minutes=1)
    """When the slot that is first in the queue for its policy's budget is looked at again."""
    budget_patience: timedelta = timedelta(minutes=5)
    """When those behind it are, unless something that ran makes room for them sooner."""
    budget_window: timedelta = timedelta(hours=1)
    """How far back a budget `perHour` looks."""

    max_missed: int = 10_000
    """No more missed slots than this are counted."""

    max_delay: timedelta = timedelta(hours=6)
    """No operation stands behind one that came due later than this after it."""
    debt_per_minute_at_half: float = 50.0
    """The debt removed per minute of engine time that halves the delay."""

    debt_weights: DebtWeights = DEFAULT_WEIGHTS

    def __post_init__(self) -> None:
        if self.failures_before_back_off < 1 or self.no_changes_before_throttle < 1 or self.max_missed < 1:
            raise ValueError("numbers of failures, unchanged runs and missed slots are 1 or more")
        if not 1 <= self.throttle_step <= self.throttle_most:
            raise ValueError(
                f"needs 1 <= throttle_step <= throttle_most, has {self.throttle_step}, {self.throttle_most}"
            )
        if (
            self.debt_per_minute_at_half <= 0
            or min(self.max_delay, self.budget_retry, self.budget_patience) <= timedelta()
        ):
            raise ValueError("delays and the debt that halves them are above zero")
