"""The known tables that patterns may match, without going through all tables where the patterns say where to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from control_plane.domain.identifiers import TableName
from control_plane.domain.pattern import Pattern
from control_plane.domain.policy_index import Reach, coarse
from control_plane.ports.records import Store

_PAGE: Final = 1_000
_BREATH: Final = 50
"""After so many tables others get their turn on the loop."""
_MOST_REACHES: Final = 16
"""With more than these going through all tables costs less."""


async def tables_within(
    store: Store, patterns: Iterable[Pattern], *, after: TableName | None
) -> AsyncIterator[TableName]:
    """PRESENT tables in the order of their names: all that match one of the patterns, and others nearby."""
    reaches = _reaches(patterns)
    number = 0
    while True:
        names, rest = await _page(store, reaches, after)
        for name in names:
            number += 1
            if number % _BREATH == 0:
                await asyncio.sleep(0)
            yield name
        if not rest:
            return
        after = names[-1]


async def _page(store: Store, reaches: Sequence[Reach], after: TableName | None) -> tuple[Sequence[TableName], bool]:
    """The next names, and whether there may be more."""
    found: set[TableName] = set()
    rest = False
    for reach in reaches:
        page = await store.scheduling.tables_touched(
            catalog=reach.catalog, namespace=reach.namespace, after=after, limit=_PAGE
        )
        found.update(page)
        rest = rest or len(page) == _PAGE
    # Beyond the first so many a reach that filled its page may have names that were not read yet.
    return sorted(found)[:_PAGE], rest or len(found) > _PAGE


def _reaches(patterns: Iterable[Pattern]) -> Sequence[Reach]:
    reaches = dict.fromkeys(reach for pattern in patterns for reach in coarse(pattern))
    widest = [one for one in reaches if not any(other != one and other.covers(one) for other in reaches)]
    return widest if len(widest) <= _MOST_REACHES else [Reach(None, None)]
