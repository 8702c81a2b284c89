"""What a log may show of an error."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared.telemetry.logs import LogFormat, configure_logging

_CANARY = "canary-b7f1"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The process's own logging, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize("log_format", [LogFormat.CONSOLE, LogFormat.JSON])
def test_a_traceback_shows_where_and_never_the_values_of_variables(log_format: LogFormat) -> None:
    written = io.StringIO()
    configure_logging(log_format=log_format, stream=written)

    def connect() -> None:
        password = "-".join(("canary", "b7f1"))
        raise ConnectionError(f"refused after {len(password)} characters")

    try:
        connect()
    except ConnectionError:
        structlog.get_logger("test").exception("engine.failed")

    shown = written.getvalue()
    assert "engine.failed" in shown
    assert "refused after 11 characters" in shown
    assert "in connect" in shown
    assert _CANARY not in shown
