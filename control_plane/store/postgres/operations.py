"""Operations on PostgreSQL, by what is done with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from control_plane.domain.identifiers import OperationId
from control_plane.domain.operation import Operation
from control_plane.domain.rules import Rules
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_changes import OperationChanges
from control_plane.store.postgres.operation_claims import OperationClaims
from control_plane.store.postgres.operation_events import OperationEvents
from control_plane.store.postgres.operation_leases import OperationLeases
from control_plane.store.postgres.operation_lists import OperationLists
from control_plane.store.postgres.operation_numbers import OperationNumbers
from control_plane.store.postgres.operation_sweeps import OperationSweeps


class PostgresOperations(
    OperationChanges,
    OperationClaims,
    OperationEvents,
    OperationLeases,
    OperationLists,
    OperationNumbers,
    OperationSweeps,
):
    """The whole of `ports.operations.OperationStore`."""

    def __init__(self, database: Database, rules: Rules) -> None:
        # Each part needs no more than these two.
        self._database = database
        self._rules = rules
        self._enqueue_together = database.together(self._enqueue_all)
        self._blockers_together = database.together(self._blockers_of_all)

    async def enqueue(self, operations: Sequence[Operation]) -> Mapping[OperationId, Sequence[str]]:
        return await self._enqueue_together(operations)

    async def blockers(self, operations: Sequence[Operation]) -> Mapping[OperationId, Sequence[str]]:
        return await self._blockers_together(operations)

    async def _enqueue_all(self, calls: Sequence[Sequence[Operation]]) -> Sequence[Mapping[OperationId, Sequence[str]]]:
        return [await super().enqueue(list(chain.from_iterable(calls)))] * len(calls)

    async def _blockers_of_all(
        self, calls: Sequence[Sequence[Operation]]
    ) -> Sequence[Mapping[OperationId, Sequence[str]]]:
        return [await super().blockers(list(chain.from_iterable(calls)))] * len(calls)
