"""Calls that come while a statement is under way are answered together by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from control_plane.domain.errors import StoreUnavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_MOST: Final = 256
_GATHER: Final = 0.002


class Together(Generic[Item, Answer]):
    """Under load a statement serves everybody who waits; a lone caller waits for nobody.

    Where the last statement served several, the next one is held back for two milliseconds, as PostgreSQL's
    commit_delay does for commits: a round trip for each costs more than the wait.

    A batch begins after the calls that it answers, so nothing is read that is older than its call. A batch that is
    refused is done again item by item, so that each caller gets the error of its own item alone.
    """

    def __init__(self, answer: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]) -> None:
        self._answer = answer
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._arrived = asyncio.Event()
        self._over = False

    async def __call__(self, item: Item) -> Answer:
        """The item's answer. A caller that is cancelled takes nothing back that is under way."""
        if self._over:
            raise StoreUnavailable("the store is closed")
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answered))
        self._arrived.set()
        return await answered

    async def run(self) -> None:
        """Serve the callers until cancelled."""
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        try:
            while True:
                await self._arrived.wait()
                if len(batch) > 1:
                    await asyncio.sleep(_GATHER)
                batch = [call for call in self._waiting[:_MOST] if not call[1].done()]
                del self._waiting[:_MOST]
                if not self._waiting:
                    self._arrived.clear()
                await self._serve(batch)
        finally:
            self._over = True
            for _, answered in (*batch, *self._waiting):
                if not answered.done():
                    answered.set_exception(StoreUnavailable("the store is being closed"))

    async def _serve(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        try:
            answers = await self._answer([item for item, _ in batch])
        except Exception as error:
            if len(batch) == 1 or isinstance(error, StoreUnavailable):
                # Whether it was done is not known then, so it must not be done again.
                for _, answered in batch:
                    _fail(answered, error)
                return
            for call in batch:
                await self._serve([call])
            return
        for (_, answered), answer in zip(batch, answers, strict=True):
            if not answered.done():
                answered.set_result(answer)


def _fail(answered: asyncio.Future[Answer], error: Exception) -> None:
    if not answered.done():
        answered.set_exception(error)
