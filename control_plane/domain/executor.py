"""An executor as the control plane sees it: one process, at most one current session, and what it can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from control_plane.domain.identifiers import CatalogName, ExecutorId, OperationId, OperationType, ReplicaId, SessionId


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
    labels: Mapping[str, str] = field(default_factory=dict)


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

    @property
    def state(self) -> ExecutorState:
        if self.session is None:
            return ExecutorState.DETACHED
        return ExecutorState.DRAINING if self.drained or self.leaving else ExecutorState.ATTACHED
