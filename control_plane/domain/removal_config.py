"""How what a table no longer needs is removed: the options of a policy for snapshots and orphan files.

Both have floors that no policy can lower, held against the document when it is written and again when an operation is
planned.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationInfo

from control_plane.domain.document import (
    Broken,
    Document,
    PositiveInt32,
    PositiveInt64,
    floors_of,
    repeated,
)
from control_plane.domain.duration import IsoDuration
from control_plane.domain.identifiers import is_clean

MAX_SNAPSHOT_IDS: Final = 1_000
MAX_RETENTION_DAYS: Final = 36_500
MAX_EQUAL: Final = 100
DEFAULT_RETAIN_LAST: Final = 5
DEFAULT_MAX_SNAPSHOT_AGE: Final = timedelta(days=7)
DEFAULT_ORPHAN_AGE: Final = timedelta(days=3)
DEFAULT_MAX_ORPHAN_FILES: Final = 100_000
DEFAULT_MAX_SHARE_OF_TABLE: Final = 0.2

_Word = Annotated[str, Field(min_length=1, max_length=255)]


class PrefixMismatchMode(StrEnum):
    """What happens to a file whose scheme or authority differs from the table's. Deleting it is not offered."""

    ERROR = "ERROR"
    IGNORE = "IGNORE"


def _no_deletion(value: Any) -> Any:
    if value == "DELETE":
        raise ValueError(
            "DELETE is not offered: a scheme or authority that is only written differently would cost live files; "
            "name what means the same in equalSchemes and equalAuthorities"
        )
    return value


def _is_plain_location(text: str) -> bool:
    """Whether the location says what it means: it can be held against the table's by comparing its steps."""
    scheme, separator, rest = text.rpartition("://")
    if not is_clean(text) or (separator and not scheme) or any(character in text for character in "*?#%\\"):
        return False
    steps = rest.rstrip("/").split("/")
    return all(step not in (".", "..") for step in steps) and all(steps[1:])


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
        floor = floors_of(info).snapshot_age
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
    prefix_mismatch_mode: Annotated[
        Annotated[PrefixMismatchMode, Field(strict=False)] | None, BeforeValidator(_no_deletion)
    ] = None
    equal_schemes: Annotated[dict[_Word, _Word], Field(max_length=MAX_EQUAL)] = Field(default_factory=dict)
    equal_authorities: Annotated[dict[_Word, _Word], Field(max_length=MAX_EQUAL)] = Field(default_factory=dict)
    max_files: PositiveInt32 | None = None
    max_bytes: PositiveInt64 | None = None
    max_share_of_table: Annotated[float, Field(gt=0, le=1)] | None = None

    def effective_age(self, *, floor: timedelta) -> timedelta:
        """The age above which an unreferenced file may go; never below the deployment's floor: a writer may not have
        committed it yet.
        """
        age = DEFAULT_ORPHAN_AGE
        if self.retention_period_in_days is not None:
            age = timedelta(days=self.retention_period_in_days)
        if self.older_than is not None:
            age = self.older_than.length
        return max(age, floor)

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        if self.retention_period_in_days is not None and self.older_than is not None:
            yield "olderThan", "says the same as retentionPeriodInDays; unset one of them"
        floor = floors_of(info).orphan_age
        if self.older_than is not None and self.older_than.length < floor:
            yield "olderThan", f"{self.older_than} is below this deployment's floor of {floor}"
        if self.retention_period_in_days is not None and timedelta(days=self.retention_period_in_days) < floor:
            yield (
                "retentionPeriodInDays",
                f"{self.retention_period_in_days} is below this deployment's floor of {floor}",
            )
        if self.location is not None and not _is_plain_location(self.location):
            yield "location", "must be a plain location: no `.` or `..` or empty steps, no `*`, `?`, `#` or `%`"
