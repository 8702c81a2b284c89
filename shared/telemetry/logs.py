"""Structured logs: one event a line, JSON off a terminal, with the ids of the trace that was active."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import Final, TextIO

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger


class LogFormat(StrEnum):
    """`AUTO` writes for people on a terminal and JSON everywhere else."""

    AUTO = "AUTO"
    CONSOLE = "CONSOLE"
    JSON = "JSON"


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


# Libraries that narrate their own work at INFO; what goes wrong in them is still seen.
_TALKATIVE: Final = ("asyncio", "grpc", "httpx", "httpcore", "py4j", "pyiceberg", "urllib3")


def configure_logging(
    *,
    level: LogLevel | str = LogLevel.INFO,
    log_format: LogFormat | str = LogFormat.AUTO,
    stream: TextIO | None = None,
) -> None:
    """Send the events of structlog and of the standard library's loggers to one stream (standard error) in one form.

    Called once, by a process's composition root; a later call replaces what an earlier one set up.
    """
    level, log_format = LogLevel(level), LogFormat(log_format)
    stream = sys.stderr if stream is None else stream
    for_people = log_format is LogFormat.CONSOLE or (log_format is LogFormat.AUTO and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _add_trace_ids,
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    rendering: list[Processor] = (
        # Without the values of local variables, which may be secrets, and whose rendering holds every other thread up.
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if for_people
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.value)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def _add_trace_ids(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event
