"""Following operations: bars on a terminal, one line a change off it, one JSON document a change for machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from floe_client.cli.exits import Exit, printable
from floe_client.cli.render import as_json, print_json_line, seconds, short, size

if TYPE_CHECKING:
    from floe_client.types import Operation, OperationProgress
    from floe_client.watching import Changed, Update


def follow(updates: Iterator[Update], *, ids: tuple[str, ...], as_json_lines: bool, quiet: bool = False) -> None:
    """Show the updates until they end. ^C leaves the operations alone and says so."""
    with closing(updates):  # type: ignore[type-var]  # a generator, which the client promises only as an iterator
        try:
            if quiet:
                for _ in updates:
                    pass
            elif as_json_lines:
                for update in updates:
                    print_json_line(_document(update))
            elif sys.stdout.isatty():
                _show_bars(updates)
            else:
                _show_lines(updates)
        except KeyboardInterrupt:
            _say_that_it_goes_on(ids)
            raise typer.Exit(Exit.INTERRUPTED) from None


def summary(operation: Operation) -> str:
    """What came of an operation, in a line."""
    from floe_client.types import Effects, Outcome

    metrics = operation.metrics
    parts = [
        short(Outcome.Name(operation.outcome), "OUTCOME_"),
        f"effects {short(Effects.Name(operation.effects), 'EFFECTS_')}" if operation.effects > 1 else "",
    ]
    if metrics.HasField("files_rewritten"):
        rewritten = f"{metrics.files_rewritten} files"
        parts.append(rewritten + (f" into {metrics.files_added}" if metrics.HasField("files_added") else " rewritten"))
    if metrics.HasField("bytes_rewritten"):
        parts.append(size(metrics.bytes_rewritten))
    if metrics.HasField("snapshots_expired"):
        parts.append(f"{metrics.snapshots_expired} snapshots expired")
    if metrics.HasField("data_files_removed"):
        parts.append(f"{metrics.data_files_removed} data files removed")
    if metrics.HasField("duration_ms"):
        parts.append(seconds(metrics.duration_ms / 1_000))
    parts.append(operation.failure.message or operation.state_reason)
    return printable(", ".join(part for part in parts if part))


def type_name(operation: Operation) -> str:
    from floe_client.types import OperationType

    return short(OperationType.Name(operation.type), "OPERATION_TYPE_")


def state_name(operation: Operation) -> str:
    from floe_client.types import OperationState

    return short(OperationState.Name(operation.state), "OPERATION_STATE_")


def progress_text(progress: OperationProgress) -> str:
    """Where it stands, in a few words."""
    parts = [progress.phase]
    if progress.HasField("groups_total"):
        parts.append(f"group {progress.groups_done} of {progress.groups_total}")
    if progress.HasField("tasks_total"):
        parts.append(f"task {progress.tasks_done} of {progress.tasks_total}")
    if progress.HasField("bytes_written"):
        parts.append(f"{size(progress.bytes_written)} written")
    if progress.estimated:
        parts.append("estimated")
    return printable(", ".join(part for part in parts if part))


def _document(update: Update) -> dict[str, Any]:
    from floe_client.watching import Progressed

    if isinstance(update, Progressed):
        return {"progress": {"operationId": update.operation_id, "progress": as_json(update.progress)}}
    event = update.event
    return {
        "event": event.event if event is not None else "",
        "sequence": event.sequence if event is not None else 0,
        "cursor": update.cursor,
        "operation": as_json(update.operation),
    }


def _show_lines(updates: Iterator[Update]) -> None:
    from floe_client.watching import Progressed

    types: dict[str, str] = {}
    last: dict[str, str] = {}
    for update in updates:
        if isinstance(update, Progressed):
            id, text = update.operation_id, progress_text(update.progress)
            if last.get(id) == text:
                continue
            last[id] = text
        else:
            id, text = update.operation.id, _change_text(update)
            types[id] = type_name(update.operation)
        print(f"{datetime.now():%H:%M:%S}  {id}  {types.get(id, '-')}  {text}", flush=True)


def _change_text(update: Changed) -> str:
    operation = update.operation
    parts = [state_name(operation)]
    if update.event is not None and update.event.from_state == update.event.to_state:
        parts.append(f"({update.event.event})")
    if operation.attempt > 1:
        parts.append(f"attempt {operation.attempt} of {operation.max_attempts}")
    if told := summary(operation):
        parts.append(told)
    if operation.blockers:
        parts.append("waits: " + printable("; ".join(operation.blockers)))
    return "  ".join(parts)


def _show_bars(updates: Iterator[Update]) -> None:
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
    from rich.text import Text

    from floe_client.cli.render import console
    from floe_client.watching import Progressed, is_terminal

    bars: dict[str, TaskID] = {}
    # Names and messages come from elsewhere: they are shown as they are, never read as markup.
    columns = (
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[state]:<11}", markup=False, style="cyan"),
        BarColumn(bar_width=24, finished_style="green"),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(), refresh_per_second=4) as progress:
        for update in updates:
            if isinstance(update, Progressed):
                if (bar := bars.get(update.operation_id)) is not None:
                    _move(progress, bar, update.progress)
                continue
            operation = update.operation
            if operation.id not in bars:
                name = f"{type_name(operation)} {'.'.join((*operation.namespace, operation.table))}"
                bars[operation.id] = progress.add_task(printable(name), total=None, state="", detail="")
            bar = bars[operation.id]
            detail = summary(operation) or "; ".join(operation.blockers)
            progress.update(bar, state=state_name(operation), detail=printable(detail))
            if is_terminal(operation):
                progress.update(bar, total=1, completed=1, refresh=True)
                progress.stop_task(bar)
                progress.console.print(Text(f"{operation.id}  {_change_text(update)}"))


# Any: rich is imported only where it draws.
def _move(progress: Any, bar: Any, now: OperationProgress) -> None:
    if now.HasField("tasks_total") and now.tasks_total:
        done, total = now.tasks_done, now.tasks_total
    elif now.HasField("groups_total") and now.groups_total:
        done, total = now.groups_done, now.groups_total
    else:
        progress.update(bar, detail=progress_text(now), refresh=True)
        return
    progress.update(bar, completed=done, total=total, detail=progress_text(now), refresh=True)


def _say_that_it_goes_on(ids: tuple[str, ...]) -> None:
    if not ids:
        return
    goes = "the operation goes on" if len(ids) == 1 else "the operations go on"
    print(f"\nfloe: {goes}. To stop: floe op cancel {' '.join(ids)}", file=sys.stderr)
