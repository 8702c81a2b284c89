"""How two versions of a document differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def changed_paths(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The JSON paths at which the documents differ, in order. What only one of them has is named as a whole."""
    return sorted(_changed(old, new, ""))


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    for field in old.keys() | new.keys():
        here = f"{path}.{field}" if path else field
        before, after = old.get(field), new.get(field)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _changed(before, after, here)
        elif before != after:
            yield here
