"""What the scheduler keeps: targets with their slots, the outcomes that slow them down, and its decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NewType

from control_plane.domain.catalog import Table
from control_plane.domain.identifiers import (
    CatalogName,
    OperationId,
    OperationType,
    PolicyName,
    ReplicaId,
    TableName,
)
from control_plane.domain.operation import FailureClass, Operation

DecisionId = NewType("DecisionId", str)


class PolicyMode(StrEnum):
    """SHADOW decides and records, and runs nothing."""

    ACTIVE = "ACTIVE"
    SHADOW = "SHADOW"


class SlotVerdict(StrEnum):
    """DEFERRED is provisional: it becomes FIRED or SKIPPED, at the latest at the end of the slot."""

    FIRED = "FIRED"
    SKIPPED = "SKIPPED"
    DEFERRED = "DEFERRED"


class DecisionReason(StrEnum):
    """Why a slot fired, waits or was passed over."""

    # FIRED
    NO_CONDITIONS = "no_conditions"
    CONDITIONS_MET = "conditions_met"
    CRITICAL_DELAY = "critical_delay"
    """Forced: `criticalPipelineMaxDelayMinutes` have passed since the last success."""
    SHADOW = "shadow"
    """Would have fired; a SHADOW policy runs nothing."""
    # DEFERRED or, when the slot ends, SKIPPED
    NO_HEALTH = "no_health"
    MIN_INTERVAL = "min_interval"
    BACK_OFF = "back_off"
    BUDGET = "budget"
    CATALOG_MOVED = "catalog_moved"
    """The catalog's URI or warehouse changed, and it was not listed completely since."""
    # SKIPPED
    CONDITIONS_NOT_MET = "conditions_not_met"
    CONDITIONS_UNKNOWN = "conditions_unknown"
    NO_CHANGE_THROTTLE = "no_change_throttle"
    OVERLAP = "overlap"
    """An operation of the same table and type is not finished."""
    CATCH_UP = "catch_up"
    """Missed while no leader scheduled; a later missed slot was decided in its place."""
    POLICY_CHANGED = "policy_changed"
    TABLE_GONE = "table_gone"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an evaluation, in words. `passed` None: it could not be judged."""

    name: str
    text: str
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How the operations of one type on one table ended lately; manual and scheduled alike."""

    last_success_time: datetime | None = None
    """The finish of the last SUCCEEDED one."""
    last_finish_time: datetime | None = None
    """The finish of the last one in whatever terminal state."""
    last_metadata_location: str = ""
    """The table's metadata location when the last one SUCCEEDED or FAILED, as far as it was known: where that one
    began, or where the table was seen last.
    """
    consecutive_failures: int = 0
    last_failure_time: datetime | None = None
    last_failure_class: FailureClass | None = None
    last_failure_generation: int = 0
    """The policy generation that the last failed one was planned under."""
    consecutive_no_change: int = 0
    """SUCCEEDED with outcome NO_CHANGE, in a row."""
    finished: int = 0
    """How many ended SUCCEEDED or FAILED."""
    failed: int = 0
    mean_bytes: float | None = None
    """What those that SUCCEEDED rewrote and took lately: each counts 30 %, those before it the rest. None: unknown."""
    mean_seconds: float | None = None


NO_OUTCOMES: Final = Outcomes()


@dataclass(frozen=True, slots=True)
class Target:
    """One operation type of one table under the policy that governs it, and where its schedule stands.

    Its identity is (catalog, table_key, type, mode). `table_key` is the fence's: the UUID, else the qualified name.
    """

    catalog: CatalogName
    table_key: str
    type: OperationType
    mode: PolicyMode
    policy: PolicyName
    policy_generation: int
    policy_create_time: datetime
    since: datetime
    """When it came under this generation of this policy: the first slot lies after it."""
    slot: datetime | None = None
    """The slot to decide next: a cron instant, or an interval's due instant. None: no enabled schedule, or an interval
    that waits for `awaiting`.
    """
    due: datetime | None = None
    """When the leader has to look at it again. None: never, until something changes."""
    deferred: bool = False
    """Whether the slot has a DEFERRED decision."""
    awaiting: OperationId | None = None
    """The operation whose end starts the next interval; its end makes the target due at once."""
    waiting_since: datetime | None = None
    """Since when it is wanted and the budget of its policy holds it, over all its slots, until one of them runs."""
    place: datetime | None = None
    """Its virtual deadline while it waits for the budget of its policy: the earliest goes first."""
    unmeasured_since: datetime | None = None
    """Since when its slot waits for a health report, and for nothing that is asked before."""


TargetKey = tuple[CatalogName, str, OperationType, PolicyMode]
"""The identity of a target."""


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """Everything that a decision about a target reads. `table.health` is the newest report."""

    target: Target
    table: Table
    outcomes: Outcomes = NO_OUTCOMES
    open_operation: OperationId | None = None
    """The operation of this table and type that is not finished; of several the oldest."""
    catalog_moved: bool = False
    """The catalog is elsewhere now, and nobody knows yet whether the table is there."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The stored answer to: why did this slot run, wait, or not run?

    Its identity is (catalog, table_key, type, mode, policy, slot); deciding the slot again replaces it. One row may
    stand for several slots that were missed: `slots` of them, from `slot` to `last_slot`.
    """

    id: DecisionId
    catalog: CatalogName
    table_key: str
    table: TableName
    type: OperationType
    mode: PolicyMode
    policy: PolicyName
    policy_generation: int
    slot: datetime
    slot_text: str
    """The slot on the wall clock of the schedule's zone, for example `2026-10-25 02:30:00 Europe/Zurich`."""
    verdict: SlotVerdict
    reason: DecisionReason
    text: str
    """One sentence for people."""
    steps: Sequence[Step]
    time: datetime
    term: int
    last_slot: datetime | None = None
    slots: int = 1
    operation: OperationId | None = None
    """FIRED: the operation. OVERLAP: the one that was in the way."""
    next_eligible: datetime | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """What an operation costs its policy's budget: an estimate at admission, corrected when it finishes."""

    bytes: int = 0
    engine_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a policy's operations were charged since some instant."""

    tables: int = 0
    operations: int = 0
    bytes: int = 0
    engine_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Wake:
    """So many of those that wait for a policy's budget, the first in the queue, are due at this instant."""

    policy: PolicyName
    most: int
    due: datetime


@dataclass(frozen=True, slots=True)
class Term:
    """One leadership of the scheduler. Numbers rise and are never used again."""

    number: int
    holder: ReplicaId
    expire_time: datetime
    start_time: datetime
    last_pass_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """A policy was created, changed or deleted: the tables that its patterns (old and new) may touch are resolved anew.

    `after` is how far the tables have been gone through.
    """

    id: int
    policy: PolicyName
    patterns: Sequence[str]
    time: datetime
    after: TableName | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a decision comes to: the target from now on, the rows about its slots, the operation if it fired."""

    target: Target
    decisions: Sequence[Decision] = ()
    operation: Operation | None = None
    charge: Charge | None = None


LEADER_TTL: Final = timedelta(seconds=6)
RENEW_EVERY: Final = timedelta(seconds=2)
