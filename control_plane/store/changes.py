"""What a change means beyond the operation itself: its guard, its event, its fence and its lease."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from control_plane.domain.operation import (
    FENCED_STATES,
    LEASE_STATES,
    Change,
    Lease,
    Operation,
    OperationState,
)


@dataclass(frozen=True, slots=True)
class Effect:
    """A change as it is stored."""

    operation: Operation
    """With its new revision and update time."""
    sources: Collection[OperationState]
    """The guard: the states that it may leave."""
    event: str
    """Empty: nothing is recorded."""
    leaves_lease: bool
    """The fence's epoch rises, and the capacity that the lease counted against is given back."""
    opens_fence: bool
    """The table may be given to another operation."""


def effect_of(current: Operation, change: Change, now: datetime) -> Effect | None:
    """None for a change that changes nothing."""
    if change.edge is None and not change.event and change.operation == current and change.attempt is None:
        return None
    target = change.operation.state
    return Effect(
        replace(change.operation, revision=current.revision + 1, update_time=now),
        change.edge.sources if change.edge is not None else (current.state,),
        change.event or (change.edge.event if change.edge is not None else ""),
        leaves_lease=current.state in LEASE_STATES and target not in LEASE_STATES,
        opens_fence=current.state in FENCED_STATES and target not in FENCED_STATES,
    )


def is_current(lease: Lease, operation: Operation) -> bool:
    """Whether the operation is leased under exactly this epoch and token."""
    return operation.state in LEASE_STATES and operation.lease == lease


def accepts_result(lease: Lease, operation: Operation) -> bool:
    """Whether a result of this lease decides: what was never acknowledged has no result."""
    return is_current(lease, operation) and operation.state is not OperationState.LEASED


def stale_lease(lease: Lease, operation: Operation) -> str:
    """Why a result decides nothing."""
    if is_current(lease, operation):
        return "the assignment was not acknowledged"
    if operation.state in LEASE_STATES:
        return f"the lease of epoch {lease.epoch} is over; now it is {operation.state} under epoch {operation.epoch}"
    return f"the lease of epoch {lease.epoch} is over; the operation is {operation.state}"
