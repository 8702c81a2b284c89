"""Where operations, their leases and their history are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from control_plane.domain.catalog import Catalog
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    OperationId,
    OperationType,
    PolicyName,
    RunId,
    SessionId,
    TableName,
    TriggerId,
)
from control_plane.domain.operation import (
    Attempt,
    Change,
    FailureClass,
    Lease,
    Operation,
    OperationState,
    Progress,
    Result,
    VerificationVerdict,
)

# Operations whose parameters are instants: a wrong clock would make them do the wrong thing.
AGE_BASED: Final = frozenset({OperationType.EXPIRE_SNAPSHOTS})

# Called under the operation's row lock with the operation and the store's time; None: nothing follows.
Decide = Callable[[Operation, datetime], Change | None]


@dataclass(frozen=True, slots=True)
class OperationFilter:
    """Every set field must match; a sequence matches any of its values; empty: everything."""

    catalog: CatalogName | None = None
    table: TableName | None = None
    run: RunId | None = None
    trigger: TriggerId | None = None
    policy: PolicyName | None = None
    states: Sequence[OperationState] = ()
    types: Sequence[OperationType] = ()
    ids: Sequence[OperationId] = ()


@dataclass(frozen=True, slots=True)
class OperationPage:
    """Newest first by (create_time, id). `next` is where the next page starts; None on the last."""

    operations: Sequence[Operation]
    next: tuple[datetime, OperationId] | None


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """One session's free room. `alone`: it works on nothing, so an operation that must run alone may be given."""

    session: SessionId
    executor: ExecutorId
    engine: str
    operation_types: Sequence[OperationType]
    catalogs: Sequence[CatalogName]
    """Empty: any."""
    labels: Mapping[str, str]
    slots: int
    alone: bool
    age_based: bool = True
    """False: its clock is too far off for operations that go by age."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A leased operation, and its catalog as it was when it was leased."""

    operation: Operation
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a heartbeat's leases are worth. `lapsed` are in RECONCILING with the same token: they may come back one by
    one.
    """

    renewed: Sequence[Lease]
    lapsed: Sequence[Lease]
    lost: Sequence[Lease]
    cancelled: Sequence[OperationId]
    """Those among the renewed whose cancel was asked for."""


class Verdict(StrEnum):
    """What became of a result: it decided, the same one had already been accepted, or it came too late and is kept as
    evidence.
    """

    ACCEPTED = "ACCEPTED"
    REPEATED = "REPEATED"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class Reported:
    verdict: Verdict
    operation: Operation
    reason: str = ""


class Due(StrEnum):
    """Reasons for which a sweep looks at an operation, each judged by the store's clock."""

    UNACKED = "UNACKED"
    """LEASED, past its ack_deadline."""
    LAPSED = "LAPSED"
    """RUNNING, past its lease_expire_time, or missing from two heartbeats in a row."""
    EVIDENCE = "EVIDENCE"
    """RECONCILING, past evidence_not_before, no observation of this lapse open or answered and not yet used."""
    RECONCILE_OVERDUE = "RECONCILE_OVERDUE"
    VERIFY = "VERIFY"
    """VERIFYING, no verification of this attempt (the observation's `lapse`) open or answered and not used."""
    VERIFY_OVERDUE = "VERIFY_OVERDUE"
    EXPIRED = "EXPIRED"
    """QUEUED or HELD, past its queue_deadline."""
    WITHDRAWN = "WITHDRAWN"
    """QUEUED, and its policy is deleted or disabled."""
    WINDOW_OVER = "WINDOW_OVER"
    """Past its `cancel_at`, and its cancel was not asked for yet."""
    POLICY_CHANGED = "POLICY_CHANGED"
    """QUEUED by the schedule, and since then its table has been resolved to another policy, or to a later generation.
    """


