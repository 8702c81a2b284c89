"""One deployment with a real Spark for all tests here: a driver takes long to start, so only a kill costs a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from pyiceberg.table import Table

from tests.support.cluster import Cluster, RunningExecutor, cluster, register
from tests.support.content import slow_table
from tests.support.iceberg import RestCatalog
from tests.support.postgres import PostgresServer
from tests.support.processes import STASH, running_processes
from tests.support.proxies import Proxy

_POINTS = ("first_spark_task_running", "committed_not_reported", "active_spark_jobs")
# Python, a driver and readers of tables share a busy machine: as short as nobody starves by.
_LEASE = {"FLOE_LEASE__TTL": "PT9S", "FLOE_LEASE__HEARTBEAT": "PT1S"}


@dataclass(slots=True)
class Deployment:
    """A replica, an executor, and a REST catalog behind a proxy. Each test leaves them working."""

    cluster: Cluster
    catalog: RestCatalog
    proxy: Proxy
    _executor: RunningExecutor | None = None
    _started: int = 0

    async def executor(self) -> RunningExecutor:
        """The one that lives, and is attached; another one if the last was killed."""
        if self._executor is None or self._executor.child.code is not None:
            self._started += 1
            self._executor = self.cluster.start_executor(f"executor-{self._started}", environ={}, points=_POINTS)
        await self.cluster.attached(self._executor)
        return self._executor

    def table(self, namespace: str, *, megabytes: int = 4) -> Table:
        return slow_table(self.catalog.open(), (namespace, "messy"), megabytes=megabytes)

    async def trigger(self, table: Table) -> str:
        """The id of a new compaction of the table."""
        (handle,) = (await self.cluster.client().trigger(".".join(("lake", *table.name())))).operations
        return handle.id


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def deployment(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    rest_catalog: RestCatalog,
) -> AsyncIterator[Deployment]:
    target = urlsplit(rest_catalog.uri)
    assert target.hostname is not None
    assert target.port is not None
    async with (
        Proxy(target.hostname, target.port).running() as proxy,
        running_processes(tmp_path_factory.mktemp("deployment")) as processes,
        cluster(processes, postgres_server, timing=_LEASE) as running,
    ):
        request.node.stash[STASH] = processes
        await register(running.client(), proxy.uri + target.path)
        yield Deployment(running, rest_catalog, proxy)
