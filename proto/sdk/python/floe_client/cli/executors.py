"""`floe executor`: who does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from floe_client.cli.groups import group
from floe_client.cli.shell import Shell, command

if TYPE_CHECKING:
    from floe_client.types import Executor

app = group("The executors that are attached, or were lately.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The executor's id.", show_default=False)]


@command(app, "list", example="floe executor list --all")
def list_all(
    shell: Shell, everyone: Annotated[bool, typer.Option("--all", help="Also those that are gone.")] = False
) -> None:
    """List the executors."""
    from floe_client.cli.render import age, as_json, print_json, print_table

    with shell.connect() as client:
        executors = list(client.executors.list(include_detached=everyone))
    if shell.as_json:
        print_json({"executors": [as_json(each) for each in executors]})
        return
    print_table(
        ("ID", "NAME", "STATE", "ENGINE", "BUSY", "CATALOGS", "LAST HEARD"),
        (
            (
                each.id,
                each.display_name,
                _state(each),
                f"{each.engine} {each.engine_version}".strip(),
                _busy(each),
                ", ".join(each.catalogs) or "any",
                age(each.last_heartbeat_time),
            )
            for each in executors
        ),
        empty="no executors; `floe-executor serve` starts one",
    )


@command(app, "get", example="floe executor get 6f1f2a1e-…")
def get(shell: Shell, id: Id) -> None:
    """Show one executor."""
    with shell.connect() as client:
        executor = client.executors.get(id)
    _show(shell, executor)


@command(app, "drain", example="floe executor drain 6f1f2a1e-…")
def drain(shell: Shell, id: Id) -> None:
    """Give it no more work; what runs goes on."""
    with shell.connect() as client:
        executor = client.executors.drain(id)
    _show(shell, executor)


@command(app, "undrain", example="floe executor undrain 6f1f2a1e-…")
def undrain(shell: Shell, id: Id) -> None:
    """Give it work again."""
    with shell.connect() as client:
        executor = client.executors.undrain(id)
    _show(shell, executor)


def _show(shell: Shell, executor: Executor) -> None:
    from floe_client.cli.render import as_json, print_fields, print_json, short, when
    from floe_client.types import OperationType

    if shell.as_json:
        print_json(as_json(executor))
        return
    types = (short(OperationType.Name(each), "OPERATION_TYPE_") for each in executor.operation_types)
    print_fields(
        [
            ("id", executor.id),
            ("name", executor.display_name),
            ("state", _state(executor)),
            ("engine", f"{executor.engine} {executor.engine_version}".strip()),
            ("version", executor.software_version),
            ("operations", ", ".join(types)),
            ("catalogs", ", ".join(executor.catalogs) or "any"),
            ("busy", _busy(executor)),
            ("labels", ", ".join(f"{key}={value}" for key, value in sorted(executor.labels.items()))),
            ("attached", when(executor.attach_time)),
            ("last heard", when(executor.last_heartbeat_time)),
            ("clock skew", f"{executor.clock_skew_ms} ms"),
            ("works on", ", ".join(executor.operation_ids)),
        ]
    )


def _state(executor: Executor) -> str:
    from floe_client.cli.render import short
    from floe_client.types import ExecutorState

    return short(ExecutorState.Name(executor.state), "EXECUTOR_STATE_")


def _busy(executor: Executor) -> str:
    busy = f"{executor.slots_in_use} of {executor.slots}"
    if not executor.metadata_slots:
        return busy
    return f"{busy}, metadata {executor.metadata_slots_in_use} of {executor.metadata_slots}"
