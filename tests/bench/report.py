"""One line a figure: `BENCH <name> <value> goal <goal> OK|SHORT`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import median


def at_most(name: str, value: float, goal: float) -> bool:
    return _line(name, value, f"<={goal:g}", value <= goal)


def at_least(name: str, value: float, goal: float) -> bool:
    return _line(name, value, f">={goal:g}", value >= goal)


def note(text: str) -> None:
    """What was measured to come to a figure; not a figure itself."""
    sys.stdout.write(f"  {text}\n")
    sys.stdout.flush()


def shown(seconds: Sequence[float]) -> str:
    """Minimum, median and maximum, in milliseconds."""
    return f"{min(seconds) * 1e3:.2f}/{median(seconds) * 1e3:.2f}/{max(seconds) * 1e3:.2f} ms"


def _line(name: str, value: float, goal: str, met: bool) -> bool:
    sys.stdout.write(f"BENCH {name} {value:.3f} goal {goal} {'OK' if met else 'SHORT'}\n")
    sys.stdout.flush()
    return met
