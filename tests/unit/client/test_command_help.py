"""The help of every command, as users see it. `FLOE_WRITE_SNAPSHOTS=1` writes it anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from floe_client.cli.app import app
from floe_client.cli.exits import EXPLAINED, Exit

SNAPSHOT = Path(__file__).with_name("help.txt")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from commands(inner, (*path, name))


def help_text() -> str:
    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"})
    texts = []
    for path in commands(typer.main.get_command(app)):
        result = runner.invoke(app, [*path, "--help"], prog_name="floe")
        assert result.exit_code == 0, result.output
        texts.append(f"$ {' '.join(('floe', *path))} --help\n{result.output}")
    return "\n".join(line.rstrip() for line in "\n".join(texts).splitlines()) + "\n"


def test_the_help_is_what_was_agreed() -> None:
    text = help_text()
    if os.environ.get("FLOE_WRITE_SNAPSHOTS"):
        SNAPSHOT.write_text(text)

    assert text == SNAPSHOT.read_text()


def test_the_help_explains_every_exit_code() -> None:
    for code in Exit:
        assert f"{code.value} " in EXPLAINED


@pytest.mark.parametrize("path", [path for path in commands(typer.main.get_command(app)) if len(path) > 1])
def test_every_command_has_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner(env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).invoke(app, [*path, "--help"])

    assert f"Example: floe {' '.join(path)}" in " ".join(result.output.split())
