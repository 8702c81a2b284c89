"""`floe status`, `floe pause` and `floe resume`: the deployment itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from floe_client.cli.shell import Shell, command
from floe_client.errors import FieldViolation, InvalidArgument

if TYPE_CHECKING:
    from floe_client.types import PauseScope, SchedulerInfo

Scope = Annotated[
    str,
    typer.Argument(metavar="[SCOPE]", help="A catalog, or catalog.namespace.table; without it, everything."),
]


def add_to(app: typer.Typer) -> None:
    command(app, "pause", example="floe pause lake --reason 'migration of the lake'")(pause)
    command(app, "resume", example="floe resume lake")(resume)
    command(app, "status", example="floe status")(status)


def pause(
    shell: Shell,
    reason: Annotated[str, typer.Option(help="Why, for those who wonder.")],
    scope: Scope = "",
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Ends by itself then, for example 2026-12-24T18:00:00+01:00.")
    ] = "",
) -> None:
    """Start nothing new in the scope; what runs goes on."""
    from floe_client.cli.render import as_json, print_json

    catalog, namespace, table = _parts(scope)
    moment = _moment(until) if until else None
    with shell.connect() as client:
        paused = client.system.pause(reason=reason, catalog=catalog, namespace=namespace, table=table, until=moment)
    if shell.as_json:
        print_json(as_json(paused))
    else:
        print(f"{_scope(paused)} paused; `{f'floe resume {scope}'.strip()}` ends it")


def resume(shell: Shell, scope: Scope = "") -> None:
    """End the pause of exactly this scope."""
    catalog, namespace, table = _parts(scope)
    with shell.connect() as client:
        client.system.resume(catalog=catalog, namespace=namespace, table=table)
    print("{}" if shell.as_json else f"{scope or 'everything'} resumed")


def status(shell: Shell) -> None:
    """Show what runs here, what waits, and what is paused."""
    from floe_client.cli.render import as_json, print_fields, print_json, print_table, when

    with shell.connect() as client:
        info = client.system.info()
        server = client.server
    if shell.as_json:
        print_json(as_json(info))
        return
    counts = ", ".join(
        f"{count} {state.removeprefix('OPERATION_STATE_').lower()}"
        for state, count in sorted(info.operation_counts.items())
        if count
    )
    print_fields(
        [
            ("server", server),
            ("version", info.version),
            ("replica", info.replica_id),
            ("since", when(info.start_time)),
            ("store", f"{info.store_type}, schema {info.schema_version}"),
            ("executors", str(info.attached_executors)),
            ("operations", counts or "none unfinished"),
            *_scheduler(info.scheduler),
        ]
    )
    if info.pauses:
        print()
        print_table(
            ("PAUSED", "SINCE", "UNTIL", "BY", "REASON"),
            (
                (_scope(each), when(each.pause_time), when(each.until) or "resumed", each.paused_by, each.reason)
                for each in info.pauses
            ),
            empty="",
        )


def _scheduler(scheduler: SchedulerInfo) -> list[tuple[str, str]]:
    from floe_client.cli.render import age, number, when

    if scheduler.leader_replica_id:
        term = f"replica {scheduler.leader_replica_id}, term {scheduler.term} since {when(scheduler.term_start_time)}"
        last = f", last pass {age(scheduler.last_pass_time)} ago" if scheduler.HasField("last_pass_time") else ""
        leader = term + last
    else:
        leader = "none: no slot is decided until one is elected"
    due, waiting = number(scheduler.due_targets), number(scheduler.deferred_targets)
    targets = f"{number(scheduler.targets)}, {due} due, {waiting} waiting"
    return [
        ("scheduler", "takes part" if scheduler.enabled else "turned off here (FLOE_SCHEDULER__ENABLED)"),
        ("leader", leader),
        ("targets", targets),
        ("to resolve", f"{number(scheduler.unresolved_tables)} tables" if scheduler.unresolved_tables else ""),
        ("next due", when(scheduler.next_due_time)),
    ]


def _parts(scope: str) -> tuple[str, str, str]:
    from floe_client.tables import TableName

    if "." not in scope:
        return scope, "", ""
    name = TableName.parse(scope)
    return name.catalog, name.dotted_namespace, name.table


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no time; write 2026-12-24T18:00:00Z"
        raise InvalidArgument(message, violations=[FieldViolation("--until", message)]) from None
    # Without a zone it is the time of this machine.
    return moment.astimezone(UTC)


def _scope(pause: PauseScope) -> str:
    return ".".join(part for part in (pause.catalog, pause.namespace, pause.table) if part) or "everything"
