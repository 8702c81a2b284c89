"""The scheduler's side of the store: targets, decisions and budgets on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final

import asyncpg

from control_plane.domain.identifiers import OperationType, PolicyName, TableName
from control_plane.domain.operation import Operation
from control_plane.domain.scheduling import DecisionId, Outcomes, Settled, SlotFacts, Spent, Target, Term, Wake
from control_plane.ports.scheduling import DecisionFilter, DecisionPage
from control_plane.store.postgres.charges import Charges
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.decisions import Decisions
from control_plane.store.postgres.leadership import in_term
from control_plane.store.postgres.operation_changes import ADD_OPERATIONS
from control_plane.store.postgres.operation_rows import operations_json
from control_plane.store.postgres.resolution import Resolution
from control_plane.store.postgres.targets import Targets

_ADD: Final = f"{ADD_OPERATIONS} SELECT count(*) FROM added"


class PostgresScheduling(Resolution):
    """The whole of `ports.scheduling.SchedulingStore`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._targets = Targets(database)
        self._decisions = Decisions(database)
        self._charges = Charges(database)

    def in_term(self, term: Term) -> AbstractAsyncContextManager[datetime]:
        return in_term(self._database, term)

    async def due(self, *, limit: int) -> Sequence[SlotFacts]:
        return await self._targets.due(limit=limit)

    async def next_due(self) -> datetime | None:
        return await self._targets.next_due()

    async def approaching(self, *, after: Target | None, before: datetime, limit: int) -> Sequence[SlotFacts]:
        return await self._targets.approaching(after=after, before=before, limit=limit)

    async def settle(self, settled: Sequence[Settled]) -> None:
        async with self._database.transaction():
            # First, so that the targets that await one of these find it.
            await self._add([one.operation for one in settled if one.operation is not None])
            await self._targets.update([one.target for one in settled])
            await self._decisions.write(decision for one in settled for decision in one.decisions)
            await self._charges.write(
                [(one.operation, one.charge) for one in settled if one.operation is not None and one.charge is not None]
            )

    async def facts(self, table: TableName) -> Sequence[SlotFacts]:
        return await self._targets.facts(table)

    async def outcomes(self, table_keys: Sequence[str]) -> Mapping[str, Mapping[OperationType, Outcomes]]:
        return await self._targets.outcomes(table_keys)

    async def spent(self, policies: Sequence[PolicyName], *, since: datetime) -> Mapping[PolicyName, Spent]:
        return await self._charges.spent(policies, since=since)

    async def first_waiting(
        self, policies: Sequence[PolicyName], *, besides: Sequence[Target]
    ) -> Mapping[PolicyName, datetime]:
        return await self._targets.first_waiting(policies, besides=besides)

    async def wake(self, wakes: Sequence[Wake]) -> None:
        await self._targets.wake(wakes)

    async def decisions(
        self, where: DecisionFilter, *, after: tuple[datetime, DecisionId] | None, limit: int
    ) -> DecisionPage:
        return await self._decisions.page(where, after=after, limit=limit)

    async def counts(self) -> Mapping[str, int]:
        return await self._targets.counts()

    async def _add(self, operations: Sequence[Operation]) -> None:
        if not operations:
            return
        try:
            await self._database.execute(_ADD, operations_json(operations))
        except asyncpg.UniqueViolationError as error:
            raise ValueError(f"an operation is scheduled already and waits: {error.detail or error}") from error
