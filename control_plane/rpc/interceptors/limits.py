"""So many calls at a time, none for ever, and no stream beyond the server's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Final

from control_plane.domain.errors import TooManyRequests
from control_plane.rpc.errors import ServerLeaving
from control_plane.rpc.interceptors.chain import Call

# Whoever watches over this process must be answered above all when it is busy.
_HEALTH_CHECK: Final = "grpc.health.v1.Health/Check"


class ConcurrencyLimit:
    """Refuses what exceeds the limits; calls and streams are counted apart, so watchers cannot shut callers out."""

    def __init__(self, *, calls: int, streams: int) -> None:
        self._limits = {False: calls, True: streams}
        self._under_way = {False: 0, True: 0}

    @asynccontextmanager
    async def __call__(self, call: Call) -> AsyncIterator[None]:
        if call.method == _HEALTH_CHECK:
            yield
            return
        limit = self._limits[call.streams]
        if self._under_way[call.streams] >= limit:
            raise TooManyRequests(limit=f"{limit} {'streams' if call.streams else 'calls'} at a time")
        self._under_way[call.streams] += 1
        try:
            yield
        finally:
            self._under_way[call.streams] -= 1


class DefaultDeadline:
    """Ends a call whose client set no deadline; streams may last."""

    def __init__(self, within: timedelta) -> None:
        self._within = within.total_seconds()

    def __call__(self, call: Call) -> AbstractAsyncContextManager[object] | None:
        if call.streams or call.context.time_remaining() is not None:
            return None
        return asyncio.timeout(self._within)


class StreamEnds:
    """Lets the server end its streams, which would otherwise hold its stop up for the whole grace."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()

    def __call__(self, call: Call) -> AbstractAsyncContextManager[object] | None:
        return self._stream() if call.streams else None

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[None]:
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._open.add(scope)
                yield
        except TimeoutError:
            if scope.expired():
                raise ServerLeaving from None
            raise
        finally:
            self._open.discard(scope)

    def end(self) -> None:
        now = asyncio.get_running_loop().time()
        for scope in self._open:
            scope.reschedule(now)
