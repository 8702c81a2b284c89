"""A TCP proxy that can lose an answer: the request arrives and is carried out, and nobody ever hears of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_PIECE: Final = 64 * 1024


class Proxy:
    """Between HTTP/1.1 clients and one server. Once `swallow` is set, the answer to the first request whose method and
    path hold it is kept back, and every later connection is passed on as ever."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._swallow: bytes | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self.swallowed = asyncio.Event()
        """The server has answered, and the answer was kept back."""

    @property
    def uri(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def swallow_answer_to(self, request_line: str) -> None:
        """Keep back the answer to the next request whose first line holds this, e.g. `POST /v1/namespaces/`."""
        self._swallow = request_line.encode()
        self.swallowed.clear()

    def break_down(self) -> None:
        """Whoever is connected is cut off, and nobody else is served, until `repair`."""
        self._refusing = True
        for writer in self._connections:
            writer.close()

    def repair(self) -> None:
        self._refusing = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.close()
            return
        try:
            back, forth = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        self._connections |= {writer, forth}
        losing = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._requests(reader, forth, losing))
                tasks.create_task(self._answers(back, writer, losing))
        except* OSError:
            pass
        finally:
            self._connections -= {writer, forth}
            for end in (writer, forth):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        while piece := await reader.read(_PIECE):
            if self._swallow is not None and self._swallow in piece.split(b"\r\n", 1)[0]:
                self._swallow = None
                losing.set()
            writer.write(piece)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        while piece := await reader.read(_PIECE):
            if losing.is_set():
                # From the first byte of it on, the server has carried the request out.
                self.swallowed.set()
                continue
            writer.write(piece)
            await writer.drain()
        writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()
            self.break_down()
