from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.cluster import Cluster, cluster
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
