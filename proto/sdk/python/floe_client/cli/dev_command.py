"""`floe dev`: everything on this machine, in one tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    app.command("dev", epilog="Example: floe dev --directory .floe")(dev)


def dev(
    directory: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".floe"),
    grpc_port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the public API.")] = 9090,
    executor_port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the executor API.")] = 9092,
    catalog_port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the local Iceberg catalog.")] = 9181,
    catalog_name: Annotated[str, typer.Option(help="The name of the local catalog.")] = "local",
    slots: Annotated[int, typer.Option(min=1, help="Operations at a time.")] = 2,
    driver_memory: Annotated[str, typer.Option(help="Heap of the executor's Spark.")] = "1g",
    ready_file: Annotated[
        Path | None, typer.Option(help="Written, as JSON with addresses and process ids, when all is ready.")
    ] = None,
) -> None:
    """Run control plane, PostgreSQL, Spark executor and a local Iceberg catalog here, until ^C."""
    from floe_client.cli.dev import DevSettings, run_dev

    raise typer.Exit(
        run_dev(
            DevSettings(
                directory=directory,
                grpc_port=grpc_port,
                executor_port=executor_port,
                catalog_port=catalog_port,
                catalog_name=catalog_name,
                slots=slots,
                driver_memory=driver_memory,
                ready_file=ready_file,
            )
        )
    )
