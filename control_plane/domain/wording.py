"""Numbers and spans of time as sentences for people have them."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def number(value: float) -> str:
    """`63.2`, `0.105`, `12,000`: four digits, or all of a whole number."""
    return f"{value:,.10g}" if value == int(value) or abs(value) >= 1_000 else f"{value:,.4g}"


def span(length: timedelta) -> str:
    """`2 d 3 h`, `6 h`, `15 min`, `0.5 s`: the two largest units that count."""
    seconds = length.total_seconds()
    if seconds < 0:
        return f"-{span(-length)}"
    if seconds < 10:
        return f"{seconds:.3g} s"
    left, parts = int(seconds), list[str]()
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])