@dataclass(frozen=True, slots=True)
class Figures:
    """Operations in numbers. Durations, from the first start to the finish, are of those that SUCCEEDED or FAILED after
    a start; the percentiles interpolate.
    """

    states: Mapping[OperationState, int]
    median: timedelta | None
    p95: timedelta | None
    metrics: Mapping[str, int]
    """Sums. A metric that nobody reported is absent."""
    failures: Mapping[FailureClass, int]
    """Of those that FAILED."""
    verifications: Mapping[VerificationVerdict, int]
    """Of those that were verified, however they ended."""

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def success_rate(self) -> float | None:
        """Those that SUCCEEDED among those that SUCCEEDED or FAILED. None: none did either."""
        succeeded = self.states.get(OperationState.SUCCEEDED, 0)
        decided = succeeded + self.states.get(OperationState.FAILED, 0)
        return succeeded / decided if decided else None


@dataclass(frozen=True, slots=True)
class OperationStats:
    overall: Figures
    types: Mapping[OperationType, Figures]


@dataclass(frozen=True, slots=True)
class Rates:
    """How long the last operations of a kind took: medians over at most 100 that SUCCEEDED. None: nobody can tell."""

    operations: int = 0
    seconds_per_operation: float | None = None
    seconds_per_byte: float | None = None
    """Of those that rewrote any bytes."""


