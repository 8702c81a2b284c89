"""Where policies, catalogs, tables, executors, observations, pauses and answered requests are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from control_plane.domain.catalog import Catalog, Table
from control_plane.domain.executor import Executor
from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    ObservationId,
    PolicyName,
    ReplicaId,
    SessionId,
    TableName,
    TableUuid,
)
from control_plane.domain.observation import Answer, Observation, ObservationKind, ObservationRequest
from control_plane.domain.pause import Pause
from control_plane.domain.policy import Policy
from control_plane.ports.operations import OperationStore, Retention
from control_plane.ports.scheduling import LeadershipStore, SchedulingStore


@dataclass(frozen=True, slots=True)
class Enabled:
    """The policies that may govern tables."""

    policies: Sequence[Policy]
    time: datetime
    """The store's clock when they were read."""


class PolicyStore(Protocol):
    """Policies by name. `etag` arguments: None means unconditionally; else a mismatch raises EtagMismatch and changes
    nothing.
    """

    async def create(self, policy: Policy) -> Policy:
        """Raises PolicyExists."""

    async def get(self, name: PolicyName) -> Policy:
        """Raises PolicyNotFound."""

    async def generation(self, name: PolicyName, generation: int) -> Policy:
        """The policy as it was when this generation began, without an etag unless it is the current one; of a policy
        that was deleted, its last life. Raises PolicyNotFound.
        """

    async def list(self, *, after: PolicyName | None, limit: int) -> Sequence[Policy]:
        """By name, at most `limit`, those after `after`."""

    async def enabled(self) -> Enabled:
        """Every enabled policy by name, and when that was so."""

    async def version(self) -> str:
        """Another one whenever a policy was created, changed or deleted: the cheap question before `enabled`."""

    async def update(self, policy: Policy, *, etag: str | None) -> Policy:
        """Replace it; a generation that rises leaves a PolicyChange, as `create` and `delete` do. `policy` carries the
        new etag and generation. Raises PolicyNotFound, EtagMismatch.
        """

    async def delete(self, name: PolicyName, *, etag: str | None) -> None:
        """Raises PolicyNotFound, EtagMismatch."""


class CatalogStore(Protocol):
    """Catalogs by name; `revision` None is unconditional, else a mismatch raises EtagMismatch and changes nothing."""

    async def create(self, catalog: Catalog) -> Catalog:
        """Raises CatalogExists. Its capacity row comes with it."""

    async def get(self, name: CatalogName) -> Catalog:
        """Raises CatalogNotFound."""

    async def list(self, *, after: CatalogName | None, limit: int) -> Sequence[Catalog]:
        """By name, at most `limit`, those after `after`."""

    async def update(self, catalog: Catalog, *, revision: int | None, unused: bool) -> Catalog:
        """Replace it and raise the revision. With `unused` it raises CatalogInUse while operations of the catalog are
        unfinished, judged in the same step. Another generation is another place: what listings have found is
        forgotten, and looks that nobody has used the answer of are ended. Raises CatalogNotFound, EtagMismatch.
        """

    async def delete(self, name: CatalogName, *, revision: int | None) -> None:
        """With its tables and reports. Raises CatalogNotFound, EtagMismatch, CatalogInUse (judged in the same step)."""

    async def record_listing(self, name: CatalogName, *, error: str, began: datetime | None = None) -> Catalog | None:
        """When and how the last listing ended; an error leaves the times of the last good ones. `began`: it is complete
        and began then. After the catalog moved the first of them makes its deferred targets due, any other listing
        those whose tables were seen since. None if the catalog is gone.
        """


@dataclass(frozen=True, slots=True)
class ReportPage:
    """Newest first, in the order in which they were saved. `next` is where the next page starts; None on the last."""

    reports: Sequence[HealthReport]
    next: int | None


@dataclass(frozen=True, slots=True)
class ChangedHealth:
    """Tables whose debt may have changed. `until`: all changes up to this instant are among them."""

    tables: Sequence[Table]
    until: datetime
    more: bool


