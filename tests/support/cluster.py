"""A whole deployment of real processes on one database: replicas of the control plane, and executors."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from floe_client import AsyncFloe
from floe_client import types as floe
from tests.support.failpoints import Gate
from tests.support.fake_tables import VARIABLE, Behaviours, EffectLog
from tests.support.postgres import PostgresServer
from tests.support.processes import Child, Processes, free_port
from tests.support.waiting import eventually

STARTS_WITHIN: Final = 60.0
ENGINE_STARTS_WITHIN: Final = 120.0

TIMING: Final = {
    "FLOE_LEASE__TTL": "PT3S",
    "FLOE_LEASE__HEARTBEAT": "PT1S",
    "FLOE_LEASE__LOCK_DELAY": "PT1S",
    "FLOE_SHUTDOWN__DRAIN_WITHIN": "PT2S",
    "FLOE_SHUTDOWN__GRACE": "PT1S",
}
"""A lease as short as it can be set: what follows from a lapse comes in seconds."""


@dataclass(slots=True)
class Replica:
    """One replica of the control plane. Its addresses stay the same when it is started again."""

    name: str
    api: str
    executor_api: str
    child: Child
    directory: Path

    def gate(self, point: str) -> Gate:
        return Gate(self.directory, point)


@dataclass(slots=True)
class RunningExecutor:
    """One executor process, and the directory by which it is held at points."""

    name: str
    child: Child
    directory: Path
    id: str = ""

    def gate(self, point: str) -> Gate:
        return Gate(self.directory, point)


@dataclass(slots=True)
class Cluster:
    """One database, and what runs on it. Every process of it ends with its `Processes`."""

    processes: Processes
    dsn: str
    timing: Mapping[str, str] = field(default_factory=lambda: dict(TIMING))
    environ: Mapping[str, str] = field(default_factory=dict)
    """For every process of it."""
    points: Sequence[str] = ()
    """Where each replica can be held."""
    replicas: list[Replica] = field(default_factory=list)
    executors: dict[str, RunningExecutor] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _clients: dict[str, AsyncFloe] = field(default_factory=dict)

    async def migrate(self) -> None:
        await self.processes.run("migrate", "control_plane.cli", "migrate", environ=self._database)

    async def add_replica(self) -> Replica:
        name = f"replica-{len(self.replicas)}"
        api, executor_api = (f"127.0.0.1:{free_port()}" for _ in range(2))
        directory = self.processes.directory / name
        directory.mkdir()
        replica = Replica(name, api, executor_api, self._serve(name, api, executor_api, directory), directory)
        self.replicas.append(replica)
        return replica

    async def add_replicas(self, number: int) -> None:
        """So many replicas, all of them SERVING."""
        added = [await self.add_replica() for _ in range(number)]
        for replica in added:
            await self.serving(replica)

    async def restart(self, replica: Replica) -> None:
        """Start a replica that has ended once more, with the same addresses."""
        assert replica.child.code is not None, f"{replica.name} still runs"
        replica.child = self._serve(replica.name, replica.api, replica.executor_api, replica.directory)
        await self.serving(replica)

    async def serving(self, replica: Replica) -> None:
        async with grpc.aio.insecure_channel(replica.api) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)

            async def look() -> bool:
                if replica.child.code is not None:
                    raise AssertionError(f"{replica.name} ended with {replica.child.code}\n{replica.child.tail()}")
                try:
                    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=2)
                except grpc.aio.AioRpcError:
                    return False
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            await eventually(look, within=STARTS_WITHIN, pause=0.05)

    def client(self, replica: Replica | None = None) -> AsyncFloe:
        """A client of one replica, the first unless told otherwise."""
        address = (replica or self.replicas[0]).api
        if address not in self._clients:
            self._clients[address] = AsyncFloe(address)
            self._stack.push_async_callback(self._clients[address].close)
        return self._clients[address]

    def start_executor(
        self,
        name: str,
        *,
        environ: Mapping[str, str],
        slots: int = 1,
        points: Sequence[str] = (),
        replicas: Sequence[Replica] = (),
    ) -> RunningExecutor:
        """Start an executor that attaches to any of these replicas (else of all); `attached` waits for it.

        It can be held at any of the points.
        """
        directory = self.processes.directory / f"{name}-{len(self.processes.children)}"
        state = directory / "state"
        state.mkdir(parents=True)
        module = ["executor.cli", "serve"]
        settings = {
            "FLOE_EXECUTOR__CONTROL_PLANE": ",".join(replica.executor_api for replica in replicas or self.replicas),
            "FLOE_EXECUTOR__DISPLAY_NAME": name,
            "FLOE_EXECUTOR__SLOTS": str(slots),
            "FLOE_EXECUTOR__STATE_DIRECTORY": str(state),
            **self.environ,
            **environ,
        }
        command = (
            [sys.executable, "-m", *module]
            if not points
            else [sys.executable, "-m", "tests.support.failpoints", ",".join(points), str(directory), *module]
        )
        executor = RunningExecutor(name, self.processes.start(name, command, settings), directory)
        self.executors[name] = executor
        return executor

    async def attached(self, executor: RunningExecutor, *, within: float = ENGINE_STARTS_WITHIN) -> floe.Executor:
        """Wait until it is ATTACHED; how the control plane knows it."""

        async def look() -> floe.Executor | None:
            if executor.child.code is not None:
                raise AssertionError(f"{executor.name} ended with {executor.child.code}\n{executor.child.tail()}")
            async for known in self.client().executors.list():
                if known.display_name == executor.name and known.state == floe.ExecutorState.EXECUTOR_STATE_ATTACHED:
                    return known
            return None

        known = await eventually(look, within=within, pause=0.1)
        executor.id = known.id
        return known

    async def reached(self, executor: RunningExecutor, point: str, *, within: float = 60.0) -> None:
        """Wait until it has come to that point, which was armed before."""

        async def look() -> bool:
            if executor.child.code is not None:
                raise AssertionError(f"{executor.name} ended with {executor.child.code}\n{executor.child.tail()}")
            return executor.gate(point).is_reached

        await eventually(look, within=within, pause=0.02)

    async def sql(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Ask the database itself, or move its clock by writing rows with past times."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def skip_back_off(self) -> None:
        """Retries that wait are due now."""
        await self.sql("UPDATE operations SET not_before = NULL WHERE state = 'QUEUED'")

    async def state(self, operation: str, *states: str, within: float = 60.0) -> floe.Operation:
        """Wait until the operation is in one of these states."""
        wanted = {floe.OperationState.Value(f"OPERATION_STATE_{state}") for state in states}

        async def look() -> floe.Operation | None:
            known = await self.client().operations.get(operation)
            return known if known.state in wanted else None

        return await eventually(look, within=within, pause=0.05)

    async def ended(self, operation: str, *, within: float = 90.0, hurried: bool = True) -> floe.Operation:
        """Wait for the operation's end; a retry of it need not wait for its back-off."""
        final = {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "SKIPPED"}

        async def look() -> floe.Operation | None:
            known = await self.client().operations.get(operation)
            if hurried and known.state == floe.OperationState.OPERATION_STATE_QUEUED and known.attempt:
                await self.skip_back_off()
            return known if state_name(known) in final else None

        return await eventually(look, within=within, pause=0.1)

    @property
    def _database(self) -> Mapping[str, str]:
        return {"FLOE_STORE__TYPE": "postgres", "FLOE_STORE__DSN": self.dsn}

    def _serve(self, name: str, api: str, executor_api: str, directory: Path) -> Child:
        settings = {
            **self._database,
            "FLOE_GRPC__ADDRESS": api,
            "FLOE_EXECUTOR_API__ADDRESS": executor_api,
            **self.timing,
            **self.environ,
        }
        module = ["control_plane.cli", "serve"]
        held = ["tests.support.failpoints", ",".join(self.points), str(directory)] if self.points else []
        return self.processes.start(name, [sys.executable, "-m", *held, *module], settings)


