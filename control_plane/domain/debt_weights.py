"""What each part of the debt score counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from control_plane.domain.health import Severity

MAX_SCORE: Final = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DebtWeights:
    """What each part of the debt score counts."""

    critical: float = 100.0
    warning: float = 50.0
    info: float = 10.0
    per_stale_day: float = 0.5
    """A day since the newest snapshot."""
    per_failure_percent: float = 1.0
    per_consecutive_failure: float = 20.0

    def __post_init__(self) -> None:
        numbers = (self.critical, self.warning, self.info)
        rest = (self.per_stale_day, self.per_failure_percent, self.per_consecutive_failure)
        if not all(0 <= number <= MAX_SCORE for number in (*numbers, *rest)):
            raise ValueError(f"the weights of the debt score are from 0 to {MAX_SCORE:g}")

    def of(self, severity: Severity) -> float:
        return {Severity.CRITICAL: self.critical, Severity.WARNING: self.warning, Severity.INFO: self.info}[severity]


DEFAULT_WEIGHTS: Final = DebtWeights()
