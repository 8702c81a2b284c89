"""Operations on PostgreSQL, by what is done with them."""

from __future__ import annotations

from control_plane.domain.rules import Rules
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_changes import OperationChanges
from control_plane.store.postgres.operation_claims import OperationClaims
from control_plane.store.postgres.operation_events import OperationEvents
from control_plane.store.postgres.operation_leases import OperationLeases
from control_plane.store.postgres.operation_lists import OperationLists
from control_plane.store.postgres.operation_sweeps import OperationSweeps


class PostgresOperations(
    OperationChanges, OperationClaims, OperationEvents, OperationLeases, OperationLists, OperationSweeps
):
    """The whole of `ports.operations.OperationStore`."""

    def __init__(self, database: Database, rules: Rules) -> None:
        # Each part needs no more than these two.
        self._database = database
        self._rules = rules
