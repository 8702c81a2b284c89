"""`floe trigger` and `floe op`: ask for work, follow it, stop it, repeat it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from floe_client.cli.exits import Exit
from floe_client.cli.groups import group
from floe_client.cli.shell import Shell, command

if TYPE_CHECKING:
    from floe_client.types import Operation, OperationFilter

app = group("What was asked for and what became of it.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The operation's id.", show_default=False)]
Table = Annotated[str, typer.Option("--table", metavar="TABLE", help="Only of this table, catalog.namespace.table.")]
Catalog = Annotated[str, typer.Option("--catalog", metavar="NAME", help="Only of this catalog.")]
States = Annotated[
    list[str] | None, typer.Option("--state", metavar="STATE", help="Only in this state, such as RUNNING; repeatable.")
]
Types = Annotated[
    list[str] | None,
    typer.Option("--operation", metavar="TYPE", help="Only of this type, such as EXPIRE_SNAPSHOTS; repeatable."),
]
Policy = Annotated[str, typer.Option("--policy", metavar="NAME", help="Only of this policy.")]
Run = Annotated[str, typer.Option("--run", metavar="ID", help="Only of this run.")]
TriggerId = Annotated[str, typer.Option("--trigger", metavar="ID", help="Only of this trigger.")]


def add_trigger(parent: typer.Typer) -> None:
    command(parent, "trigger", example="floe trigger lake.sales.orders --operation REWRITE_DATA_FILES --wait")(trigger)


def trigger(
    shell: Shell,
    table: Annotated[
        str, typer.Argument(metavar="[TABLE]", help="catalog.namespace.table, unless --pattern", show_default=False)
    ] = "",
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="Use this policy instead of those that govern the table.")
    ] = "",
    operations: Annotated[
        list[str] | None,
        typer.Option(
            "--operation", metavar="TYPE", help="Only this type, such as REWRITE_DATA_FILES; repeatable. Else all."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end; 1 unless it succeeded.")] = False,
    request_id: Annotated[
        str, typer.Option(metavar="UUID", help="Asking again under the same id starts nothing new.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, queue nothing.")] = False,
    pattern: Annotated[
        str, typer.Option(metavar="PATTERN", help="All known tables that it matches, such as lake.sales.*.")
    ] = "",
    max_tables: Annotated[
        int, typer.Option(metavar="N", min=0, max=10_000, help="Refuse a pattern that matches more; 0 is 10000.")
    ] = 0,
    respect_conditions: Annotated[
        bool, typer.Option("--respect-conditions", help="Queue only what its conditions would run now.")
    ] = False,
    plan: Annotated[
        str, typer.Option(metavar="HASH", help="Only if the table still is as `floe plan` with this hash saw it.")
    ] = "",
) -> None:
    """Queue maintenance of a table, or of all that a pattern matches, now."""
    from floe_client.cli.following import follow, type_name
    from floe_client.cli.render import as_json, print_json
    from floe_client.types import OperationType

    with shell.connect() as client:
        started = client.trigger(
            table or None,
            policy=policy,
            operations=operations or (),
            request_id=request_id or None,
            validate_only=dry_run,
            pattern=pattern,
            max_tables=max_tables,
            respect_conditions=respect_conditions,
            plan_hash=plan,
        )
        ids = tuple(operation.id for operation in started.operations)
        if not shell.as_json:
            for run in started.runs:
                name = table or ".".join((run.catalog, *run.namespace, run.table))
                for each in run.withheld:
                    kind = OperationType.Name(each.operation_type).removeprefix("OPERATION_TYPE_")
                    print(f"{kind} of {name} not queued: {each.text}", flush=True)
                for operation in run.operations:
                    waits = f" (waits: {'; '.join(operation.blockers)})" if operation.blockers else ""
                    what = "would be queued" if dry_run else f"{operation.id} queued"
                    print(f"{type_name(operation)} of {name} {what}{waits}", flush=True)
        ended: list[Operation] = []
        if wait and ids and not dry_run:
            follow(client.operations.follow(ids), ids=ids, as_json_lines=False, quiet=shell.as_json)
            ended = [client.operations.get(id) for id in ids]
            final = {operation.id: operation for operation in ended}
            for run in started.runs:
                for operation in run.operations:
                    operation.CopyFrom(final[operation.id])
    if shell.as_json:
        print_json({"triggerId": started.id, "runs": [as_json(run) for run in started.runs]})
    _end(ended)


@command(app, "list", example="floe op list --table lake.sales.orders --state FAILED")
def list_some(
    shell: Shell,
    table: Table = "",
    catalog: Catalog = "",
    states: States = None,
    types: Types = None,
    policy: Policy = "",
    run: Run = "",
    trigger_id: TriggerId = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
) -> None:
    """List operations, newest first."""
    from itertools import islice

    from floe_client.cli.following import state_name, summary, type_name
    from floe_client.cli.render import age, as_json, print_json, print_table

    filter = _filter(table, catalog, states, types, policy, run, trigger_id)
    with shell.connect() as client:
        operations = list(islice(client.operations.list(filter, page_size=min(limit, 1_000)), limit))
    if shell.as_json:
        print_json({"operations": [as_json(each) for each in operations]})
        return
    print_table(
        ("ID", "TYPE", "TABLE", "STATE", "AGE", "WHAT"),
        (
            (
                each.id,
                type_name(each),
                _table(each),
                state_name(each),
                age(each.create_time),
                summary(each) or "; ".join(each.blockers),
            )
            for each in operations
        ),
        empty="no operations",
    )


@command(app, "stats", example="floe op stats --catalog lake --window 24h")
def stats(
    shell: Shell,
    table: Table = "",
    catalog: Catalog = "",
    states: States = None,
    types: Types = None,
    policy: Policy = "",
    run: Run = "",
    trigger_id: TriggerId = "",
    window: Annotated[str, typer.Option(metavar="SPAN", help="Asked for within so long: 90m, 24h, 7d or 4w.")] = "7d",
) -> None:
    """Show operations in numbers: how they ended, how long they took, what they rewrote."""
    from floe_client.cli.operation_stats import show, span

    filter, within = _filter(table, catalog, states, types, policy, run, trigger_id), span(window)
    with shell.connect() as client:
        answer = client.operations.stats(filter, window=within)
    show(shell, answer)


@command(app, "get", example="floe op get 0190c0de-…")
def get(shell: Shell, id: Id) -> None:
    """Show one operation with its attempts."""
    with shell.connect() as client:
        operation = client.operations.get(id)
    _show(shell, operation)


@command(app, "run", example="floe op run 0190c0de-…")
def run_view(
    shell: Shell, id: Annotated[str, typer.Argument(metavar="RUN", help="The id of the run.", show_default=False)]
) -> None:
    """Show the operations of one run in their order, and what they come to together."""
    from floe_client.cli.runs import show
    from floe_client.types import OperationFilter

    filter = OperationFilter(run_id=id)
    with shell.connect() as client:
        operations = list(client.operations.list(filter))
    show(shell, id, operations)


@command(app, "watch", example="floe op watch 0190c0de-… ; floe op watch --catalog lake -o json")
def watch(
    shell: Shell,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Operations; else all that are.")] = None,
    table: Table = "",
    catalog: Catalog = "",
    states: States = None,
    types: Types = None,
    policy: Policy = "",
    run: Run = "",
    trigger_id: TriggerId = "",
    cursor: Annotated[str, typer.Option(help="Go on from there: the cursor of an earlier JSON line.")] = "",
) -> None:
    """Follow operations to their end (1 unless all succeeded), or all of a filter until ^C."""
    from floe_client.cli.following import follow

    filter = _filter(table, catalog, states, types, policy, run, trigger_id)
    with shell.connect() as client:
        if ids:
            follow(client.operations.follow(ids), ids=tuple(ids), as_json_lines=shell.as_json)
            _end([client.operations.get(id) for id in ids])
        else:
            follow(client.operations.watch(filter, cursor=cursor), ids=(), as_json_lines=shell.as_json)


@command(app, "cancel", example="floe op cancel 0190c0de-… --reason 'wrong table'")
def cancel(
    shell: Shell,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Operations.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow them to their end.")] = False,
) -> None:
    """Ask operations to stop. What was committed by then stands."""
    from floe_client.cli.following import follow, state_name
    from floe_client.cli.render import as_json, print_json

    with shell.connect() as client:
        cancelled = [client.operations.cancel(id, reason=reason) for id in ids]
        if wait:
            follow(client.operations.follow(ids), ids=(), as_json_lines=False, quiet=shell.as_json)
            cancelled = [client.operations.get(id) for id in ids]
    if shell.as_json:
        print_json({"operations": [as_json(each) for each in cancelled]})
        return
    for each in cancelled:
        state = state_name(each)
        print(f"{each.id} {state}" if state == "CANCELLED" or wait else f"{each.id} is asked to stop, now {state}")


@command(app, "retry", example="floe op retry 0190c0de-… --wait")
def retry(
    shell: Shell,
    id: Id,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end; 1 unless it succeeded.")] = False,
) -> None:
    """Queue a new operation like a finished one."""
    from floe_client.cli.following import follow
    from floe_client.cli.render import as_json, print_json

    with shell.connect() as client:
        operation = client.operations.retry(id)
        if not shell.as_json:
            print(f"{operation.id} queued, a retry of {id}", flush=True)
        ended = []
        if wait:
            follow(
                client.operations.follow([operation.id]),
                ids=(operation.id,),
                as_json_lines=False,
                quiet=shell.as_json,
            )
            operation = client.operations.get(operation.id)
            ended = [operation]
    if shell.as_json:
        print_json(as_json(operation))
    _end(ended)


def _filter(
    table: str,
    catalog: str,
    states: list[str] | None,
    types: list[str] | None,
    policy: str,
    run: str,
    trigger_id: str,
) -> OperationFilter:
    from floe_client.operations import operation_state, operation_type
    from floe_client.tables import TableName
    from floe_client.types import OperationFilter

    filter = OperationFilter(
        catalog=catalog,
        states=[operation_state(each) for each in states or ()],
        types=[operation_type(each) for each in types or ()],
        policy_name=policy,
        run_id=run,
        trigger_id=trigger_id,
    )
    if table:
        name = TableName.parse(table)
        filter.catalog, filter.table = name.catalog, name.table
        filter.namespace.extend(name.namespace)
    return filter


def _end(operations: Sequence[Operation]) -> None:
    """End with 1 if any of them ended otherwise than SUCCEEDED, and say which."""
    from floe_client.operations import failed
    from floe_client.types import OperationState

    unhappy = [each for each in operations if each.state != OperationState.OPERATION_STATE_SUCCEEDED]
    for each in unhappy:
        print(f"floe: {failed(each).message}", file=sys.stderr)
    if unhappy:
        raise typer.Exit(Exit.FAILED)


def _origin(operation: Operation) -> str:
    from floe_client.cli.render import when
    from floe_client.types import OperationOrigin

    if operation.origin == OperationOrigin.OPERATION_ORIGIN_SCHEDULE:
        return f"the schedule of its policy, slot {when(operation.slot_time)}"
    return operation.requested_by


def _table(operation: Operation) -> str:
    from floe_client.tables import TableName

    return str(TableName(operation.catalog, tuple(operation.namespace), operation.table))


def _show(shell: Shell, operation: Operation) -> None:
    from floe_client.cli.following import progress_text, state_name, summary, type_name
    from floe_client.cli.render import as_json, print_fields, print_json, print_table, short, when
    from floe_client.types import Outcome, VerificationVerdict

    if shell.as_json:
        print_json(as_json(operation))
        return
    verdict = short(VerificationVerdict.Name(operation.verification.verdict), "VERIFICATION_VERDICT_")
    print_fields(
        [
            ("id", operation.id),
            ("type", type_name(operation)),
            ("table", _table(operation)),
            ("state", state_name(operation)),
            ("what", summary(operation)),
            ("waits for", "; ".join(operation.blockers)),
            ("progress", progress_text(operation.progress) if operation.HasField("progress") else ""),
            ("policy", f"{operation.policy_name}, generation {operation.policy_generation}"),
            ("asked by", _origin(operation)),
            ("run", operation.run_id),
            ("retry of", operation.retry_of),
            ("attempt", f"{operation.attempt} of {operation.max_attempts}"),
            ("executor", operation.executor_id),
            ("snapshots", ", ".join(map(str, operation.snapshot_ids))),
            ("verification", verdict),
            *(
                (f"  {finding.check}", ("ok" if finding.passed else "failed") + f": {finding.detail}")
                for finding in operation.verification.findings
            ),
            ("late effects", "yes" if operation.late_effects else ""),
            ("requested by", operation.requested_by),
            ("cancel asked", f"{when(operation.cancel_request_time)} {operation.cancel_requested_by}".strip()),
            ("created", when(operation.create_time)),
            ("not before", when(operation.not_before)),
            ("started", when(operation.start_time)),
            ("finished", when(operation.finish_time)),
        ]
    )
    if operation.attempts:
        print()
        print_table(
            ("ATTEMPT", "EXECUTOR", "STARTED", "FINISHED", "OUTCOME", "DECIDED BY", "FAILURE"),
            (
                (
                    str(each.number),
                    each.executor_id,
                    when(each.start_time),
                    when(each.finish_time),
                    short(Outcome.Name(each.outcome), "OUTCOME_"),
                    each.decided_by,
                    each.failure.message,
                )
                for each in operation.attempts
            ),
            empty="",
        )
