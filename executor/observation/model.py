"""What can be asked of the observation lane, and what it answers: plain values that cross a process boundary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Generic, NamedTuple, TypeVar

from executor.assignment import Catalog, ExpireSnapshots, OperationId, OperationType, OrphanCleanup, Stamp, Table

R_co = TypeVar("R_co", covariant=True)

ENABLED_PROPERTY: Final = "floe.enabled"
"""The table property by which a table's owner turns its maintenance off."""


class Request(Generic[R_co]):
    """Something to look at; the type parameter is the type of the answer."""

    __slots__ = ()


class Knowledge(StrEnum):
    """How a figure is known. An unknown one has no value: never 0 by default."""

    EXACT = "EXACT"
    ESTIMATED = "ESTIMATED"
    UNKNOWN = "UNKNOWN"


class ScanMode(StrEnum):
    """How deep an inspection looks: the metadata and manifest list alone, every manifest entry, or a sample of them."""

    METADATA = "metadata"
    SCAN = "scan"
    SAMPLE = "sample"


class Judgement(StrEnum):
    PASSED = "PASSED"
    FAILED = "FAILED"
    UNVERIFIED = "UNVERIFIED"


class TableName(NamedTuple):
    namespace: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """A table as its catalog gave it, at one metadata location."""

    namespace: tuple[str, ...]
    name: str
    uuid: str
    location: str
    metadata_location: str
    format_version: int
    current_snapshot_id: int | None
    properties: Mapping[str, str]
    last_updated: datetime

    @property
    def is_maintained(self) -> bool:
        """Unless its owner set `floe.enabled`; what is not "true" is false, as in Iceberg's boolean properties."""
        return self.properties.get(ENABLED_PROPERTY, "true").strip().lower() == "true"


@dataclass(frozen=True, slots=True)
class TableNames:
    names: Sequence[TableName]
    complete: bool
    """Every namespace was listed to its end. If not, a missing name says nothing."""
    metadata_locations: Mapping[TableName, str] = field(default_factory=dict)
    """The current metadata file of each table, from catalogs that tell it for all at once."""


@dataclass(frozen=True, slots=True)
class Check:
    """One step of a catalog check. `hint` says what to do; empty if it passed."""

    check: str
    passed: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CatalogChecks:
    """In the order they were tried; a step that could not be tried is absent."""

    checks: Sequence[Check]

    @property
    def healthy(self) -> bool:
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    knowledge: Knowledge
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Measurements:
    """What an inspection found, at `table.metadata_location`.

    Metrics: data_file_count, small_file_count, large_file_count, total_bytes (of data files), record_count (deleted
    rows included), delete_file_count, position_delete_file_count, equality_delete_file_count, deletion_vector_count,
    delete_bytes, snapshot_count, oldest_snapshot_time_ms, newest_snapshot_time_ms, manifest_count, manifest_bytes,
    partition_count, max_files_per_partition, mean_files_per_partition, reducible_file_count, reducible_bytes,
    target_file_size_bytes.
    """

    table: LoadedTable
    scan_mode: ScanMode
    metrics: Sequence[Metric]

    def value(self, name: str) -> float | None:
        """The value of a metric; None if it is unknown or was not measured."""
        return next((metric.value for metric in self.metrics if metric.name == name), None)


@dataclass(frozen=True, slots=True)
class StampedSnapshot:
    snapshot_id: int
    stamp: Stamp


class Identity(StrEnum):
    """Whether the table under a name is still the one that was meant."""

    SAME = "SAME"
    REPLACED = "REPLACED"
    NOT_FOUND = "NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a table's current metadata says about an attempt. Empty unless `identity` is SAME."""

    identity: Identity
    started_at: datetime
    """By this machine's wall clock, before the catalog was asked."""
    table: LoadedTable | None = None
    snapshots: Sequence[StampedSnapshot] = ()
    """In all snapshots of the metadata, not only in the current one's history."""
    present: Sequence[int] = ()
    gone: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    judgement: Judgement
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    verdict: Judgement
    findings: Sequence[Finding]
    table: LoadedTable | None = None


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """A branch or a tag."""

    name: str
    snapshot_id: int
    is_branch: bool


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """The ids that would go and those that would stay, each from the oldest to the newest."""

    table: LoadedTable
    expiring: Sequence[int] = ()
    retained: Sequence[int] = ()
    newest_expiring: datetime | None = None
    oldest_retained: datetime | None = None
    refs: Sequence[SnapshotRef] = ()
    refusal: str = ""
    """Why an attempt would refuse it; then nothing would go."""


@dataclass(frozen=True, slots=True)
class OrphanPlan:
    """The files under a table's location that nothing of the table references, and that are old enough to go."""

    table: LoadedTable
    files: int = 0
    size: int = 0
    remaining: int = 0
    """Orphans beyond those: more than one operation takes."""
    oldest: datetime | None = None
    newest: datetime | None = None
    listed_files: int = 0
    """All files under the table's location; hidden ones and links are not looked at."""
    listed_size: int = 0
    young: int = 0
    """Unreferenced, but not old enough."""
    sample: Sequence[str] = ()
    """Some of the files, the oldest first."""
    digest: str = ""
    """SHA-256 over all paths, sizes and times of modification, the oldest first."""
    exceeded: Sequence[str] = ()
    """The caps that the orphans are beyond."""
    refusal: str = ""
    """Why nothing may be removed; then nothing is listed."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """Row count and an order-independent sum over all rows.

    Equal contents give equal sums whatever files hold them. Only comparable among sums of one release of Floe.
    """

    snapshot_id: int | None
    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class ListTables(Request[TableNames]):
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class LoadTable(Request[LoadedTable]):
    catalog: Catalog
    namespace: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class CheckCatalog(Request[CatalogChecks]):
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class FileSizeRules:
    """What a rewrite of data files is set to, where a policy sets it; None: the table's or Iceberg's own default."""

    target: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    min_input_files: int | None = None
    max_group_size: int | None = None
    delete_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class InspectTable(Request[Measurements]):
    """Measure a table. Without a mode every manifest entry is read, unless that costs more new bytes than allowed."""

    table: Table
    small_file_size: int = 100 * 1024**2
    large_file_size: int = 1024**3
    rules: FileSizeRules = field(default_factory=FileSizeRules)
    scan_mode: ScanMode | None = None


@dataclass(frozen=True, slots=True)
class GatherEvidence(Request[Evidence]):
    table: Table
    stamps: Sequence[Stamp] = ()
    expiring_snapshots: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class VerifyOperation(Request[Verification]):
    """Judge what an operation did to a table, by the table alone. `stamps` are those of all its attempts."""

    table: Table
    operation: OperationId
    type: OperationType
    stamps: Sequence[Stamp] = ()
    base_snapshot: int | None = None
    base_metadata_location: str = ""
    expiring_snapshots: Sequence[int] = ()
    retained_snapshots: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class PlanExpiry(Request[ExpiryPlan]):
    """Plan an expiry and change nothing."""

    table: Table
    action: ExpireSnapshots


@dataclass(frozen=True, slots=True)
class ListOrphans(Request[OrphanPlan]):
    """List what a removal of orphan files would take, and change nothing."""

    table: Table
    action: OrphanCleanup


@dataclass(frozen=True, slots=True)
class ContentChecksum(Request[Checksum]):
    table: Table