class TableStore(Protocol):
    """Known tables: identity (catalog, UUID), name as an attribute. A table that was only listed has an empty UUID."""

    async def seen(self, tables: Sequence[Table]) -> None:
        """Insert or refresh. A name that comes with a new UUID marks the old row REPLACED; a known UUID under a new
        name is a rename. Raises CatalogNotFound, as does `listed`.
        """

    async def listed(self, catalog: CatalogName, names: Sequence[TableName]) -> None:
        """Names of a listing: unknown ones are added without a UUID, known ones refreshed. Nothing is removed."""

    async def unloaded(self, *, after: TableName | None, limit: int) -> Sequence[TableName]:
        """PRESENT tables that are known by their names alone, by name, those after `after`."""

    async def unseen(
        self, catalog: CatalogName, *, since: datetime, after: TableName | None, limit: int
    ) -> Sequence[TableName]:
        """PRESENT tables that were seen last before this instant, by name, those after `after`."""

    async def get(self, name: TableName) -> Table:
        """The PRESENT (else MISSING) table of that name with its newest report and active operation. Raises
        TableNotFound.
        """

    async def list(self, *, catalog: CatalogName | None, after: TableName | None, limit: int) -> Sequence[Table]:
        """PRESENT and MISSING tables by (catalog, namespace, name), at most `limit`, those after `after`."""

    async def save_report(self, name: TableName, uuid: TableUuid, report: HealthReport) -> None:
        """Keep a health report; the last 100 of a table are kept. Deferred targets of the table become due. Raises
        TableNotFound.
        """

    async def reports(self, name: TableName, *, after: int | None, limit: int) -> ReportPage:
        """The kept reports of the table that bears the name now. Raises TableNotFound."""

    async def missing(self, name: TableName) -> bool:
        """A load said not found: PRESENT becomes MISSING if the table was last seen before the last two complete
        listings of its catalog began; a load alone takes no table. Whether it did.
        """


class DebtStore(Protocol):
    """How much maintenance tables are owed, kept so that tables can be listed in its order."""

    async def changed(self, *, since: datetime, limit: int) -> ChangedHealth:
        """Tables of which reports were kept or operations have ended since then, the earliest first: at least so many,
        if there are, and all of the last instant.
        """

    async def keep(self, debts: Sequence[tuple[Table, float | None]], *, up_to: datetime) -> None:
        """Keep the scores of these tables; None: nothing is known. All changes until then were regarded."""

    async def kept_until(self) -> datetime:
        """The instant until which all changes were regarded."""

    async def ranking(
        self, *, catalog: CatalogName | None, after: tuple[float, TableName] | None, limit: int
    ) -> Sequence[tuple[Table, float]]:
        """PRESENT tables with their kept scores, the largest first, then by name; those without any are absent."""


class ExecutorStore(Protocol):
    """Executors and their sessions."""

    async def attach(self, executor: Executor) -> Executor:
        """Make `executor.session` the only current session of that executor, by one statement; an earlier `drained`
        mark stays.
        """

    async def touch(self, sessions: Sequence[SessionId]) -> None:
        """Their executors were heard of now; one statement."""

    async def detach(self, session: SessionId) -> None:
        """The stream ended: no current session if it was this one. Leases are not touched."""

    async def leave(self, session: SessionId) -> None:
        """The executor said that it stops."""

    async def set_drained(self, executor: ExecutorId, drained: bool) -> Executor:
        """Raises ExecutorNotFound; ExecutorLeaving when undraining one that leaves."""

    async def get(self, executor: ExecutorId) -> Executor:
        """With the operations it holds leases of. Raises ExecutorNotFound."""

    async def list(self, *, after: ExecutorId | None, limit: int, detached: bool) -> Sequence[Executor]:
        """By id. Executors not heard of for an hour count as detached."""

    async def attached(self) -> int:
        """How many executors have a session that was heard of within two minutes."""


@dataclass(frozen=True, slots=True)
class ObservationClaim:
    """One session's free room for observations."""

    session: SessionId
    executor: ExecutorId
    kinds: Sequence[ObservationKind]
    catalogs: Sequence[CatalogName]
    slots: int