def state_name(operation: floe.Operation) -> str:
    return floe.OperationState.Name(operation.state).removeprefix("OPERATION_STATE_")


def effects_name(operation: floe.Operation) -> str:
    return floe.Effects.Name(operation.effects).removeprefix("EFFECTS_")


@asynccontextmanager
async def cluster(
    processes: Processes,
    postgres: PostgresServer,
    *,
    replicas: int = 1,
    timing: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    points: Sequence[str] = (),
) -> AsyncIterator[Cluster]:
    """A deployment on a database of its own, SERVING."""
    async with postgres.database() as dsn:
        # Before the database goes, so must everybody who is connected to it.
        timing = {**TIMING, **(timing or {})}
        running = Cluster(processes, dsn, timing=timing, environ=environ or {}, points=points)
        try:
            await running.migrate()
            await running.add_replicas(replicas)
            yield running
        finally:
            await running._stack.aclose()
            await processes.close()


async def register(client: AsyncFloe, uri: str, *, catalog: str = "lake", policy: str = "nightly") -> None:
    """A REST catalog, and a policy by which every table of it is compacted."""
    await client.catalogs.create(floe.Catalog(name=catalog, type=floe.CatalogType.CATALOG_TYPE_REST, uri=uri))
    await client.policies.create(compaction(policy, f"{catalog}.**"))


def compaction(name: str, pattern: str) -> floe.Policy:
    policy = floe.Policy(name=name, table_pattern=pattern)
    policy.rewrite_data_files.min_input_files = 2
    return policy


@dataclass(frozen=True, slots=True)
class FakeTables:
    """Fake tables behind real executors: their catalog, engine and observation lane are the test's own."""

    directory: Path

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "FLOE_ENGINE_TYPE": "tests.support.fake_engine:create",
            "FLOE_EXECUTOR__OBSERVATION_LANE": "tests.support.fake_engine:lane",
            VARIABLE: str(self.directory),
        }

    @property
    def log(self) -> EffectLog:
        return EffectLog(self.directory)

    @property
    def behaviours(self) -> Behaviours:
        return Behaviours(self.directory)

    async def hangs(self, operation: str, epoch: int, *, within: float = 30.0) -> None:
        """Wait until that attempt hangs where it was told to."""

        async def look() -> bool:
            return self.behaviours.reached(operation, epoch).exists()

        await eventually(look, within=within, pause=0.01)
