"""The polite end of a process: the first signal asks it to stop, the second does not ask."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final

import structlog

logger = structlog.get_logger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process at once, with 128 + its number.

    Called from the running event loop, once, in the main thread.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def receive(received: signal.Signals) -> None:
        if stop.is_set():
            logger.warning("process.killed", signal=received.name)
            os._exit(128 + received)
        logger.info("process.stop_requested", signal=received.name)
        stop.set()

    for handled in _SIGNALS:
        loop.add_signal_handler(handled, receive, handled)
    return stop
