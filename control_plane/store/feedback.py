"""What the end of an operation means for the schedule of its table: outcomes, charges, and the slot it ran for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from control_plane.domain.operation import Effects, Operation, OperationState, Outcome
from control_plane.domain.scheduling import Charge, Outcomes

POLICY_CHANGED: Final = "policy_changed"
BYTES: Final = "bytes_rewritten"
"""The metric that budgets count bytes by."""
LAST_COUNTS: Final = 0.3
"""The share of the last operation in the averages of a table."""
CHARGES_KEPT: Final = timedelta(days=2)
"""Longer than any budget looks back."""


def outcomes_after(before: Outcomes, ended: Operation, *, metadata_location: str) -> Outcomes:
    """The outcomes with one more. CANCELLED, EXPIRED and SKIPPED are neither success nor failure.

    `metadata_location` is where the table was seen last; where the operation itself began is known better.
    """
    after = replace(before, last_finish_time=ended.finish_time)
    if ended.state not in (OperationState.SUCCEEDED, OperationState.FAILED):
        return after
    began_at = ended.plan.base_metadata_location if ended.plan is not None else ""
    after = replace(after, last_metadata_location=began_at or metadata_location, finished=before.finished + 1)
    if ended.state is OperationState.FAILED:
        return replace(
            after,
            failed=before.failed + 1,
            consecutive_failures=before.consecutive_failures + 1,
            last_failure_time=ended.finish_time,
            last_failure_class=ended.failure.kind if ended.failure is not None else None,
            last_failure_generation=ended.policy_generation,
        )
    seconds = (ended.finish_time - ended.start_time).total_seconds() if ended.start_time and ended.finish_time else None
    return replace(
        after,
        mean_bytes=_mean(before.mean_bytes, ended.metrics.get(BYTES)),
        mean_seconds=_mean(before.mean_seconds, seconds),
        last_success_time=ended.finish_time,
        consecutive_failures=0,
        consecutive_no_change=before.consecutive_no_change + 1 if ended.outcome is Outcome.NO_CHANGE else 0,
    )


def _mean(before: float | None, last: float | None) -> float | None:
    """A moving average: what was rather long ago counts little."""
    if last is None or before is None:
        return before if last is None else last
    return before + LAST_COUNTS * (last - before)


def charge_after(estimate: Charge, ended: Operation) -> Charge | None:
    """What it did cost; None: nothing, it never started. Bytes that nobody measured stay as they were estimated."""
    if ended.start_time is None or ended.finish_time is None:
        return None
    unmeasured = 0 if ended.effects is Effects.NONE else estimate.bytes
    return Charge(ended.metrics.get(BYTES, unmeasured), (ended.finish_time - ended.start_time).total_seconds())


def slot_comes_again(ended: Operation) -> bool:
    """Whether it did not run since its policy had changed: its slot is decided again under what governs now."""
    return (
        ended.state is OperationState.SKIPPED
        and ended.slot is not None
        and ended.start_time is None
        and ended.state_reason == POLICY_CHANGED
    )
