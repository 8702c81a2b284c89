"""The ages below which nothing is removed, whatever a policy says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

DEFAULT_SNAPSHOT_AGE_FLOOR: Final = timedelta(hours=1)
DEFAULT_ORPHAN_AGE_FLOOR: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """Those of a deployment. A policy is held against them when it is written and when an operation is planned."""

    snapshot_age: timedelta = DEFAULT_SNAPSHOT_AGE_FLOOR
    orphan_age: timedelta = DEFAULT_ORPHAN_AGE_FLOOR


NO_FLOORS: Final = Floors(snapshot_age=timedelta(), orphan_age=timedelta())
