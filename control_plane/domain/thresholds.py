"""The limits that a table's health is held against, and their presets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from control_plane.domain.errors import FieldViolation, InvalidArgument

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """From `warning` on something is a warning, from `critical` on it is critical."""

    warning: float
    critical: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a table is held against. The defaults suit most tables."""

    small_file_size_bytes: int = 100 * MIB
    """A data file below it is small."""
    small_file_percent: Limits = Limits(20, 50)
    large_file_size_bytes: int = 1024 * MIB
    """A data file above it is large."""
    large_file_percent: Limits = Limits(20, 50)
    file_count: Limits = Limits(10_000, 50_000)
    snapshot_count: Limits = Limits(100, 500)
    snapshot_age_days: Limits = Limits(7, 30)
    delete_file_count: Limits = Limits(100, 500)
    delete_file_ratio: Limits = Limits(0.10, 0.25)
    manifest_count: Limits = Limits(100, 500)
    manifest_size_bytes: Limits = Limits(100 * MIB, 500 * MIB)
    partition_count: Limits = Limits(5_000, 10_000)
    partition_skew: Limits = Limits(3, 10)
    stale_metadata_days: Limits = Limits(7, 30)

    def __post_init__(self) -> None:
        violations = list(self._violations())
        if violations:
            raise InvalidArgument(violations)

    def _violations(self) -> Iterator[FieldViolation]:
        if not 0 < self.small_file_size_bytes < self.large_file_size_bytes:
            yield FieldViolation("smallFileSizeBytes", "must be above 0 and below largeFileSizeBytes")
        for field in fields(self):
            limits = getattr(self, field.name)
            if isinstance(limits, Limits) and not 0 < limits.warning <= limits.critical:
                name = "".join(part if i == 0 else part.title() for i, part in enumerate(field.name.split("_")))
                description = f"needs 0 < warning <= critical, has {limits.warning:g} and {limits.critical:g}"
                yield FieldViolation(name, description)


DEFAULT: Final = Thresholds()
STRICT: Final = Thresholds(
    small_file_size_bytes=128 * MIB,
    small_file_percent=Limits(10, 25),
    large_file_size_bytes=512 * MIB,
    large_file_percent=Limits(10, 25),
    file_count=Limits(5_000, 20_000),
    snapshot_count=Limits(50, 200),
    snapshot_age_days=Limits(3, 14),
    delete_file_count=Limits(50, 200),
    delete_file_ratio=Limits(0.05, 0.15),
    manifest_count=Limits(50, 200),
    manifest_size_bytes=Limits(50 * MIB, 200 * MIB),
    partition_count=Limits(2_000, 5_000),
    partition_skew=Limits(2, 5),
    stale_metadata_days=Limits(3, 14),
)
RELAXED: Final = Thresholds(
    small_file_size_bytes=64 * MIB,
    small_file_percent=Limits(40, 70),
    large_file_size_bytes=2048 * MIB,
    large_file_percent=Limits(30, 70),
    file_count=Limits(50_000, 200_000),
    snapshot_count=Limits(500, 2_000),
    snapshot_age_days=Limits(30, 90),
    delete_file_count=Limits(500, 2_000),
    delete_file_ratio=Limits(0.20, 0.50),
    manifest_count=Limits(500, 2_000),
    manifest_size_bytes=Limits(200 * MIB, 1024 * MIB),
    partition_count=Limits(10_000, 50_000),
    partition_skew=Limits(5, 20),
    stale_metadata_days=Limits(30, 90),
)
