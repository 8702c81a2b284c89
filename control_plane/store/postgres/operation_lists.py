"""Reading operations: one, pages of them, and what keeps those that wait."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from control_plane.domain.errors import OperationNotFound
from control_plane.domain.identifiers import CatalogName, OperationId, OperationType, RunId
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

# All in one snapshot. The columns are JSON: rows of several tables come in one answer.
_SURROUNDINGS: Final = f"""
SELECT clock_timestamp() AS now,
       (SELECT json_agg(json_build_array(key, holder)) FROM fences WHERE key = ANY ($1) AND holder IS NOT NULL)
           AS holders,
       (SELECT json_agg(json_build_array(run_id, id, type, state, not_before)) FROM operations WHERE run_id = ANY ($2))
           AS steps,
       (SELECT json_agg(p) FROM ({IN_FORCE}) p) AS pauses,
       (SELECT json_agg(json_build_array(key, maximum)) FROM capacity WHERE maximum > 0 AND in_use >= maximum)
           AS full,
       (SELECT json_agg(name) FROM policies WHERE name = ANY ($3) AND enabled) AS policies,
       (SELECT json_agg(e) FROM ({ATTACHED}) e) AS executors
"""
_LISTS: Final = ("holders", "steps", "pauses", "full", "policies", "executors")


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
        row = await self._database.fetchrow(
            _SURROUNDINGS,
            [fence_key(operation) for operation in waiting],
            [operation.run_id for operation in waiting],
            [operation.policy for operation in waiting],
        )
        assert row is not None, "a statement without a table has one row"
        found = {name: json.loads(row[name] or "[]") for name in _LISTS}
        stored = [_step(*step) for step in found["steps"]]
        known = {step.operation for step in stored}
        return Surroundings(
            now=row["now"],
            holders={key: OperationId(holder) for key, holder in found["holders"]},
            steps=[*stored, *(Step.of(operation) for operation in waiting if operation.id not in known)],
            pauses=[pause_of(pause) for pause in found["pauses"]],
            full=dict(found["full"]),
            enabled_policies=set(found["policies"]),
            executors=[executor_of(executor) for executor in found["executors"]],
        )


def _step(run: str, operation: str, kind: str, state: str, not_before: str | None) -> Step:
    return Step(
        RunId(run),
        OperationId(operation),
        OperationType(kind),
        OperationState(state),
        datetime.fromisoformat(not_before) if not_before is not None else None,
    )
