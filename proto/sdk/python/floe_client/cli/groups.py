"""How the command line's groups are made."""

from __future__ import annotations

import typer


def group(help: str) -> typer.Typer:
    """A noun, under which its verbs stand."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
