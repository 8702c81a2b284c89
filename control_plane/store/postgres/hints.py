"""Hints between replicas by LISTEN and NOTIFY, on one connection of their own and never in a transaction of the work.

A commit that notifies takes a lock of the whole server, so hints are gathered and sent together, at most twenty times a
second. Nothing depends on one arriving: when the connection was away, every topic counts as hinted.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from control_plane.domain.errors import StoreUnavailable
from control_plane.store.hints import TOPICS, LocalHints
from control_plane.store.postgres.database import open_connection, translated

if TYPE_CHECKING:
    from control_plane.store.postgres.database import Connection

logger: Final = structlog.get_logger(__name__)

_CHANNEL: Final = "floe_hints"
_GATHER: Final = 0.05
# The payload is who says it, who was woken already, and the topics.
_NOTIFY: Final = "SELECT pg_notify($1, $2)"
_ALIVE: Final = "SELECT 1"
_CHECK_EVERY: Final = 30.0
_RECONNECT_AFTER: Final = 1.0
_TIMEOUT: Final = timedelta(seconds=10)
_LAST_WORDS_WITHIN: Final = 0.5


class PostgresHints(LocalHints):
    """The whole of `ports.records.Hints` over all replicas on one database."""

    def __init__(self, dsn: str, replica: str) -> None:
        super().__init__()
        self._dsn = dsn
        self._replica = replica
        self._unsent: set[str] = set()
        self._something = asyncio.Event()

    def give(self, topic: str) -> None:
        super().give(topic)
        self._unsent.add(topic)
        self._something.set()

    async def run(self) -> None:
        """Send and receive until cancelled; a connection that is lost is made again."""
        while True:
            try:
                with translated():
                    connection = await open_connection(self._dsn, deadline=_TIMEOUT)
                    try:
                        await self._converse(connection)
                    finally:
                        # An orderly end asks the server and waits; this connection has nothing to lose.
                        connection.terminate()
            except StoreUnavailable as error:
                logger.warning("hints.interrupted", error=str(error))
            await asyncio.sleep(_RECONNECT_AFTER)

    async def _converse(self, connection: Connection) -> None:
        await connection.add_listener(_CHANNEL, self._heard)
        # Whatever was said while nobody listened.
        for topic in TOPICS:
            super().give(topic)
        try:
            while True:
                try:
                    async with asyncio.timeout(_CHECK_EVERY):
                        await self._something.wait()
                except TimeoutError:
                    # A listener that died without a word is only noticed by speaking to it.
                    await connection.execute(_ALIVE)
                    continue
                await asyncio.sleep(_GATHER)
                await self._say(connection)
        except asyncio.CancelledError:
            # The last words of a replica that stops: what it leaves is for the others.
            with suppress(StoreUnavailable), translated():
                async with asyncio.timeout(_LAST_WORDS_WITHIN):
                    await self._say(connection)
            raise

    async def _say(self, connection: Connection) -> None:
        self._something.clear()
        topics, self._unsent = self._unsent, set()
        if topics:
            await connection.execute(_NOTIFY, _CHANNEL, f"{self._replica} {' '.join(sorted(topics))}")

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        replica, *topics = str(payload).split(" ")
        if replica == self._replica:
            return
        for topic in topics:
            if topic in TOPICS:
                super().give(topic)
