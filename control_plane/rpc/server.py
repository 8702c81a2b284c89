"""The gRPC servers: one for callers, one for executors. Tests build them the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from control_plane.rpc.executor_session import AssignmentServicer
from control_plane.rpc.interceptors.answering import answering
from control_plane.rpc.interceptors.chain import Chain
from control_plane.rpc.interceptors.identity import identity
from control_plane.rpc.interceptors.limits import ConcurrencyLimit, DefaultDeadline, StreamEnds
from control_plane.rpc.interceptors.logging import logging
from control_plane.rpc.interceptors.tracing import tracing
from control_plane.rpc.servicers.catalogs import CatalogServicer
from control_plane.rpc.servicers.executors import ExecutorServicer
from control_plane.rpc.servicers.operations import OperationServicer
from control_plane.rpc.servicers.policies import PolicyServicer
from control_plane.rpc.servicers.system import SystemServicer
from control_plane.rpc.servicers.tables import TableServicer
from control_plane.rpc.servicers.triggers import TriggerServicer
from floe.execution.v1 import assignment_pb2, assignment_pb2_grpc
from floe.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    executor_pb2,
    executor_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    system_pb2,
    system_pb2_grpc,
    table_pb2,
    table_pb2_grpc,
    trigger_pb2,
    trigger_pb2_grpc,
)
from shared.wire.transport import MAX_MESSAGE_BYTES, server_options

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_SEND_LIMIT: Final = "grpc.max_send_message_length"


class AddressInUse(Exception):
    """Another process listens there. The message names the address."""


@dataclass(frozen=True, slots=True)
class PublicServicers:
    """Every service of the public API."""

    policies: PolicyServicer
    catalogs: CatalogServicer
    tables: TableServicer
    triggers: TriggerServicer
    operations: OperationServicer
    executors: ExecutorServicer
    system: SystemServicer


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes at a time, and at most."""

    message_bytes: int
    calls: int
    streams: int
    streams_per_connection: int
    default_deadline: timedelta


class RpcServer:
    """A server with health per service. It says SERVING only when told to, and NOT_SERVING before it stops."""

    def __init__(self, limits: Limits, *, reflects: bool) -> None:
        options = server_options(
            max_message_bytes=limits.message_bytes, max_concurrent_streams=limits.streams_per_connection
        )
        self._streams = StreamEnds()
        # Requests may be kept small; answers need what clients accept.
        answers = max(limits.message_bytes, MAX_MESSAGE_BYTES)
        self._server = grpc.aio.server(
            options=[*(option for option in options if option[0] != _SEND_LIMIT), (_SEND_LIMIT, answers)],
            interceptors=[_chain(limits, self._streams)],
        )
        self._reflects = reflects
        self._services: list[str] = []
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def add(self, service: str, register: Callable[[Any, grpc.aio.Server], None], servicer: object) -> None:
        register(servicer, self._server)
        self._services.append(service)

    async def start(self, address: str) -> int:
        """Listen on the address and return the port; with port 0 any free one is taken. Raises AddressInUse."""
        if self._reflects:
            names = [*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)
        await self.announce(False)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise AddressInUse(
                f"cannot listen on {address}: another process does already, or it is not ours"
            ) from error
        await self._server.start()
        return port

    async def announce(self, serving: bool) -> None:
        """Tell load balancers, for the server and for each service."""
        for service in ("", *self._services):
            await self._health.set(service, _SERVING if serving else _NOT_SERVING)

    async def stop(self, grace: timedelta) -> None:
        """Take no more calls, end the streams, and let calls under way end within `grace`."""
        self._streams.end()
        await self._server.stop(grace.total_seconds())


def build_server(servicers: PublicServicers, limits: Limits, *, reflects: bool) -> RpcServer:
    """The public API."""
    server = RpcServer(limits, reflects=reflects)
    registrations: Sequence[tuple[Any, Callable[[Any, Any], None], object]] = (
        (policy_pb2, policy_pb2_grpc.add_PolicyServiceServicer_to_server, servicers.policies),
        (catalog_pb2, catalog_pb2_grpc.add_CatalogServiceServicer_to_server, servicers.catalogs),
        (table_pb2, table_pb2_grpc.add_TableServiceServicer_to_server, servicers.tables),
        (trigger_pb2, trigger_pb2_grpc.add_TriggerServiceServicer_to_server, servicers.triggers),
        (operation_pb2, operation_pb2_grpc.add_OperationServiceServicer_to_server, servicers.operations),
        (executor_pb2, executor_pb2_grpc.add_ExecutorServiceServicer_to_server, servicers.executors),
        (system_pb2, system_pb2_grpc.add_SystemServiceServicer_to_server, servicers.system),
    )
    for module, register, servicer in registrations:
        server.add(_only_service(module.DESCRIPTOR.services_by_name), register, servicer)
    return server


def build_executor_server(servicer: AssignmentServicer, limits: Limits) -> RpcServer:
    """Where executors attach. It is nobody else's business, so it shows nothing of itself."""
    server = RpcServer(limits, reflects=False)
    service = _only_service(assignment_pb2.DESCRIPTOR.services_by_name)
    server.add(service, assignment_pb2_grpc.add_AssignmentServiceServicer_to_server, servicer)
    return server


def _chain(limits: Limits, streams: StreamEnds) -> Chain:
    """The order matters: the span is open when anything is logged, and whatever is raised inside is answered."""
    return Chain(
        answering,
        tracing,
        logging,
        ConcurrencyLimit(calls=limits.calls, streams=limits.streams),
        DefaultDeadline(limits.default_deadline),
        streams,
        identity,
    )


def _only_service(services: Mapping[str, Any]) -> str:
    (service,) = services.values()
    return str(service.full_name)