@dataclass(frozen=True, slots=True)
class OperationEvent:
    """One row of the event table: an edge that was taken, or a note. `operation` is as it was right after."""

    sequence: int
    event: str
    time: datetime
    from_state: OperationState | None
    to_state: OperationState
    operation: Operation


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in the event table: everything of transactions before `xid`, and of `xid` up to `sequence`.

    `store` identifies the database, so that a cursor of another one is told apart.
    """

    store: str
    xid: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Events:
    events: Sequence[tuple[Cursor, OperationEvent]]
    cursor: Cursor
    """Read on from here, whether or not there were events."""


class OperationStore(Protocol):
    """Operations, fences, leases, attempts, results, progress and events. Every method is one atomic step by the
    store's own clock.

    One table belongs to at most one operation in LEASED, RUNNING, RECONCILING or VERIFYING. A fence per table UUID (the
    qualified name where a table has none) carries the epoch, which rises by one with every claim and whenever a lease
    is left by any edge, over all operations of the table and for ever. Every change of an operation writes its event in
    the same step; a change into a terminal state moves the operation from the hot table to history, and counts in the
    outcomes of its table and type, makes the targets due that await it, and corrects what its policy was charged.
    """

    async def enqueue(self, operations: Sequence[Operation]) -> Mapping[OperationId, Sequence[str]]:
        """Add new QUEUED operations, with an event `queued` each; the answer is that of `blockers`. Raises
        CatalogNotFound if its catalog is gone.
        """

    async def get(self, operation: OperationId) -> Operation:
        """Unfinished or from history. Raises OperationNotFound."""

    async def attempts(self, operation: OperationId) -> Sequence[Attempt]:
        """Finished and current attempts by epoch; a hand-out that was returned untouched counts as one row with
        decided_by `returned`. An attempt began when it was handed out; a current one shows its plan so far.
        """

    async def progress(self, operations: Sequence[OperationId]) -> Mapping[OperationId, Progress]:
        """The last progress of those unfinished that have one."""

    async def list(
        self, where: OperationFilter, *, after: tuple[datetime, OperationId] | None, limit: int
    ) -> OperationPage:
        """One keyset page, newest first, of unfinished operations and history alike."""

    async def blockers(self, operations: Sequence[Operation]) -> Mapping[OperationId, Sequence[str]]:
        """For those that are QUEUED: what keeps each from starting now, in words (table busy with which operation, an
        earlier step of its run, not_before, a pause, a table that is not to be maintained, a policy that has changed,
        a full cap, no attached executor that can do it (NO_CAPABLE_EXECUTOR: which capability is missing)).
        """

    async def stats(self, where: OperationFilter, *, since: datetime) -> OperationStats:
        """Numbers of the operations that were created since, unfinished ones and history alike."""

    async def rates(self, *, table_key: str | None, type: OperationType, engine: str | None) -> Rates:
        """How long operations of this type took lately: of the table with this fence, of this engine, where given."""

    async def unfinished(self, catalog: CatalogName) -> int:
        """How many operations of the catalog are not terminal."""

    async def counts(self) -> Mapping[OperationState, int]:
        """Unfinished operations by state."""

    async def claimable(self) -> bool:
        """Whether any QUEUED operation is due now; the cheap question before claims."""

    async def claim(self, request: ClaimRequest) -> Sequence[Claimed]:
        """Lease up to `request.slots` operations, the earliest virtual deadline first, by `decisions.claimed`.

        Given are QUEUED operations that are past `not_before` and before `queue_deadline`, without a cancel request, of
        an enabled policy (scheduled ones: of its current generation), not paused, whose table is to be maintained and
        its fence has no holder, of a type and catalog that the session can do,
        that do not avoid this executor, with no earlier step of their run that is due-QUEUED, LEASED, RUNNING,
        RECONCILING or VERIFYING, within the caps of catalog, engine and labels, at most one per table; a solo one only
        if `alone`, and then nothing else. The session must be its executor's current one and not drained, else nothing
        is given. Fence and operation are locked together and skipped when locked: two callers never get the same
        operation, nor two operations of one table.
        """

    async def change(
        self,
        operation: OperationId,
        decide: Decide,
        *,
        lease: Lease | None = None,
        session: SessionId | None = None,
        due: Due | None = None,
    ) -> Operation | None:
        """Lock the operation, ask `decide`, and store its change under the edge's guard; returns the operation as it is
        afterwards.

        None if nothing was decided: `decide` said None; `lease` was given and (operation, epoch, token) is not the
        current lease in LEASED, RUNNING or RECONCILING; `session` was given and is not the current session of the
        lease's executor; or `due` was given and does not hold any more. A stale lease or session changes nothing.
        Raises OperationNotFound, and what `decide` raises.
        """

    async def report(self, lease: Lease, result: Result, decide: Decide) -> Reported:
        """Store the result of (operation, epoch, token) and what it decides, in one step.

        A result stored before is looked up first: the same again is REPEATED, another one REJECTED and kept. Then the
        lease is compared as in `change`; a stale one is REJECTED and kept. Any process may send it: the session is not
        compared. Accepted in RUNNING and RECONCILING only.
        """

    async def renew(self, session: SessionId, leases: Sequence[Lease], *, heartbeat: bool) -> Renewal:
        """Extend exactly the leases listed that are RUNNING and of this session's executor, by the TTL from the store's
        now.

        LEASED ones are left alone and count as renewed in the answer only if still LEASED to it (an unacknowledged
        lease is never extended). With `heartbeat`, RUNNING leases of the executor that are not listed count a missed
        renewal; two in a row make them due as LAPSED. A session that is not current renews nothing: all its leases are
        lost.
        """

    async def due(self, reason: Due, *, limit: int) -> Sequence[OperationId]:
        """Unfinished operations that are due for a sweep, the longest overdue first."""

    async def due_now(self) -> frozenset[Due]:
        """Which kinds of sweep have anything to do, in one statement."""

    async def record_progress(self, progress: Mapping[OperationId, Progress], *, leases: Sequence[Lease]) -> None:
        """Overwrite the progress row of each operation whose lease is current."""

    async def cancel_requests(self, executors: Sequence[ExecutorId]) -> Sequence[Lease]:
        """Current leases of these executors whose cancel was asked for."""

    async def cursor(self) -> Cursor:
        """The position of now: reading from it misses nothing that commits later."""

    async def events(self, after: Cursor, where: OperationFilter, *, limit: int) -> Events:
        """Events after the cursor, oldest transaction first. Complete, and in order per operation: events of
        transactions that may still
        commit out of order are held back. Raises CursorExpired for a cursor past retention or of another store."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long is kept what is over."""

    operations: int = 90
    """Days."""
    events: int = 90
    observations: int = 1
    requests: int = 1
    decisions: int = 30
    reports: int = 30
    """The newest report of a table is kept whatever its age."""
