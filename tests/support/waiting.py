"""Waiting for a condition, with a deadline that fails the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T | None]], *, within: float = 15.0, pause: float = 0.005) -> T:
    """The first true answer of `look`. Fails after `within` seconds with the last answer."""
    answer: T | None = None
    try:
        async with asyncio.timeout(within):
            while not (answer := await look()):  # noqa: ASYNC110 - what is looked at has no event
                await asyncio.sleep(pause)
    except TimeoutError:
        raise AssertionError(f"not so within {within:g} s; last seen: {answer!r}") from None
    return answer
