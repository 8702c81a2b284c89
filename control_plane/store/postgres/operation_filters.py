"""A filter of operations as SQL: constant conditions, and values that are bound."""

from __future__ import annotations

from control_plane.ports.operations import OperationFilter


class Conditions:
    """Conditions joined by AND, and the values of their parameters in order."""

    def __init__(self, *values: object) -> None:
        self.values = list(values)
        self._conditions: list[str] = []

    def add(self, condition: str, *values: object) -> None:
        """`condition` has a `{}` for each value."""
        start = len(self.values) + 1
        self._conditions.append(condition.format(*(f"${start + place}" for place in range(len(values)))))
        self.values.extend(values)

    @property
    def sql(self) -> str:
        return " AND ".join(self._conditions) or "true"


def add_filter(conditions: Conditions, where: OperationFilter, *, state: str, operation: str) -> None:
    """Add what is set; `state` and `operation` name the columns of the operation's state and id."""
    if where.catalog is not None:
        conditions.add("catalog = {}", where.catalog)
    if where.table is not None:
        conditions.add("catalog = {} AND table_key = {}", where.table.catalog, str(where.table))
    if where.run is not None:
        conditions.add("run_id = {}", where.run)
    if where.trigger is not None:
        conditions.add("trigger_id = {}", where.trigger)
    if where.policy is not None:
        conditions.add("policy = {}", where.policy)
    if where.states:
        conditions.add(state + " = ANY ({}::text[])", list(where.states))
    if where.types:
        conditions.add("type = ANY ({}::text[])", list(where.types))
    if where.ids:
        conditions.add(operation + " = ANY ({}::text[])", list(where.ids))
