"""The numbers of discovery."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryRules:
    """How much is looked at, and how often."""

    interval: timedelta = timedelta(minutes=5)
    """Between two listings of a catalog."""
    ahead: timedelta = timedelta(minutes=5)
    """How long before their slots tables are measured."""
    loads: int = 50
    """Loads at a time that wait for an answer."""
    inspections: int = 100
    """Inspections at a time that wait for an answer."""
