"""All that is kept, and the one lock around it: a call or a transaction is a step that happens wholly or not at all."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

from control_plane.domain.catalog import Catalog, Table
from control_plane.domain.executor import Executor
from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    ObservationId,
    OperationId,
    OperationType,
    PolicyName,
)
from control_plane.domain.observation import Observation
from control_plane.domain.operation import LEASE_STATES, Attempt, Lease, Operation, Progress
from control_plane.domain.pause import Pause
from control_plane.domain.policy import Policy
from control_plane.domain.scheduling import (
    Charge,
    Decision,
    Outcomes,
    PolicyChange,
    PolicyMode,
    Target,
    TargetKey,
    Term,
)
from control_plane.ports.operations import OperationEvent, Verdict
from control_plane.ports.records import Clock, RequestKey

EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Fence:
    epoch: int = 0
    holder: OperationId | None = None


@dataclass(frozen=True, slots=True)
class KeptResult:
    digest: bytes
    verdict: Verdict
    time: datetime


@dataclass(frozen=True, slots=True)
class KeptRequest:
    digest: bytes
    response: bytes | None
    time: datetime


@dataclass(frozen=True, slots=True)
class KeptReport:
    id: int
    report: HealthReport


@dataclass(frozen=True, slots=True)
class KeptCharge:
    policy: PolicyName
    table_key: str
    time: datetime
    charge: Charge


# (catalog, the fence's key of the table)
TableKey = tuple[CatalogName, str]
DecisionKey = tuple[CatalogName, str, OperationType, PolicyMode, PolicyName, datetime]


@dataclass(slots=True)
class State:
    """What a transaction undoes if it fails. The values are immutable, so shallow copies of the collections do."""

    transaction: int = 0
    """The number of the current or last one; orders the events."""
    policies: dict[PolicyName, Policy] = field(default_factory=dict)
    policy_generations: dict[tuple[PolicyName, int], Policy] = field(default_factory=dict)
    """Of the newest life of each name."""
    catalogs: dict[CatalogName, Catalog] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    reports: dict[TableKey, tuple[KeptReport, ...]] = field(default_factory=dict)
    report_id: int = 0
    debts: dict[TableKey, float] = field(default_factory=dict)
    debts_kept_until: datetime = EVER
    executors: dict[ExecutorId, Executor] = field(default_factory=dict)
    operations: dict[OperationId, Operation] = field(default_factory=dict)
    history: dict[OperationId, Operation] = field(default_factory=dict)
    fences: dict[str, Fence] = field(default_factory=dict)
    attempts: dict[OperationId, tuple[Attempt, ...]] = field(default_factory=dict)
    results: dict[Lease, tuple[KeptResult, ...]] = field(default_factory=dict)
    progress: dict[OperationId, Progress] = field(default_factory=dict)
    events: list[tuple[int, OperationEvent]] = field(default_factory=list)
    events_from: int = 0
    sequence: int = 0
    observations: dict[ObservationId, Observation] = field(default_factory=dict)
    used: dict[ObservationId, datetime] = field(default_factory=dict)
    pauses: dict[str, Pause] = field(default_factory=dict)
    requests: dict[tuple[str, str, str], KeptRequest] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    capacity_keys: dict[OperationId, tuple[str, ...]] = field(default_factory=dict)
    term: Term | None = None
    """The last one, over or not."""
    targets: dict[TargetKey, Target] = field(default_factory=dict)
    decisions: dict[DecisionKey, Decision] = field(default_factory=dict)
    outcomes: dict[tuple[str, OperationType], Outcomes] = field(default_factory=dict)
    charges: dict[OperationId, KeptCharge] = field(default_factory=dict)
    policy_changes: dict[int, PolicyChange] = field(default_factory=dict)
    policy_change_id: int = 0
    unresolved: set[TableKey] = field(default_factory=set)
    displaced: set[OperationId] = field(default_factory=set)
    """Queued by the schedule, and their tables have been resolved to something else since."""

    def in_use(self, key: str) -> int:
        """How many leases count against the key."""
        return sum(key in keys for keys in self.capacity_keys.values())

    def full(self) -> dict[str, int]:
        """The keys that have reached their limit, with it."""
        return {key: limit for key, limit in self.limits.items() if limit and self.in_use(key) >= limit}

    def leased_by(self, executor: ExecutorId) -> list[Operation]:
        held = (o for o in self.operations.values() if o.executor == executor and o.state in LEASE_STATES)
        return sorted(held, key=lambda operation: operation.id)

    def copy(self) -> State:
        return State(**{f.name: copy.copy(getattr(self, f.name)) for f in fields(self)})


def request_name(key: RequestKey) -> tuple[str, str, str]:
    return key.caller, key.method, key.request_id


class Memory:
    """The state behind its lock."""

    def __init__(self, clock: Clock) -> None:
        self.id = str(uuid.uuid4())
        self._clock = clock
        self._state = State()
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[Any] | None = None

    def now(self) -> datetime:
        return self._clock.now()

    @property
    def in_step(self) -> bool:
        """Whether this task is inside a step."""
        return self._owner is not None and self._owner is asyncio.current_task()

    @asynccontextmanager
    async def step(self) -> AsyncIterator[State]:
        """The state, with every change undone on an error. Inside a step of the same task it joins that one."""
        if self.in_step:
            yield self._state
            return
        async with self._lock:
            self._owner = asyncio.current_task()
            before = self._state.copy()
            self._state.transaction += 1
            try:
                yield self._state
            except BaseException:
                # The number was seen by cursors perhaps, so it is not given again.
                before.transaction = self._state.transaction
                self._state = before
                raise
            finally:
                self._owner = None
