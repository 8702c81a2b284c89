"""Which tables are owed most maintenance: kept by the leader, listed by everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from control_plane.domain.catalog import Table
from control_plane.domain.debt import Debt, debt_of
from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.ports.records import Store

_SET: Final = 100
"""Tables at a time: their reports are read between two turns of everybody else."""
_OVERLAP: Final = timedelta(seconds=30)
"""What is kept now may bear a time that lies as far back: it is regarded once more."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A table in the ranking. `score` is what it stands by; `debt` is reckoned now, with the parts that make it up."""

    table: Table
    score: float
    debt: Debt


class RankingService:
    def __init__(self, store: Store, *, rules: SchedulingRules) -> None:
        self._store = store
        self._rules = rules

    async def reckon(self) -> None:
        """The leader's: the debts of all tables that were measured, or of which operations have ended, lately."""
        since = await self._store.debts.kept_until() - _OVERLAP
        while True:
            changed = await self._store.debts.changed(since=since, limit=_SET)
            debts = [(table, debt.score) for table, debt in await self._debts(changed.tables)]
            await self._store.debts.keep(debts, up_to=changed.until)
            if not changed.more:
                return
            since = changed.until

    async def list(
        self, *, catalog: CatalogName | None, after: tuple[float, TableName] | None, limit: int
    ) -> Sequence[Ranked]:
        """The most indebted first. Raises CatalogNotFound."""
        if catalog is not None:
            await self._store.catalogs.get(catalog)
        found = await self._store.debts.ranking(catalog=catalog, after=after, limit=limit)
        debts = await self._debts([table for table, _ in found])
        return [Ranked(table, score, debt) for (table, score), (_, debt) in zip(found, debts, strict=True)]

    async def _debts(self, tables: Sequence[Table]) -> Sequence[tuple[Table, Debt]]:
        if not tables:
            return ()
        keys = [table.uuid or str(table.name) for table in tables]
        outcomes = await self._store.scheduling.outcomes(keys)
        now = await self._store.now()
        return [
            (table, debt_of(table.health, outcomes.get(key, {}), now=now, rules=self._rules))
            for table, key in zip(tables, keys, strict=True)
        ]
