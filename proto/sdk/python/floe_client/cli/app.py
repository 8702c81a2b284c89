"""The commands of `floe`, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from floe_client.cli import answers, catalogs, dev_command, executors, operations, plans, policies, system, tables
from floe_client.cli.exits import EXPLAINED

app = typer.Typer(
    name="floe",
    help="Keeps Apache Iceberg tables healthy by policy.",
    epilog=f"Exit codes: {EXPLAINED}",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(catalogs.app, name="catalog")
app.add_typer(policies.app, name="policy")
app.add_typer(tables.app, name="table")
operations.add_trigger(app)
answers.add_to(app)
plans.add_to(app)
app.add_typer(operations.app, name="op")
app.add_typer(executors.app, name="executor")
system.add_to(app)
dev_command.add_to(app)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        for distribution in ("floe-client", "floe"):
            try:
                print(f"floe {version(distribution)}")
            except PackageNotFoundError:
                continue
            raise typer.Exit
        print("floe, not installed")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def run() -> None:
    app(prog_name="floe")
