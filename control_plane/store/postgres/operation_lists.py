"""Reading operations: one, pages of them, and what keeps those that wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from control_plane.domain.errors import OperationNotFound
from control_plane.domain.identifiers import CatalogName, OperationId
from control_plane.domain.operation import TERMINAL, Attempt, Operation, OperationState
from control_plane.ports.operations import OperationFilter, OperationPage
from control_plane.store.codec import loaded
from control_plane.store.fences import fence_key
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_blockers import blockers_from, surroundings
from control_plane.store.postgres.operation_filters import Conditions, add_filter
from control_plane.store.postgres.operation_rows import operation_of

# One statement has one snapshot: an operation on its way to history is seen on one side of it.
_GET: Final = """
SELECT * FROM operations WHERE id = $1 UNION ALL SELECT * FROM operation_history WHERE id = $1
"""
_ATTEMPTS: Final = "SELECT epoch, start_time, finish_time, document FROM attempts WHERE operation = $1 ORDER BY epoch"
_UNFINISHED: Final = "SELECT count(*) FROM operations WHERE catalog = $1"
_COUNTS: Final = "SELECT state, count(*) AS operations FROM operations GROUP BY state"
_PAGE: Final = "SELECT * FROM {table} WHERE {where} ORDER BY create_time DESC, id DESC LIMIT $1"
_SURROUNDINGS: Final = surroundings(fences="$1", runs="$2", policies="$3")


class OperationLists:
    """Operations as they are read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, operation: OperationId) -> Operation:
        row = await self._database.fetchrow(_GET, operation)
        if row is None:
            raise OperationNotFound(operation)
        return operation_of(row)

    async def attempts(self, operation: OperationId) -> Sequence[Attempt]:
        current = await self.get(operation)
        attempts = []
        for row in await self._database.fetch(_ATTEMPTS, operation):
            times = {"start_time": row["start_time"], "finish_time": row["finish_time"]}
            plan = {"plan": current.plan} if row["finish_time"] is None else {}
            attempts.append(loaded(row["document"], Attempt, epoch=row["epoch"], **times, **plan))
        return attempts

    async def list(
        self, where: OperationFilter, *, after: tuple[datetime, OperationId] | None, limit: int
    ) -> OperationPage:
        # One more than asked for tells whether there is a next page.
        conditions = Conditions(limit + 1)
        add_filter(conditions, where, state="state", operation="id")
        if after is not None:
            conditions.add("(create_time, id) < ({}, {})", *after)
        sides = [
            f"({_PAGE.format(table=table, where=conditions.sql)})"
            for table, states in (("operations", frozenset(OperationState) - TERMINAL), ("operation_history", TERMINAL))
            if not where.states or states.intersection(where.states)
        ]
        both = " UNION ALL ".join(sides)
        statement = f"SELECT * FROM ({both}) AS sides ORDER BY create_time DESC, id DESC LIMIT $1"
        found = [operation_of(row) for row in await self._database.fetch(statement, *conditions.values)]
        operations = found[:limit]
        more = len(found) > limit and bool(operations)
        return OperationPage(operations, (operations[-1].create_time, operations[-1].id) if more else None)

    async def unfinished(self, catalog: CatalogName) -> int:
        return int(await self._database.fetchval(_UNFINISHED, catalog))

    async def counts(self) -> Mapping[OperationState, int]:
        return {OperationState(row["state"]): row["operations"] for row in await self._database.fetch(_COUNTS)}

    async def blockers(self, operations: Sequence[Operation]) -> Mapping[OperationId, Sequence[str]]:
        waiting = [operation for operation in operations if operation.state is OperationState.QUEUED]
        if not waiting:
            return {}
        row = await self._database.fetchrow(
            _SURROUNDINGS,
            [fence_key(operation) for operation in waiting],
            [operation.run_id for operation in waiting],
            [operation.policy for operation in waiting],
        )
        return blockers_from(row, waiting)
