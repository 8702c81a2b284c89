"""A step taken again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import structlog

from control_plane.ports.records import Hints

logger = structlog.get_logger(__name__)

_JITTER: Final = 0.1
_STEP_WITHIN: Final = 30.0


async def repeat(
    name: str,
    step: Callable[[], Awaitable[object]],
    *,
    every: timedelta,
    hints: Hints | None = None,
    topic: str = "",
    again: bool = False,
) -> None:
    """Take `step` for ever, at the latest `every` ± 10 % after the last, sooner on a hint of `topic`.

    With `again`, a step that returned a positive number is followed by the next one at once. A step that fails is
    logged, and the loop goes on: what it left undone is still due at the next.
    """
    while True:
        more = False
        try:
            async with asyncio.timeout(_STEP_WITHIN):
                done = await step()
            more = again and isinstance(done, int) and done > 0
        except Exception:
            logger.exception("loop.step_failed", loop=name)
        if more:
            await asyncio.sleep(0)
            continue
        wait = every * random.uniform(1 - _JITTER, 1 + _JITTER)
        if hints is not None:
            await hints.wait(topic, wait)
        else:
            await asyncio.sleep(wait.total_seconds())
