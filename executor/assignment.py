"""What an executor is asked to do, in its own words: the wire's messages become these once, at the session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType

OperationId = NewType("OperationId", str)


class OperationType(StrEnum):
    """The maintenance operations that this executor can be asked for, in the order of a run."""

    REWRITE_DATA_FILES = "REWRITE_DATA_FILES"
    EXPIRE_SNAPSHOTS = "EXPIRE_SNAPSHOTS"


class RewriteStrategy(StrEnum):
    BINPACK = "BINPACK"
    SORT = "SORT"
    ZORDER = "ZORDER"


class RewriteJobOrder(StrEnum):
    NONE = "NONE"
    BYTES_ASC = "BYTES_ASC"
    BYTES_DESC = "BYTES_DESC"
    FILES_ASC = "FILES_ASC"
    FILES_DESC = "FILES_DESC"


class Outcome(StrEnum):
    """How much of what was asked was done."""

    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"
    NO_CHANGE = "NO_CHANGE"


class Effects(StrEnum):
    """What this attempt is known to have changed: commits for snapshot operations, batches for deletions."""

    NONE = "NONE"
    PARTIAL = "PARTIAL"
    COMMITTED = "COMMITTED"
    UNKNOWN = "UNKNOWN"


class FailureClass(StrEnum):
    """Why an attempt did not do what was asked; it decides what happens next."""

    ENGINE = "ENGINE"
    CONFLICT = "CONFLICT"
    UNAVAILABLE = "UNAVAILABLE"
    INVALID = "INVALID"
    TIMEOUT = "TIMEOUT"


@dataclass(frozen=True, slots=True)
class Catalog:
    """A registered catalog as the control plane knows it; `secrets` names secrets, it never holds one."""

    name: str
    type: str
    """`rest` or `jdbc`."""
    uri: str
    warehouse: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Catalog property -> name of the secret whose value it takes."""
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """One Iceberg table. `uuid` and `location` are compared with what is loaded before the first effect."""

    catalog: Catalog
    namespace: tuple[str, ...]
    name: str
    uuid: str
    location: str

    @property
    def qualified(self) -> str:
        """The table's name for people, e.g. `lake.sales.events`."""
        return ".".join((self.catalog.name, *self.namespace, self.name))


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one table: presented with every message about it."""

    operation: OperationId
    epoch: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Stamp:
    """What one attempt writes into the summary of each snapshot it commits (`floe.operation-id`, `floe.epoch`)."""

    operation: OperationId
    epoch: int


@dataclass(frozen=True, slots=True)
class RewriteDataFiles:
    """Iceberg's rewriteDataFiles action. None means: not set, the engine's or the table's own default holds."""

    strategy: RewriteStrategy = RewriteStrategy.BINPACK
    sort_order: Sequence[str] = ()
    z_order_columns: Sequence[str] = ()
    target_file_size_bytes: int | None = None
    min_file_size_bytes: int | None = None
    max_file_size_bytes: int | None = None
    min_input_files: int | None = None
    max_file_group_size_bytes: int | None = None
    max_concurrent_file_group_rewrites: int | None = None
    partial_progress_enabled: bool = False
    partial_progress_max_commits: int | None = None
    partial_progress_max_failed_commits: int | None = None
    filter: str | None = None
    rewrite_job_order: RewriteJobOrder = RewriteJobOrder.NONE
    delete_file_threshold: int | None = None
    delete_ratio_threshold: float | None = None
    use_starting_sequence_number: bool = True
    remove_dangling_deletes: bool = False
    output_spec_id: int | None = None
    max_files_to_rewrite: int | None = None
    branch: str | None = None
    only_closed_partitions_before: datetime | None = None
    """Absolute cut-off: partitions written later than this are left alone."""


@dataclass(frozen=True, slots=True)
class ExpireSnapshots:
    """Iceberg's expireSnapshots action, planned as exact snapshot ids before its start."""

    older_than: datetime
    retain_last: int
    floor: datetime
    """The deployment's floor: no snapshot younger than this instant may go."""
    clean_expired_metadata: bool = False
    snapshot_ids: Sequence[int] = ()
    """Exactly these (expireSnapshotIds); empty: by age and count."""


class PrefixMismatchMode(StrEnum):
    """What happens where a file is referenced under another scheme or authority. It is kept either way."""

    ERROR = "ERROR"
    IGNORE = "IGNORE"


@dataclass(frozen=True, slots=True)
class OrphanCleanup:
    """Which unreferenced files are orphans, and how many may go at most."""

    older_than: datetime
    floor: datetime
    """The deployment's floor: no file that was changed after this instant may go."""
    max_files: int
    max_share_of_table: float
    """Of all files under the table's location."""
    max_bytes: int | None = None
    prefix_mismatch_mode: PrefixMismatchMode = PrefixMismatchMode.ERROR
    equal_schemes: Mapping[str, str] = field(default_factory=dict)
    equal_authorities: Mapping[str, str] = field(default_factory=dict)
    location: str = ""
    """A folder of the table's location; empty: all of it."""


Action = RewriteDataFiles | ExpireSnapshots


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt of one operation, granted to this executor."""

    lease: Lease
    attempt: int
    table: Table
    action: Action
    policy: str
    timeout: timedelta
    cancel_grace: timedelta
    earlier: Sequence[Stamp] = ()
    """Stamps of earlier attempts and of the operations this one retries: looked for before anything is done."""
    earlier_snapshots: Sequence[int] = ()
    """Expiry: the snapshot ids that earlier attempts had planned."""
    traceparent: str = ""
    solo: bool = False

    @property
    def rewrites_data(self) -> bool:
        """It is of the data lane: long, and not to be waited for by what is short."""
        return isinstance(self.action, RewriteDataFiles)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an attempt is about to do; stored by the control plane before the first effect."""

    base_snapshot: int | None
    base_metadata_location: str
    max_commits: int = 1
    expected_groups: int | None = None
    expiring_snapshots: Sequence[int] = ()
    retained_snapshots: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a running operation stands. None: not known. `estimated` marks figures derived, not counted."""

    phase: str
    groups_done: int | None = None
    groups_total: int | None = None
    tasks_done: int | None = None
    tasks_total: int | None = None
    bytes_written: int | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    kind: FailureClass
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """How one attempt ended, as its executor saw it.

    `metrics` is keyed by the fields of `floe.v1.OperationMetrics` (`files_rewritten`, ...); a metric that is not known
    is absent, never 0.
    """

    outcome: Outcome
    effects: Effects
    failure: Failure | None = None
    cancelled: bool = False
    skipped: str | None = None
    """`table_replaced` or `table_gone`: nothing was done, and nothing should be."""
    snapshots: Sequence[int] = ()
    metrics: Mapping[str, int] = field(default_factory=dict)
    commits_answered: bool = True
    """Every commit request of this attempt was definitely answered."""
