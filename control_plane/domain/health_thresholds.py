"""What the tables of a policy are held against, as it is written: a preset, and what differs from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, ValidationInfo

from control_plane.domain import thresholds
from control_plane.domain.document import Broken, Document, PositiveInt64
from control_plane.domain.errors import InvalidArgument
from control_plane.domain.thresholds import Limits, Thresholds


class Preset(StrEnum):
    DEFAULT = "DEFAULT"
    STRICT = "STRICT"
    RELAXED = "RELAXED"


_PRESETS: Final = {
    Preset.DEFAULT: thresholds.DEFAULT,
    Preset.STRICT: thresholds.STRICT,
    Preset.RELAXED: thresholds.RELAXED,
}

Amount = Annotated[float, Field(gt=0)]


class Pair(Document):
    """From `warning` on a figure is a warning, from `critical` on it is critical. None: the preset's."""

    warning: Amount | None = None
    critical: Amount | None = None


class HealthThresholds(Document):
    """None: the preset's, and without a preset the default's."""

    preset: Annotated[Preset, Field(strict=False)] | None = None
    small_file_size_bytes: PositiveInt64 | None = None
    small_file_percent: Pair | None = None
    large_file_size_bytes: PositiveInt64 | None = None
    large_file_percent: Pair | None = None
    file_count: Pair | None = None
    snapshot_count: Pair | None = None
    snapshot_age_days: Pair | None = None
    delete_file_count: Pair | None = None
    delete_file_ratio: Pair | None = None
    manifest_count: Pair | None = None
    manifest_size_bytes: Pair | None = None
    partition_count: Pair | None = None
    partition_skew: Pair | None = None
    stale_metadata_days: Pair | None = None

    @property
    def effective(self) -> Thresholds:
        """The preset with these differences. Raises InvalidArgument for limits out of order."""
        preset = _PRESETS[self.preset or Preset.DEFAULT]
        changes: dict[str, object] = {}
        for name in type(self).model_fields:
            match getattr(self, name):
                case int() as size:
                    changes[name] = size
                case Pair(warning=warning, critical=critical):
                    limits: Limits = getattr(preset, name)
                    changes[name] = Limits(
                        limits.warning if warning is None else warning,
                        limits.critical if critical is None else critical,
                    )
        return replace(preset, **changes)  # type: ignore[arg-type]  # the fields have the types of the thresholds

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        try:
            _ = self.effective
        except InvalidArgument as error:
            for violation in error.violations:
                yield violation.field, violation.description
