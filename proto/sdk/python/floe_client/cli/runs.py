"""How `floe op run` shows the operations that one trigger, or one pass of the scheduler, started for one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from floe_client.cli.shell import Shell

if TYPE_CHECKING:
    from floe_client.types import Operation, OperationMetrics

_ORDER: Final = (
    "REWRITE_DATA_FILES",
    "REWRITE_POSITION_DELETES",
    "REWRITE_MANIFESTS",
    "EXPIRE_SNAPSHOTS",
    "ORPHAN_CLEANUP",
    "COMPUTE_STATISTICS",
)
"""What rewrites comes before what removes. Types of a newer server come last."""


def show(shell: Shell, run: str, operations: Sequence[Operation]) -> None:
    from floe_client.cli.following import state_name, summary, type_name
    from floe_client.cli.render import as_json, print_fields, print_json, print_table
    from floe_client.tables import TableName

    ordered = sorted(operations, key=lambda each: _place(type_name(each)))
    if shell.as_json:
        print_json({"run": run, "operations": [as_json(each) for each in ordered], "totals": _totals(ordered)})
        return
    print_table(
        ("TYPE", "STATE", "POLICY", "ID", "WHAT"),
        (
            (
                type_name(each),
                state_name(each),
                each.policy_name,
                each.id,
                "; ".join(part for part in (summary(each), *each.blockers) if part),
            )
            for each in ordered
        ),
        empty=f"no operations of run {run}",
    )
    if not ordered:
        return
    first = ordered[0]
    print()
    print_fields(
        [
            ("table", str(TableName(first.catalog, tuple(first.namespace), first.table))),
            ("trigger", first.trigger_id),
            ("came to", _ended(ordered)),
            *((name.replace("_", " "), value) for name, value in _words(ordered)),
        ]
    )


def _place(type_name: str) -> int:
    return _ORDER.index(type_name) if type_name in _ORDER else len(_ORDER)


def _ended(operations: Sequence[Operation]) -> str:
    from floe_client.cli.following import state_name

    states = [state_name(each) for each in operations]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    open_ = sum(not each.HasField("finish_time") for each in operations)
    return f"{counts}; {f'{open_} not finished' if open_ else 'all finished'}"


def _totals(operations: Sequence[Operation]) -> dict[str, int]:
    """Sums of what was counted. What nobody counted is left out, never 0."""
    totals: dict[str, int] = {}
    for each in operations:
        for name, value in _counted(each.metrics):
            totals[name] = totals.get(name, 0) + value
    return totals


def _counted(metrics: OperationMetrics) -> list[tuple[str, int]]:
    return [(field.name, value) for field, value in metrics.ListFields() if isinstance(value, int)]


def _words(operations: Sequence[Operation]) -> list[tuple[str, str]]:
    from floe_client.cli.render import number, seconds, size

    found: list[tuple[str, str]] = []
    for name, value in _totals(operations).items():
        if name == "duration_ms":
            found.append(("duration", seconds(value / 1_000)))
        else:
            found.append((name, size(value) if name.startswith("bytes") else number(value)))
    return found
