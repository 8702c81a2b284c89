"""Read-only looks at catalogs and tables: what is asked of an executor, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

from control_plane.domain.health import HealthMetrics
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    ObservationId,
    OperationId,
    OperationType,
    SessionId,
    TableName,
    TableUuid,
)
from control_plane.domain.operation import Finding, VerificationVerdict


class ObservationKind(StrEnum):
    LIST_TABLES = "LIST_TABLES"
    LOAD_TABLE = "LOAD_TABLE"
    CHECK_CATALOG = "CHECK_CATALOG"
    INSPECT_TABLE = "INSPECT_TABLE"
    GATHER_EVIDENCE = "GATHER_EVIDENCE"
    VERIFY_OPERATION = "VERIFY_OPERATION"
    PLAN_EXPIRY = "PLAN_EXPIRY"
    LIST_ORPHANS = "LIST_ORPHANS"


class ScanMode(StrEnum):
    """How deep an inspection looks: every manifest entry (SCAN), some of them (SAMPLE), or only what lists them
    (METADATA). AUTO is a scan, unless it had to read too much that its executor has not read before.
    """

    AUTO = "AUTO"
    METADATA = "METADATA"
    SCAN = "SCAN"
    SAMPLE = "SAMPLE"


class ObservationState(StrEnum):
    OPEN = "OPEN"
    LEASED = "LEASED"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an attempt writes into the summary of every snapshot that it commits."""

    operation: OperationId
    epoch: int


@dataclass(frozen=True, slots=True)
class ObservationRequest:
    """What to look at. `stamps`, `expiring`, `retained` and `base_*` are for evidence and verification only."""

    kind: ObservationKind
    catalog: CatalogName
    table: TableName | None = None
    table_uuid: TableUuid | None = None
    location: str = ""
    operation: OperationId | None = None
    operation_type: OperationType | None = None
    lapse: int = 0
    """GATHER_EVIDENCE: the entry into RECONCILING that the evidence will belong to."""
    stamps: Sequence[Stamp] = ()
    expiring: Sequence[int] = ()
    retained: Sequence[int] = ()
    base_snapshot: int | None = None
    base_metadata_location: str = ""
    small_file_size_bytes: int = 0
    large_file_size_bytes: int = 0
    scan_mode: ScanMode = ScanMode.AUTO
    """INSPECT_TABLE."""
    action: Mapping[str, Any] = field(default_factory=dict)
    """PLAN_EXPIRY, LIST_ORPHANS: the action that would be planned for an attempt."""

    @property
    def target(self) -> str:
        """At most one open observation per (kind, target): callers join it."""
        if self.operation is not None:
            return f"operation {self.operation} {self.lapse}"
        what = f"table {self.table}" if self.table is not None else f"catalog {self.catalog}"
        if self.scan_mode is not ScanMode.AUTO:
            what = f"{what} {self.scan_mode}"
        if self.action:
            # Other actions have other answers. A digest, because thousands of snapshot ids fit into no index.
            what = f"{what} {sha256(json.dumps(dict(self.action), sort_keys=True).encode()).hexdigest()}"
        return what


@dataclass(frozen=True, slots=True)
class ObservationError:
    """`kind`: NOT_FOUND, UNAVAILABLE, INVALID, TIMEOUT, NO_EXECUTOR or INTERNAL."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class TableNames:
    """A catalog's tables by name; `complete` if every namespace was listed to its end."""

    names: Sequence[TableName]
    complete: bool
    metadata_locations: Mapping[TableName, str] = field(default_factory=dict)
    """The current metadata file of each table, where the catalog tells it for all at once; else empty."""


@dataclass(frozen=True, slots=True)
class LoadedTable:
    uuid: TableUuid
    location: str
    metadata_location: str
    format_version: int
    current_snapshot: int | None = None
    maintenance_enabled: bool = True
    """False if its owner turned maintenance off by the table property `floe.enabled`."""


@dataclass(frozen=True, slots=True)
class CatalogChecks:
    checks: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class Measurements:
    table: LoadedTable
    metrics: HealthMetrics


@dataclass(frozen=True, slots=True)
class StampedSnapshot:
    snapshot: int
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Evidence:
    """Which snapshots carry a stamp, and which of the snapshots planned to go are still there."""

    table: LoadedTable
    snapshots: Sequence[StampedSnapshot]
    present: Sequence[int]


@dataclass(frozen=True, slots=True)
class Verdict:
    verdict: VerificationVerdict
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """A branch or a tag, and the snapshot that it points at."""

    name: str
    snapshot: int
    is_branch: bool


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """What an expiry would take from the table as it was read, by the rules that the attempt itself follows."""

    table: LoadedTable
    expiring: Sequence[int] = ()
    """The ids that would go, from the oldest on; of very many only the first. `retained` likewise."""
    retained: Sequence[int] = ()
    expiring_count: int = 0
    retained_count: int = 0
    newest_expiring_time: datetime | None = None
    oldest_retained_time: datetime | None = None
    refs: Sequence[SnapshotRef] = ()
    refusal: str = ""
    """Why an attempt would refuse to expire anything; empty if it would not."""


@dataclass(frozen=True, slots=True)
class OrphanPlan:
    """What a removal of orphan files would take from the table's location as it was listed."""

    table: LoadedTable
    files: int = 0
    """Of one operation; `remaining` are those beyond what one takes."""
    bytes: int = 0
    remaining: int = 0
    oldest_time: datetime | None = None
    newest_time: datetime | None = None
    listed_files: int = 0
    listed_bytes: int = 0
    young_files: int = 0
    """Unreferenced too, but not old enough."""
    sample: Sequence[str] = ()
    digest: str = ""
    """Of the whole list: the same digest stands for the same files."""
    exceeded: Sequence[str] = ()
    """The caps of the action that the orphans are beyond."""
    refusal: str = ""
    """Why an attempt would refuse to remove anything; empty if it would not."""


Answer = (
    ObservationError
    | TableNames
    | LoadedTable
    | CatalogChecks
    | Measurements
    | Evidence
    | Verdict
    | ExpiryPlan
    | OrphanPlan
)


@dataclass(frozen=True, slots=True)
class Observation:
    """One look: a row from the request to its answer, handed out under a rising epoch."""

    id: ObservationId
    request: ObservationRequest
    create_time: datetime
    deadline: datetime
    timeout: timedelta
    """How long one executor may take."""
    state: ObservationState = ObservationState.OPEN
    epoch: int = 0
    executor: ExecutorId | None = None
    session: SessionId | None = None
    lease_expire_time: datetime | None = None
    begin_time: datetime | None = None
    """When the reading of the answer began, by the database's clock: no earlier than the hand-out."""
    not_before: datetime | None = None
    traceparent: str = ""
    answer: Answer | None = None
    finish_time: datetime | None = None
