"""An executor as the control plane sees it: one process, at most one current session, and what it can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    Lane,
    OperationId,
    OperationType,
    ReplicaId,
    SessionId,
)


class ExecutorState(StrEnum):
    ATTACHED = "ATTACHED"
    DRAINING = "DRAINING"
    DETACHED = "DETACHED"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an executor can do. No catalogs: any catalog."""

    engine: str
    engine_version: str
    operation_types: Sequence[OperationType]
    slots: int
    observation_slots: int
    observation_kinds: Sequence[str]
    catalogs: Sequence[CatalogName] = ()
    metadata_slots: int = 0
    """For operations of the metadata lane; 0: they take `slots`, as with executors that know no lanes."""
    labels: Mapping[str, str] = field(default_factory=dict)

    def lane(self, kind: OperationType) -> Lane:
        """Where an operation of that type runs on it."""
        return kind.lane if self.metadata_slots else Lane.DATA

    def types(self, lane: Lane) -> Sequence[OperationType]:
        """What it can do in that lane."""
        return [kind for kind in self.operation_types if self.lane(kind) is lane]

    def slots_of(self, lane: Lane) -> int:
        return self.slots if lane is Lane.DATA else self.metadata_slots


@dataclass(frozen=True, slots=True)
class Executor:
    """`leaving`: it said itself that it stops. `drained`: an operator asked that it takes no more work."""

    id: ExecutorId
    display_name: str
    software_version: str
    capabilities: Capabilities
    attach_time: datetime
    last_heartbeat_time: datetime
    session: SessionId | None
    replica: ReplicaId | None
    clock_skew: timedelta = timedelta()
    drained: bool = False
    leaving: bool = False
    operations: Sequence[OperationId] = ()
    metadata_slots_in_use: int = 0
    """So many of these operations are in the metadata lane, if the executor has one."""

    @property
    def state(self) -> ExecutorState:
        if self.session is None:
            return ExecutorState.DETACHED
        return ExecutorState.DRAINING if self.drained or self.leaving else ExecutorState.ATTACHED
