"""`floe explain` and `floe decisions`: why an operation runs, waits, or does not run."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from floe_client.cli.shell import Shell, command

if TYPE_CHECKING:
    from floe_client.types import Decision, DecisionStep, TriggerExplanation

_SIGNS = {True: "yes", False: "no"}

Types = Annotated[
    list[str] | None,
    typer.Option("--operation", metavar="TYPE", help="Only this type, such as EXPIRE_SNAPSHOTS; repeatable."),
]


def add_to(parent: typer.Typer) -> None:
    command(parent, "explain", example="floe explain lake.sales.orders")(explain)
    command(parent, "decisions", example="floe decisions --table lake.sales.orders --verdict SKIPPED")(decisions)


def explain(
    shell: Shell,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="catalog.namespace.table", show_default=False)],
    operations: Types = None,
    every: Annotated[bool, typer.Option("--all", help="Show operations that no policy configures too.")] = False,
) -> None:
    """Say for each operation whether it would run on the table now, and why."""
    from floe_client.cli.render import as_json, print_json

    with shell.connect() as client:
        answers = client.decisions.explain(table, operations=operations or ())
    if shell.as_json:
        print_json({"explanations": [as_json(each) for each in answers]})
        return
    shown = [each for each in answers if every or operations or each.policy_name or each.losers]
    for each in shown:
        _print(each)
    if not shown:
        print(f"no enabled policy speaks of {table}; `floe policy list` shows the policies")


def decisions(
    shell: Shell,
    table: Annotated[str, typer.Option(metavar="TABLE", help="Only of this table, catalog.namespace.table.")] = "",
    catalog: Annotated[str, typer.Option(metavar="NAME", help="Only of this catalog.")] = "",
    policy: Annotated[str, typer.Option(metavar="NAME", help="Only of this policy.")] = "",
    operations: Types = None,
    verdict: Annotated[
        list[str] | None, typer.Option(metavar="VERDICT", help="FIRED, SKIPPED or DEFERRED; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
) -> None:
    """List what was decided about the slots of schedules, newest first."""
    from floe_client.cli.render import as_json, print_json, print_table, short, when
    from floe_client.types import OperationType

    with shell.connect() as client:
        pages = client.decisions.list(
            table=table or None,
            catalog=catalog,
            policy=policy,
            operations=operations or (),
            verdicts=verdict or (),
            page_size=min(limit, 1_000),
        )
        found = list(islice(pages, limit))
    if shell.as_json:
        print_json({"decisions": [as_json(each) for each in found]})
        return
    print_table(
        ("DECIDED", "TABLE", "OPERATION", "SLOT", "VERDICT", "WHY"),
        (
            (
                when(each.decide_time),
                _table(each),
                short(OperationType.Name(each.operation_type), "OPERATION_TYPE_"),
                _slots(each),
                _verdict(each),
                each.text,
            )
            for each in found
        ),
        empty="no decisions; a policy with a schedule makes them",
    )


def _print(each: TriggerExplanation) -> None:
    from floe_client.cli.render import print_fields, short, when
    from floe_client.types import OperationType

    kind = short(OperationType.Name(each.operation_type), "OPERATION_TYPE_")
    print(f"{kind}{' (shadow)' if each.mode == 'SHADOW' else ''}: {each.text}")
    slot = when(each.next_slot_time)
    print_fields(
        [
            ("  policy", f"{each.policy_name}, generation {each.policy_generation}" if each.policy_name else ""),
            *(("  not", f"{loser.policy_name}: {loser.detail}") for loser in each.losers),
            *(("  step", _step(step)) for step in each.steps),
            *(("  blocked", blocker) for blocker in each.blockers),
            ("  earliest", when(each.next_eligible_time)),
            ("  next slot", slot or ("when the operation that runs has ended" if each.awaited_operation_id else "")),
            ("  last decision", _last(each)),
        ]
    )
    print()


def _step(step: DecisionStep) -> str:
    return f"[{_SIGNS[step.passed] if step.HasField('passed') else '?'}] {step.text}"


def _last(each: TriggerExplanation) -> str:
    from floe_client.cli.render import age

    if not each.HasField("last_decision"):
        return ""
    last = each.last_decision
    return f"{age(last.decide_time)} ago, slot {last.slot_text}: {_verdict(last)}, {last.text}"


def _slots(decision: Decision) -> str:
    more = f" and {decision.slots - 1} more" if decision.slots > 1 else ""
    return decision.slot_text + more


def _verdict(decision: Decision) -> str:
    from floe_client.cli.render import short
    from floe_client.types import SlotVerdict

    return short(SlotVerdict.Name(decision.verdict), "SLOT_VERDICT_")


def _table(decision: Decision) -> str:
    from floe_client.tables import TableName

    return str(TableName(decision.catalog, tuple(decision.namespace), decision.table))
