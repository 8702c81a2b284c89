"""`floe-control-plane`: serve, migrate, check-config, version."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine, Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

# What a command needs it imports itself, so that help, version and mistakes in the settings answer at once.
if TYPE_CHECKING:
    from control_plane.config import ControlPlaneConfig


class Exit(IntEnum):
    """What the process says at its end."""

    OK = 0
    FAILED = 1
    CONFIGURATION = 2
    """The command line or the settings are wrong."""
    DATABASE = 3
    """The database cannot be reached, or must not be used as it is."""
    ADDRESS = 4
    """An address to listen on is taken."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="floe-control-plane",
        description="The control plane of Floe. Settings: FLOE_… in the environment, then the YAML file FLOE_CONFIG.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong settings, 3 database not usable, 4 address taken.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="run until SIGTERM or ^C")
    commands.add_parser("migrate", help="bring the database's schema to this version")
    commands.add_parser("check-config", help="print the effective settings, secrets masked")
    commands.add_parser("version", help="print the version")
    command = parser.parse_args(arguments).command
    if command == "version":
        from importlib import metadata

        _say(metadata.version("floe"))
        return Exit.OK
    from control_plane.config_sources import ConfigurationError, read_config

    try:
        config = read_config(os.environ)
    except ConfigurationError as error:
        _complain(str(error))
        return Exit.CONFIGURATION
    match command:
        case "check-config":
            return _check_config(config)
        case "migrate":
            return _run(_migrate(config))
        case _:
            return _run(_serve(config))


def _check_config(config: ControlPlaneConfig) -> int:
    from control_plane.config_sources import shown_settings

    for name, value in shown_settings(config).items():
        _say(f"{name}={value}")
    for warning in config.warnings():
        _complain(f"warning: {warning}")
    return Exit.OK


async def _serve(config: ControlPlaneConfig) -> int:
    from control_plane.app import serve
    from shared.runtime.signals import stop_on_signals

    await serve(config, stop_on_signals())
    return Exit.OK


async def _migrate(config: ControlPlaneConfig) -> int:
    from control_plane.opening import migrate_store
    from shared.telemetry.logs import configure_logging

    configure_logging(level=config.telemetry.log_level, log_format=config.telemetry.log_format)
    applied = await migrate_store(config.store)
    for name in applied:
        _say(f"applied {name}")
    _say("the schema is up to date")
    return Exit.OK


def _run(work: Coroutine[Any, Any, int]) -> int:
    """Run it to its end. What an operator can put right is said in one line, without a traceback."""
    import uvloop

    from control_plane.domain.errors import StoreUnavailable
    from control_plane.rpc.server import AddressInUse
    from control_plane.store.postgres.database import DatabaseUnreachable
    from control_plane.store.postgres.embedded import EmbeddedPostgresError
    from control_plane.store.postgres.schema import UnusableDatabase

    codes = {
        AddressInUse: Exit.ADDRESS,
        DatabaseUnreachable: Exit.DATABASE,
        UnusableDatabase: Exit.DATABASE,
        EmbeddedPostgresError: Exit.DATABASE,
    }
    try:
        # uvloop: a call here is a handful of short waits, and what they cost is mostly the loop's own work.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        for cause in _causes(error):
            if type(cause) in codes:
                _complain(f"floe-control-plane: {cause}")
                return codes[type(cause)]
            if isinstance(cause, StoreUnavailable):
                why = cause.__cause__ or cause
                _complain(f"floe-control-plane: the database did not answer: {why}; see FLOE_STORE__DSN")
                return Exit.DATABASE
        raise


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that a group of tasks ended with."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
