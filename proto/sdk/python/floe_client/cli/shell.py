"""What every command shares: where to call, how to print, and how it ends."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from floe_client.cli.exits import Exit, exit_code, report
from floe_client.errors import FloeError

if TYPE_CHECKING:
    from floe_client.sync import Floe

P = ParamSpec("P")


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Shell:
    """The options that every command has."""

    server: str | None
    timeout: float
    output: Output

    @property
    def as_json(self) -> bool:
        return self.output is Output.JSON

    def connect(self) -> Floe:
        """A client, to be closed."""
        from floe_client.sync import Floe

        return Floe(self.server, timeout=self.timeout)


_SHARED = (
    inspect.Parameter(
        "server",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            str | None,
            typer.Option("--server", envvar="FLOE_SERVER", help="Address of the control plane.", metavar="HOST:PORT"),
        ],
    ),
    inspect.Parameter(
        "timeout",
        inspect.Parameter.KEYWORD_ONLY,
        default=30.0,
        annotation=Annotated[
            float,
            typer.Option(
                "--timeout", metavar="SECONDS", envvar="FLOE_TIMEOUT", min=0.001, help="Seconds for one call."
            ),
        ],
    ),
    inspect.Parameter(
        "output",
        inspect.Parameter.KEYWORD_ONLY,
        default=Output.TABLE,
        annotation=Annotated[
            Output, typer.Option("--output", "-o", envvar="FLOE_OUTPUT", help="For people, or for machines.")
        ],
    ),
)


def command(
    app: typer.Typer, name: str, *, example: str
) -> Callable[[Callable[Concatenate[Shell, P], None]], Callable[Concatenate[Shell, P], None]]:
    """Register a function as a command of `app`: it gets a `Shell` first, and its errors become exit codes."""

    def register(function: Callable[Concatenate[Shell, P], None]) -> Callable[Concatenate[Shell, P], None]:
        # The command line's parser calls by name, which a ParamSpec cannot say.
        body: Callable[..., None] = function

        def run(*, server: str | None, timeout: float, output: Output, **given: Any) -> None:
            shell = Shell(server, timeout, output)
            try:
                body(shell, **given)
            except FloeError as error:
                report(error, as_json=shell.as_json)
                raise typer.Exit(exit_code(error)) from error
            except KeyboardInterrupt:
                raise typer.Exit(Exit.INTERRUPTED) from None
            except BrokenPipeError:
                # Whoever read our output has seen enough; without this the interpreter complains at its end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(Exit.OK) from None

        hints = get_type_hints(function, include_extras=True)
        _shell, *own = inspect.signature(function).parameters.values()
        parameters = [
            each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY) for each in own
        ] + list(_SHARED)
        run.__doc__ = function.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads it
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        app.command(name, epilog=f"Example: {example}")(run)
        return function

    return register
