"""The command line of Floe, `floe`. What a command needs is imported when it runs, so that help comes at once."""

from __future__ import annotations


def main() -> None:
    """The entry point of the `floe` command."""
    from floe_client.cli.app import run

    run()
