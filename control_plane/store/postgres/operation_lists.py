"""Reading operations: one, pages of them, and what keeps those that wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from control_plane.domain.errors import OperationNotFound
from control_plane.domain.identifiers import CatalogName, OperationId
from control_plane.domain.operation import TERMINAL, Attempt, Operation, OperationState
from control_plane.ports.operations import OperationFilter, OperationPage
from control_plane.store.blockers import Step, Surroundings, blockers_of
from control_plane.store.codec import loaded
from control_plane.store.fences import fence_key
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.executors import ATTACHED, executor_of
from control_plane.store.postgres.operation_filters import Conditions, add_filter
from control_plane.store.postgres.operation_rows import operation_of
from control_plane.store.postgres.pauses import IN_FORCE, pause_of

# One statement has one snapshot: an operation on its way to history is seen on one side of it.
_GET: Final = """
SELECT * FROM operations WHERE id = $1 UNION ALL SELECT * FROM operation_history WHERE id = $1
"""
_ATTEMPTS: Final = "SELECT epoch, start_time, finish_time, document FROM attempts WHERE operation = $1 ORDER BY epoch"
_UNFINISHED: Final = "SELECT count(*) FROM operations WHERE catalog = $1"
_COUNTS: Final = "SELECT state, count(*) AS operations FROM operations GROUP BY state"
_PAGE: Final = "SELECT * FROM {table} WHERE {where} ORDER BY create_time DESC, id DESC LIMIT $1"

_HOLDERS: Final = "SELECT key, holder FROM fences WHERE key = ANY ($1) AND holder IS NOT NULL"
_STEPS: Final = "SELECT run_id, id, type, state, not_before FROM operations WHERE run_id = ANY ($1)"
_FULL: Final = "SELECT key, maximum FROM capacity WHERE maximum > 0 AND in_use >= maximum"
_ENABLED: Final = "SELECT name FROM policies WHERE name = ANY ($1) AND enabled"
_NOW: Final = "SELECT clock_timestamp()"


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
        around = await self._surroundings(waiting)
        return {operation.id: blockers_of(operation, around) for operation in waiting}

    async def _surroundings(self, waiting: Sequence[Operation]) -> Surroundings:
        fetch = self._database.fetch
        holders = await fetch(_HOLDERS, [fence_key(operation) for operation in waiting])
        steps = await fetch(_STEPS, [operation.run_id for operation in waiting])
        pauses = await fetch(IN_FORCE)
        full = await fetch(_FULL)
        policies = await fetch(_ENABLED, [operation.policy for operation in waiting])
        executors = await fetch(ATTACHED)
        stored = {row["id"] for row in steps}
        new = [operation for operation in waiting if operation.id not in stored]
        return Surroundings(
            now=await self._database.fetchval(_NOW),
            holders={row["key"]: OperationId(row["holder"]) for row in holders},
            steps=[*map(Step.of, new), *map(_step, steps)],
            pauses=[pause_of(row) for row in pauses],
            full={row["key"]: row["maximum"] for row in full},
            enabled_policies={row["name"] for row in policies},
            executors=[executor_of(row) for row in executors],
        )


def _step(row: asyncpg.Record) -> Step:
    return Step(row["run_id"], OperationId(row["id"]), row["type"], row["state"], row["not_before"])
