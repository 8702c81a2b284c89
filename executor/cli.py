"""`floe-executor`: serve, check-config, version."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

# What a command needs it imports itself, so that help and mistakes in the settings answer at once.
if TYPE_CHECKING:
    from executor.config import ExecutorConfig


class Exit(IntEnum):
    """What the process says at its end."""

    OK = 0
    FAILED = 1
    CONFIGURATION = 2
    """The command line or the settings are wrong, or the engine cannot start with them."""
    REFUSED = 5
    """The control plane does not want this executor, and trying again would not help."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="floe-executor",
        description="An executor of Floe. Settings: FLOE_… in the environment, then the YAML file FLOE_CONFIG.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong settings, 5 refused by the control plane.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="run until SIGTERM or ^C; a second signal ends it at once")
    commands.add_parser("check-config", help="print the effective settings, secrets masked")
    commands.add_parser("version", help="print the version")
    command = parser.parse_args(arguments).command
    if command == "version":
        from importlib import metadata

        _say(metadata.version("floe"))
        return Exit.OK
    from executor.config import read_config
    from shared.runtime.settings import ConfigurationError, shown_settings

    try:
        config = read_config(os.environ)
    except ConfigurationError as error:
        _complain(str(error))
        return Exit.CONFIGURATION
    if command == "check-config":
        for name, value in shown_settings(config).items():
            _say(f"{name}={value}")
        return Exit.OK
    return _serve(config)


def _serve(config: ExecutorConfig) -> int:
    """Run it to its end. What an operator can put right is said in one line, without a traceback."""
    from executor.app import WatchdogLost, serve
    from executor.attachment import Refused
    from executor.errors import ConfigurationError
    from shared.runtime.signals import stop_on_signals

    async def run() -> None:
        await serve(config, stop_on_signals())

    codes: dict[type[BaseException], Exit] = {
        ConfigurationError: Exit.CONFIGURATION,
        Refused: Exit.REFUSED,
        WatchdogLost: Exit.FAILED,
    }
    try:
        asyncio.run(run())
    except Exception as error:
        for cause in _causes(error):
            if type(cause) in codes:
                _complain(f"floe-executor: {cause}")
                return codes[type(cause)]
        raise
    return Exit.OK


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that a group of tasks ended with."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _complain(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
