"""The deployment itself: what it is, and its stop switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.operation import OperationState
from control_plane.domain.pause import Pause
from control_plane.domain.scheduling import Term
from control_plane.ports.records import ReplicaInfo, Store

MAX_REASON = 1_000


@dataclass(frozen=True, slots=True)
class SchedulerInfo:
    """`enabled`: this replica takes part. `counts`: targets, due, deferred, and unresolved tables."""

    enabled: bool
    term: Term | None
    counts: Mapping[str, int]
    next_due: datetime | None


@dataclass(frozen=True, slots=True)
class SystemInfo:
    replica: ReplicaInfo
    schema_version: int
    pauses: Sequence[Pause]
    operation_counts: Mapping[OperationState, int]
    attached_executors: int
    scheduler: SchedulerInfo


@dataclass(frozen=True, slots=True)
class Scope:
    """What a stop switch is about. Neither: the whole deployment."""

    catalog: CatalogName | None = None
    table: TableName | None = None


class SystemService:
    def __init__(self, store: Store, replica: ReplicaInfo, *, schedules: bool = True) -> None:
        self._schedules = schedules
        self._store = store
        self._replica = replica

    async def info(self) -> SystemInfo:
        return SystemInfo(
            self._replica,
            await self._store.schema_version(),
            await self._store.pauses.list(),
            await self._store.operations.counts(),
            await self._store.executors.attached(),
            SchedulerInfo(
                self._schedules,
                await self._store.leadership.current(),
                await self._store.scheduling.counts(),
                await self._store.scheduling.next_due(),
            ),
        )

    async def pause(self, scope: Scope, *, reason: str, until: datetime | None, by: str) -> Pause:
        """Start nothing new in the scope. Raises InvalidArgument, CatalogNotFound."""
        now = await self._store.now()
        violations = []
        if not reason.strip() or len(reason) > MAX_REASON:
            violations.append(
                FieldViolation("reason", f"is required, for whoever finds it paused: 1 to {MAX_REASON} characters")
            )
        if until is not None and until <= now:
            violations.append(
                FieldViolation("until", f"lies in the past: the server's time is {now:%Y-%m-%dT%H:%M:%SZ}")
            )
        if violations:
            raise InvalidArgument(violations)
        if scope.catalog is not None:
            await self._store.catalogs.get(scope.catalog)
        return await self._store.pauses.set(
            Pause(reason, by, now, catalog=scope.catalog, table=scope.table, until=until)
        )

    async def resume(self, scope: Scope) -> bool:
        """Whether there was a pause of exactly this scope."""
        pause = Pause("", "", await self._store.now(), catalog=scope.catalog, table=scope.table)
        return await self._store.pauses.clear(pause.scope)
