"""`floe plan`: what a trigger would do to a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from floe_client.cli.answers import Types
from floe_client.cli.shell import Shell, command

if TYPE_CHECKING:
    from floe_client.types import PlannedOperation


def add_to(parent: typer.Typer) -> None:
    command(parent, "plan", example="floe plan lake.sales.orders")(plan)


def plan(
    shell: Shell,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="catalog.namespace.table", show_default=False)],
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="Use this policy instead of those that govern the table.")
    ] = "",
    operations: Types = None,
) -> None:
    """Say what a trigger would do to the table now, without doing it: files, snapshots, duration, risks."""
    from floe_client.cli.render import as_json, print_fields, print_json, when

    with shell.connect() as client:
        planned = client.decisions.plan(table, policy=policy, operations=operations or ())
    if shell.as_json:
        print_json(as_json(planned))
        return
    for each in planned.operations:
        _print(each)
    print_fields(
        [
            ("measured", when(planned.measure_time) or "never: `floe table inspect`"),
            ("plan", planned.plan_hash),
            ("to do just this", f"floe trigger {table} --plan {planned.plan_hash}"),
        ]
    )


def _print(each: PlannedOperation) -> None:
    from floe_client.cli.render import print_fields, seconds, short
    from floe_client.types import OperationType

    print(short(OperationType.Name(each.operation_type), "OPERATION_TYPE_"))
    took = f"about {seconds(each.duration_seconds)}, " if each.HasField("duration_seconds") else "unknown: "
    print_fields(
        [
            ("  policy", f"{each.policy_name}, generation {each.policy_generation}"),
            ("  takes", _files(_known(each, "input_files"), _known(each, "input_bytes"))),
            ("  leaves", _files(_known(each, "output_files"), _known(each, "output_bytes"))),
            ("  snapshots", _snapshots(each)),
            ("  duration", took + each.duration_basis),
            *(("  risk", risk.text) for risk in each.risks),
            *(("  blocked", blocker) for blocker in each.blockers),
            ("  refused", each.refusal),
            ("  by schedule", each.condition_text),
        ]
    )
    print()


def _known(
    each: PlannedOperation, name: Literal["input_files", "input_bytes", "output_files", "output_bytes"]
) -> int | None:
    value: int = getattr(each, name)
    return value if each.HasField(name) else None


def _files(files: int | None, count: int | None) -> str:
    from floe_client.cli.render import number, size

    parts = [f"{number(files)} files" if files is not None else "", size(count) if count is not None else ""]
    return ", ".join(part for part in parts if part)


def _snapshots(each: PlannedOperation) -> str:
    from floe_client.cli.render import number

    if not each.HasField("expiring_snapshots"):
        return ""
    return f"{number(each.expiring_snapshots)} expire, {number(each.retained_snapshots)} stay"
