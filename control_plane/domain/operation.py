"""The life of an operation: its states, the edges between them as data, and what is kept of it.

The edges are the only statement of which change is allowed. The store takes its compare-and-set guards from them, and
docs/state-machine.md is drawn from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    OperationId,
    OperationType,
    PolicyName,
    RunId,
    SessionId,
    TableName,
    TableUuid,
    TriggerId,
)


class OperationOrigin(StrEnum):
    """What made an operation: a slot of its policy's schedule, somebody who asked, or somebody who asked again."""

    SCHEDULE = "SCHEDULE"
    TRIGGER = "TRIGGER"
    RETRY = "RETRY"


class OperationState(StrEnum):
    QUEUED = "QUEUED"
    HELD = "HELD"
    LEASED = "LEASED"
    RUNNING = "RUNNING"
    RECONCILING = "RECONCILING"
    VERIFYING = "VERIFYING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    SKIPPED = "SKIPPED"


S = OperationState


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge: the event, the states it may leave, and the state it enters."""

    event: str
    sources: frozenset[OperationState]
    target: OperationState


CLAIMED: Final = Edge("claimed", frozenset({S.QUEUED}), S.LEASED)
ACKED: Final = Edge("acked", frozenset({S.LEASED}), S.RUNNING)
# Nothing was touched before the ack was answered, so this is the same attempt.
RETURNED: Final = Edge("returned", frozenset({S.LEASED}), S.QUEUED)
HOLD: Final = Edge("held", frozenset({S.QUEUED}), S.HELD)
APPROVED: Final = Edge("approved", frozenset({S.HELD}), S.QUEUED)
REJECTED: Final = Edge("rejected", frozenset({S.HELD}), S.CANCELLED)
LAPSED: Final = Edge("lapsed", frozenset({S.RUNNING}), S.RECONCILING)
UNSURE: Final = Edge("unsure", frozenset({S.RUNNING}), S.RECONCILING)
CAME_BACK: Final = Edge("came_back", frozenset({S.RECONCILING}), S.RUNNING)
COMMITTED: Final = Edge("committed", frozenset({S.RUNNING, S.RECONCILING}), S.VERIFYING)
NO_CHANGE: Final = Edge("no_change", frozenset({S.RUNNING, S.RECONCILING}), S.SUCCEEDED)
ATTEMPT_FAILED: Final = Edge("attempt_failed", frozenset({S.RUNNING, S.RECONCILING, S.VERIFYING}), S.QUEUED)
# From QUEUED by a guard, from LEASED by deliveries that nobody acknowledges.
FAILED: Final = Edge("failed", frozenset({S.QUEUED, S.LEASED, S.RUNNING, S.RECONCILING, S.VERIFYING}), S.FAILED)
VERIFIED: Final = Edge("verified", frozenset({S.VERIFYING}), S.SUCCEEDED)
CANCELLED: Final = Edge(
    "cancelled", frozenset({S.QUEUED, S.HELD, S.LEASED, S.RUNNING, S.RECONCILING, S.VERIFYING}), S.CANCELLED
)
EXPIRED: Final = Edge("expired", frozenset({S.QUEUED, S.HELD}), S.EXPIRED)
# From RUNNING, and from RECONCILING by a late result, only when the executor found another table under the name
# and touched nothing.
SKIPPED: Final = Edge("skipped", frozenset({S.QUEUED, S.LEASED, S.RUNNING, S.RECONCILING}), S.SKIPPED)

EDGES: Final = (
    CLAIMED,
    ACKED,
    RETURNED,
    HOLD,
    APPROVED,
    REJECTED,
    LAPSED,
    UNSURE,
    CAME_BACK,
    COMMITTED,
    NO_CHANGE,
    ATTEMPT_FAILED,
    FAILED,
    VERIFIED,
    CANCELLED,
    EXPIRED,
    SKIPPED,
)

TERMINAL: Final = frozenset(OperationState) - {source for edge in EDGES for source in edge.sources}
# An executor may hold the lease in these; leaving them by any edge raises the fence's epoch.
LEASE_STATES: Final = frozenset({S.LEASED, S.RUNNING, S.RECONCILING})
# The table belongs to the operation in these: one operation per table at a time.
FENCED_STATES: Final = LEASE_STATES | {S.VERIFYING}


class Outcome(StrEnum):
    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"
    NO_CHANGE = "NO_CHANGE"


class Effects(StrEnum):
    """What a table was changed by: commits for snapshot operations, batches for deletions."""

    NONE = "NONE"
    PARTIAL = "PARTIAL"
    COMMITTED = "COMMITTED"
    UNKNOWN = "UNKNOWN"


class FailureClass(StrEnum):
    ENGINE = "ENGINE"
    CONFLICT = "CONFLICT"
    UNAVAILABLE = "UNAVAILABLE"
    INVALID = "INVALID"
    TIMEOUT = "TIMEOUT"
    LOST = "LOST"
    POISON = "POISON"
    VERIFICATION = "VERIFICATION"

    @property
    def retryable(self) -> bool:
        return self not in (FailureClass.INVALID, FailureClass.POISON, FailureClass.VERIFICATION)


class VerificationVerdict(StrEnum):
    PASSED = "PASSED"
    FAILED = "FAILED"
    UNVERIFIED = "UNVERIFIED"


@dataclass(frozen=True, slots=True)
class Failure:
    kind: FailureClass
    message: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of a catalog or of a verification; `hint` says what to do about a failed one."""

    check: str
    passed: bool
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    verdict: VerificationVerdict
    findings: Sequence[Finding]
    time: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """What an executor presents with every message about an operation; the store compares all three."""

    operation: OperationId
    epoch: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What an attempt is about to do, stored before its first effect; the measure of evidence after a loss."""

    base_snapshot: int | None
    base_metadata_location: str
    max_commits: int = 1
    expected_groups: int | None = None
    expiring_snapshots: Sequence[int] = ()
    retained_snapshots: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a running operation stands. None: not known."""

    phase: str
    groups_done: int | None = None
    groups_total: int | None = None
    tasks_done: int | None = None
    tasks_total: int | None = None
    bytes_written: int | None = None
    estimated: bool = False
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended, as its executor saw it. `digest` tells a repeated result from another one."""

    outcome: Outcome
    effects: Effects
    failure: Failure | None = None
    cancelled: bool = False
    skipped: str = ""
    snapshots: Sequence[int] = ()
    metrics: Mapping[str, int] = field(default_factory=dict)
    commits_answered: bool = True
    execution_id: str = ""


@dataclass(frozen=True, slots=True)
class IntendedEnd:
    """What follows once the table has been verified: a terminal state, or QUEUED for another attempt."""

    state: OperationState
    outcome: Outcome
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of an operation by one executor under one epoch. `decided_by` is result, evidence, returned or empty."""

    number: int
    epoch: int
    executor: ExecutorId
    start_time: datetime
    finish_time: datetime | None = None
    outcome: Outcome | None = None
    effects: Effects | None = None
    failure: Failure | None = None
    decided_by: str = ""
    plan: Plan | None = None
    snapshots: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """ONE maintenance action of ONE table under ONE policy generation: the unit of queueing, locking, retry and
    history.
    """

    # What was asked for; never changes.
    id: OperationId
    type: OperationType
    table: TableName
    table_uuid: TableUuid
    location: str
    policy: PolicyName
    policy_generation: int
    action: Mapping[str, Any]
    """The typed parameters with absolute cut-offs, as `domain.action` makes and reads them."""
    trigger_id: TriggerId
    run_id: RunId
    requested_by: str
    create_time: datetime
    queue_deadline: datetime
    timeout: timedelta
    virtual_deadline: datetime
    """The place in the queue: the earlier, the sooner."""
    max_attempts: int = 5
    retry_of: OperationId | None = None
    traceparent: str = ""
    slot: datetime | None = None
    """The slot that it was scheduled for. None: somebody asked for it."""
    cancel_at: datetime | None = None
    """When it is cancelled if it is not finished: the end of a window that ends what runs in it."""

    # Where it stands.
    state: OperationState = OperationState.QUEUED
    state_reason: str = ""
    revision: int = 1
    """Rises with every change; the etag."""
    update_time: datetime | None = None
    not_before: datetime | None = None
    attempt: int = 0
    """The number of the current or last attempt; 0 before the first."""
    epoch: int = 0
    """The fence's epoch at the last claim: the attempt's stamp."""
    token: bytes = b""
    """Empty unless a lease exists."""
    executor: ExecutorId | None = None
    session: SessionId | None = None
    ack_deadline: datetime | None = None
    lease_expire_time: datetime | None = None
    missed_renewals: int = 0
    avoid_executor: ExecutorId | None = None
    avoid_until: datetime | None = None
    redelivery: bool = False
    """The next claim hands the same attempt out again: the last one was returned untouched."""
    missed_deliveries: int = 0
    lost_solo: int = 0
    solo: bool = False

    # Reconciling and verifying.
    lapse: int = 0
    """The number of the current or last entry into RECONCILING; evidence belongs to one."""
    lapse_time: datetime | None = None
    evidence_not_before: datetime | None = None
    reconcile_deadline: datetime | None = None
    unsure_failure: Failure | None = None
    """The failure that an UNKNOWN result gave; the attempt's if evidence finds nothing."""
    intended: IntendedEnd | None = None
    verify_deadline: datetime | None = None
    verification: Verification | None = None

    # Cancel is an overlay, not a state.
    cancel_request_time: datetime | None = None
    cancel_requested_by: str = ""
    cancel_reason: str = ""

    # What came of it, summed over all attempts.
    outcome: Outcome | None = None
    effects: Effects = Effects.NONE
    failure: Failure | None = None
    metrics: Mapping[str, int] = field(default_factory=dict)
    snapshots: Sequence[int] = ()
    engine: str = ""
    execution_id: str = ""
    late_effects: bool = False
    start_time: datetime | None = None
    finish_time: datetime | None = None
    plan: Plan | None = None
    """The plan of the current attempt."""

    @property
    def origin(self) -> OperationOrigin:
        """What made it."""
        if self.slot is not None:
            return OperationOrigin.SCHEDULE
        return OperationOrigin.TRIGGER if self.retry_of is None else OperationOrigin.RETRY

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def catalog(self) -> CatalogName:
        return self.table.catalog

    @property
    def lease(self) -> Lease:
        return Lease(self.id, self.epoch, self.token)

    @property
    def cancel_requested(self) -> bool:
        return self.cancel_request_time is not None


@dataclass(frozen=True, slots=True)
class Change:
    """What a decision makes of an operation. Without an edge its state stays, and only what is kept of it changes.

    `event` names the row in the event table: the edge's own event unless given; without an edge and event nothing is
    recorded but the row. `attempt` carries what is kept of the attempt that this change ends.
    """

    operation: Operation
    edge: Edge | None = None
    event: str = ""
    attempt: Attempt | None = None

    def __post_init__(self) -> None:
        if self.edge is not None and self.operation.state is not self.edge.target:
            raise ValueError(f"{self.edge.event} enters {self.edge.target}, the operation says {self.operation.state}")
