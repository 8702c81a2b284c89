"""A scripted server, and clients connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from floe_client import AsyncFloe
from tests.support.scripted_server import ScriptedServer
from tests.support.scripted_server import scripted_server as running


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with running() as script:
        yield script


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[AsyncFloe]:
    async with AsyncFloe(server.address, timeout=20) as connected:
        yield connected
