"""How what a table no longer needs is removed: the options of a policy for snapshots and orphan files.

Both have floors that no policy can lower, held against the document when it is written and again when an operation is
planned.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, ValidationInfo

from control_plane.domain.document import (
    SNAPSHOT_AGE_FLOOR,
    Broken,
    Document,
    PositiveInt32,
    PositiveInt64,
    floor_of,
    repeated,
)
from control_plane.domain.duration import IsoDuration

MAX_SNAPSHOT_IDS: Final = 1_000
MAX_RETENTION_DAYS: Final = 36_500
MAX_EQUAL: Final = 100
DEFAULT_RETAIN_LAST: Final = 5
DEFAULT_MAX_SNAPSHOT_AGE: Final = timedelta(days=7)
DEFAULT_ORPHAN_AGE: Final = timedelta(days=3)
ORPHAN_AGE_FLOOR: Final = timedelta(hours=24)
"""No younger file is ever taken for an orphan: a writer may not have committed it yet."""
DEFAULT_MAX_ORPHAN_FILES: Final = 100_000
DEFAULT_MAX_SHARE_OF_TABLE: Final = 0.2

_Word = Annotated[str, Field(min_length=1, max_length=255)]


class PrefixMismatchMode(StrEnum):
    """What happens to a file whose scheme or authority differs from the table's. Deleting it is not offered."""

    ERROR = "ERROR"
    IGNORE = "IGNORE"


class ExpireSnapshotsConfig(Document):
    """Options of Iceberg's ExpireSnapshots action. Age and count decide, or else exactly the named snapshots go."""

    retain_last: PositiveInt32 | None = None
    max_snapshot_age: IsoDuration | None = None
    clean_expired_metadata: bool | None = None
    expire_snapshot_ids: Annotated[tuple[PositiveInt64, ...], Field(strict=False, max_length=MAX_SNAPSHOT_IDS)] = ()

    @property
    def effective_retain_last(self) -> int:
        return self.retain_last or DEFAULT_RETAIN_LAST

    def effective_max_snapshot_age(self, *, floor: timedelta) -> timedelta:
        """The age above which a snapshot may go; never below the deployment's floor, which may have risen since."""
        age = self.max_snapshot_age.length if self.max_snapshot_age else DEFAULT_MAX_SNAPSHOT_AGE
        return max(age, floor)

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        floor = floor_of(info, SNAPSHOT_AGE_FLOOR)
        if self.max_snapshot_age and self.max_snapshot_age.length < floor:
            yield "maxSnapshotAge", f"{self.max_snapshot_age} is below this deployment's floor of {floor}"
        if twice := repeated(self.expire_snapshot_ids):
            yield "expireSnapshotIds", f"names {twice} more than once"
        if self.expire_snapshot_ids:
            for field, value in (("retainLast", self.retain_last), ("maxSnapshotAge", self.max_snapshot_age)):
                if value is not None:
                    yield (
                        field,
                        "has no meaning beside expireSnapshotIds, which names exactly what goes; unset one of them",
                    )


class OrphanCleanupConfig(Document):
    """Which files under the table's location are orphans: older than the retention, and referenced by nothing."""

    retention_period_in_days: Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)] | None = None
    older_than: IsoDuration | None = None
    location: Annotated[str, Field(min_length=1, max_length=4_096)] | None = None
    prefix_mismatch_mode: Annotated[PrefixMismatchMode, Field(strict=False)] | None = None
    equal_schemes: Annotated[dict[_Word, _Word], Field(max_length=MAX_EQUAL)] = Field(default_factory=dict)
    equal_authorities: Annotated[dict[_Word, _Word], Field(max_length=MAX_EQUAL)] = Field(default_factory=dict)
    max_files: PositiveInt32 | None = None
    max_bytes: PositiveInt64 | None = None
    max_share_of_table: Annotated[float, Field(gt=0, le=1)] | None = None

    @property
    def effective_age(self) -> timedelta:
        """The age above which an unreferenced file may go."""
        age = DEFAULT_ORPHAN_AGE
        if self.retention_period_in_days is not None:
            age = timedelta(days=self.retention_period_in_days)
        if self.older_than is not None:
            age = self.older_than.length
        return max(age, ORPHAN_AGE_FLOOR)

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        if self.retention_period_in_days is not None and self.older_than is not None:
            yield "olderThan", "says the same as retentionPeriodInDays; unset one of them"
        if self.older_than is not None and self.older_than.length < ORPHAN_AGE_FLOOR:
            yield "olderThan", f"{self.older_than} is below the floor of {ORPHAN_AGE_FLOOR}"