class ObservationStore(Protocol):
    """Looks wanted, handed out under a rising epoch, and their answers. At most one open per (kind, target)."""

    async def open(
        self,
        request: ObservationRequest,
        *,
        within: timedelta,
        timeout: timedelta,  # noqa: ASYNC109 - what the executor gets, not what this call takes
        not_before: datetime | None = None,
        traceparent: str = "",
    ) -> Observation:
        """The open observation of the same (kind, target), else a new one that must be answered within `within`."""

    async def get(self, observation: ObservationId) -> Observation | None:
        """None once it is past retention."""

    async def claimable(self) -> bool:
        """Whether any is OPEN and due."""

    async def claim(self, claim: ObservationClaim) -> Sequence[Observation]:
        """Hand out up to `slots` OPEN ones that the session can do, oldest first: epoch + 1, leased for its timeout +
        10 s. Two callers never
        get the same one."""

    async def answer(
        self, observation: ObservationId, *, epoch: int, session: SessionId, answer: Answer
    ) -> Observation | None:
        """Store the answer; `begin_time` is that of the hand-out. None, and nothing changed, if the epoch is not the
        current one, it is DONE, or the session is not its executor's current one.
        """

    async def sweep(self) -> Sequence[Observation]:
        """Leased ones whose lease ran out, or whose session ended 10 s or more after the hand-out, become OPEN again;
        those past their deadline become DONE with NO_EXECUTOR (never handed out) or TIMEOUT.
        Returns the ones that became DONE."""

    async def answered(self, kinds: Sequence[ObservationKind], *, limit: int) -> Sequence[Observation]:
        """DONE observations of these kinds that nobody has used yet, oldest first."""

    async def unanswered(self, kind: ObservationKind) -> int:
        """How many of this kind wait for an answer."""

    async def used(self, observation: ObservationId) -> bool:
        """Its answer has been acted on. Whether it had not been before: who says so in the transaction of what it does
        about the answer does it once.
        """


class PauseStore(Protocol):
    async def set(self, pause: Pause) -> Pause:
        """One per scope; a second replaces the first."""

    async def clear(self, scope: str) -> bool:
        """Whether there was one."""

    async def list(self) -> Sequence[Pause]:
        """Those in force now."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A caller's name for one mutation. `digest` is of the normalised request."""

    caller: str
    method: str
    request_id: str
    digest: bytes


class RequestStore(Protocol):
    """Answers to keyed mutations, kept for 24 hours. Only inside a transaction."""

    async def begin(self, key: RequestKey) -> bytes | None:
        """Claim the key as the first statement of the transaction; a concurrent duplicate waits here. The stored answer
        if there is one.
        Raises RequestIdReused if the key was used with another digest."""

    async def answer(self, key: RequestKey, response: bytes) -> None:
        """Keep the answer with the mutation."""


class Hints(Protocol):
    """Hurries loops up; nothing depends on one arriving. Topics: `operations`, `observations`, `answers`, `events`,
    `cancels`, `due`; `targets` for the scheduler, `discovery`, and `leader` for who would like to lead.
    """

    def give(self, topic: str) -> None:
        """Wake waiters here at once and, coalesced, on the other replicas. Never blocks, never fails."""

    async def wait(self, topic: str, within: timedelta) -> None:
        """Return at the next hint or after `within`. A hint since its last wait on the topic returns at once."""


class Store(Protocol):
    """All of it. One store per process; `transaction` joins every call that the same task makes inside it into one
    atomic step.
    """

    @property
    def policies(self) -> PolicyStore: ...
    @property
    def catalogs(self) -> CatalogStore: ...
    @property
    def tables(self) -> TableStore: ...
    @property
    def debts(self) -> DebtStore: ...
    @property
    def executors(self) -> ExecutorStore: ...
    @property
    def operations(self) -> OperationStore: ...
    @property
    def leadership(self) -> LeadershipStore: ...
    @property
    def scheduling(self) -> SchedulingStore: ...
    @property
    def observations(self) -> ObservationStore: ...
    @property
    def pauses(self) -> PauseStore: ...
    @property
    def requests(self) -> RequestStore: ...
    @property
    def hints(self) -> Hints: ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Commit at the end, roll back on an error. Inside an open one of the same task it joins it."""

    async def now(self) -> datetime:
        """The store's clock: the database's `clock_timestamp()`, or the memory store's Clock."""

    async def schema_version(self) -> int:
        """0 for memory."""

    async def set_capacity(self, limits: Mapping[str, int]) -> None:
        """Maximum concurrent operations by key `engine:NAME` or `label:KEY=VALUE`; 0: no limit. Others keep what they
        have.
        """

    async def clean(self, retention: Retention) -> int:
        """Drop what is past retention, make next month's partitions; rows or partitions dropped."""


class Clock(Protocol):
    """The control plane's own time; durations are measured on the monotonic clock, never with this one."""

    def now(self) -> datetime:
        """Aware, UTC."""

    def monotonic(self) -> float:
        """Seconds."""


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """This process."""

    id: ReplicaId
    version: str
    start_time: datetime
    store_type: str
    settings: Mapping[str, str]
