from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster, FakeTables, cluster
from tests.support.postgres import PostgresServer
from tests.support.processes import Processes


@pytest_asyncio.fixture
async def one_replica(processes: Processes, postgres_server: PostgresServer) -> AsyncIterator[Cluster]:
    async with cluster(processes, postgres_server) as running:
        yield running


@pytest_asyncio.fixture
async def three_replicas(processes: Processes, postgres_server: PostgresServer) -> AsyncIterator[Cluster]:
    async with cluster(processes, postgres_server, replicas=3) as running:
        yield running


@pytest.fixture
def fake(tmp_path: Path) -> FakeTables:
    directory = tmp_path / "fake"
    directory.mkdir()
    return FakeTables(directory)
