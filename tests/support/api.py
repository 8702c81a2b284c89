"""The public API in this process: the real server over a real socket, on the memory store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from control_plane.app import Parts, compose, public_limits, this_replica
from control_plane.clock import SystemClock
from control_plane.config import ControlPlaneConfig, GrpcConfig, ObservingConfig, StoreConfig, StoreType
from control_plane.domain.catalog import Table
from control_plane.domain.executor import Capabilities, Executor
from control_plane.domain.identifiers import CatalogName, ExecutorId, OperationType, SessionId, TableName, TableUuid
from control_plane.domain.observation import Answer, ObservationKind
from control_plane.opening import open_store
from control_plane.ports.records import ObservationClaim, Store
from control_plane.rpc.server import RpcServer, build_server
from floe.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    executor_pb2_grpc,
    operation_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    system_pb2_grpc,
    table_pb2_grpc,
    trigger_pb2_grpc,
)

ORDERS = TableName(CatalogName("lake"), ("sales",), "orders")


class Api:
    """A client of one running server, and what stands behind that server."""

    def __init__(self, channel: grpc.aio.Channel, store: Store, parts: Parts, server: RpcServer, port: int) -> None:
        self.channel = channel
        self.store = store
        self.parts = parts
        self.server = server
        self.port = port
        self.policies = policy_pb2_grpc.PolicyServiceStub(channel)
        self.catalogs = catalog_pb2_grpc.CatalogServiceStub(channel)
        self.tables = table_pb2_grpc.TableServiceStub(channel)
        self.triggers = trigger_pb2_grpc.TriggerServiceStub(channel)
        self.operations = operation_pb2_grpc.OperationServiceStub(channel)
        self.executors = executor_pb2_grpc.ExecutorServiceStub(channel)
        self.system = system_pb2_grpc.SystemServiceStub(channel)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status as a client sees it, with the details unpacked by their names."""

    code: grpc.StatusCode
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        return str(self.details["ErrorInfo"].reason)

    @property
    def fields(self) -> list[str]:
        return [violation.field for violation in self.details["BadRequest"].field_violations]


async def refused(call: Awaitable[object]) -> Refusal:
    """The status of a call that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return refusal(failure.value)


def refusal(error: grpc.aio.AioRpcError) -> Refusal:
    details: dict[str, Message] = {}
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for packed in status_pb2.Status.FromString(value).details:
                name = packed.TypeName().removeprefix("google.rpc.")
                details[name] = getattr(error_details_pb2, name)()
                packed.Unpack(details[name])
    return Refusal(error.code(), error.details() or "", details)


def memory_config(**grpc_settings: Any) -> ControlPlaneConfig:
    """Settings for a server of a test. Nobody looks unless the test says so, and that is noticed soon."""
    soon = timedelta(seconds=0.2)
    return ControlPlaneConfig(
        grpc=GrpcConfig(address="127.0.0.1:0", **grpc_settings),
        store=StoreConfig(type=StoreType.MEMORY),
        observing=ObservingConfig(check_within=soon, list_within=soon, inspect_within=soon),
    )


@asynccontextmanager
async def running_api(config: ControlPlaneConfig) -> AsyncIterator[Api]:
    clock = SystemClock()
    async with open_store(config.store, clock, rules=config.lease.rules()) as store:
        parts = compose(store, config, clock, replica=this_replica(config))
        server = build_server(parts.public, public_limits(config), reflects=config.grpc.reflection)
        port = await server.start(config.grpc.address)
        await server.announce(True)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Api(channel, store, parts, server, port)
        finally:
            await server.stop(timedelta(0))


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api(memory_config()) as running:
        yield running


async def register_catalog(api: Api, name: str = "lake", **changes: Any) -> catalog_pb2.Catalog:
    catalog = catalog_pb2.Catalog(
        name=name, type=catalog_pb2.CATALOG_TYPE_REST, uri="http://127.0.0.1:8181", warehouse="s3://bucket/lake"
    )
    catalog.MergeFrom(catalog_pb2.Catalog(**changes))
    return (await api.catalogs.CreateCatalog(catalog_pb2.CreateCatalogRequest(catalog=catalog))).catalog


async def apply_policy(api: Api, name: str = "nightly", **changes: Any) -> policy_pb2.Policy:
    policy = policy_pb2.Policy(name=name, table_pattern="lake.**")
    policy.rewrite_data_files.SetInParent()
    policy.MergeFrom(policy_pb2.Policy(**changes))
    return (await api.policies.CreatePolicy(policy_pb2.CreatePolicyRequest(policy=policy))).policy


async def know_table(api: Api, name: TableName = ORDERS) -> Table:
    """Have the store know a table, as if an executor had loaded it."""
    now = await api.store.now()
    table = Table(name, TableUuid(str(uuid4())), f"s3://bucket/{name.name}", now, now, format_version=2)
    await api.store.tables.seen([table])
    return table


async def attach_executor(
    api: Api, *, slots: int = 2, types: Sequence[OperationType] = tuple(OperationType)
) -> Executor:
    now = await api.store.now()
    capabilities = Capabilities("spark", "4.1", types, slots, 4, [kind.value for kind in ObservationKind])
    executor = Executor(ExecutorId(str(uuid4())), "host", "0.1", capabilities, now, now, SessionId(str(uuid4())), None)
    return await api.store.executors.attach(executor)


@asynccontextmanager
async def looking(api: Api, answers: Mapping[ObservationKind, Answer]) -> AsyncIterator[Executor]:
    """An executor that answers each look that it is asked for, in no time."""
    executor = await attach_executor(api)
    assert executor.session is not None
    claim = ObservationClaim(executor.session, executor.id, list(answers), [], slots=10)

    async def look() -> None:
        while True:
            for wanted in await api.store.observations.claim(claim):
                await api.store.observations.answer(
                    wanted.id, epoch=wanted.epoch, session=claim.session, answer=answers[wanted.request.kind]
                )
                api.store.hints.give("answers")
            await api.store.hints.wait("observations", timedelta(seconds=0.05))

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(look())
        yield executor
        task.cancel()
