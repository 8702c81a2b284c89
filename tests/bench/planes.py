"""Control planes, comparators and databases for the benches, as processes."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control_plane.store.postgres.embedded import embedded_postgres, erase_embedded_postgres
from control_plane.store.postgres.schema import migrate
from floe.v1 import catalog_pb2, catalog_pb2_grpc, policy_pb2, policy_pb2_grpc
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually

START_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Plane:
    """A running control plane."""

    public: str
    executors: str
    dsn: str


@asynccontextmanager
async def server() -> AsyncIterator[tuple[PostgresServer, Path]]:
    """A PostgreSQL of the bench's own, and its directory."""
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as folder:
        os.chmod(folder, 0o711)
        directory = Path(folder) / "pg"
        async with embedded_postgres(directory) as dsn:
            # So that a figure can begin at a commit; it takes a restart.
            connection = await asyncpg.connect(dsn)
            await connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
            await connection.close()
        async with embedded_postgres(directory) as dsn:
            yield PostgresServer(dsn), directory
        erase_embedded_postgres(directory)


@asynccontextmanager
async def control_plane(postgres: PostgresServer) -> AsyncIterator[Plane]:
    """A control plane on a database of its own, ready to serve."""
    async with postgres.database() as dsn, AsyncExitStack() as stack:
        await migrate(dsn)
        plane = Plane(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", dsn)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("FLOE_")},
            "FLOE_STORE__TYPE": "postgres",
            "FLOE_STORE__DSN": dsn,
            "FLOE_GRPC__ADDRESS": plane.public,
            "FLOE_EXECUTOR_API__ADDRESS": plane.executors,
            "FLOE_TELEMETRY__LOG_LEVEL": "WARNING",
        }
        serving = await stack.enter_async_context(process("-m", "control_plane.cli", "serve", environment=environment))
        await ready(plane.public, serving)
        yield plane


@asynccontextmanager
async def process(
    *arguments: str, environment: dict[str, str] | None = None, answers: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process that ends with the block. What it prints goes to stderr, unless it `answers` there."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stdout=asyncio.subprocess.PIPE if answers else sys.stderr
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
        await asyncio.wait_for(started.wait(), 30)


@asynccontextmanager
async def bare(dsn: str) -> AsyncIterator[str]:
    """The comparator's address."""
    async with process("-m", "tests.bench.bare", dsn, answers=True) as started:
        assert started.stdout is not None
        port = (await asyncio.wait_for(started.stdout.readline(), START_WITHIN)).decode().strip()
        yield f"127.0.0.1:{port}"


async def ready(address: str, started: asyncio.subprocess.Process) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)

        async def serving() -> bool:
            if started.returncode is not None:
                raise RuntimeError(f"the control plane ended with {started.returncode}; what it said is above")
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        await eventually(serving, within=START_WITHIN, pause=0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def prepare(channel: grpc.aio.Channel) -> None:
    """A catalog and a policy that governs every table of it."""
    catalogs = catalog_pb2_grpc.CatalogServiceStub(channel)
    record = catalog_pb2.Catalog(name="lake", type=catalog_pb2.CATALOG_TYPE_REST, uri="http://127.0.0.1:1")
    await catalogs.CreateCatalog(catalog_pb2.CreateCatalogRequest(catalog=record), timeout=10)
    policies = policy_pb2_grpc.PolicyServiceStub(channel)
    await policies.CreatePolicy(policy_pb2.CreatePolicyRequest(policy=compaction("bench")), timeout=10)


def compaction(name: str) -> policy_pb2.Policy:
    policy = policy_pb2.Policy(name=name, table_pattern="lake.**")
    policy.rewrite_data_files.SetInParent()
    return policy
