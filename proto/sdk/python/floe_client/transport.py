"""Calls over gRPC: where to, how long, which are tried again, and what their errors become."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from floe_client.errors import BY_CODE, FieldViolation, FloeError, InternalError, Unavailable
from floe_client.tracing import client_span

DEFAULT_SERVER: Final = "127.0.0.1:9090"
SERVER_VARIABLE: Final = "FLOE_SERVER"
DEFAULT_TIMEOUT: Final = 30.0
STREAM_TIMEOUT: Final = 3_600.0
"""No stream lives longer; a watch goes on with a new one."""

_SERVICES: Final = ("Catalog", "Executor", "Operation", "Policy", "System", "Table", "Trigger")
_DETAILS: Final = "grpc-status-details-bin"

# The server waited for an executor already before it answered UNAVAILABLE: asking again would only take longer.
_ONCE: Final = (
    {"service": "floe.v1.CatalogService", "method": "CheckCatalog"},
    {"service": "floe.v1.TableService", "method": "InspectTable"},
)
SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {"name": list(_ONCE)},
            {
                "name": [{"service": f"floe.v1.{service}Service"} for service in _SERVICES],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            },
        ]
    }
)
_CHANNEL_OPTIONS: Final = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # The servers refuse pings that come more often than every 5 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # A server that was just restarted is found again in seconds, not minutes.
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)

Answer = TypeVar("Answer", bound=Message)


class _Failed(Protocol):
    """What the sync and the async gRPC errors have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...


def server_address(given: str | None) -> str:
    """The address to call: the one given, else of the environment's FLOE_SERVER, else the default."""
    return given or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER


def new_request_id() -> str:
    """The id under which a mutation is done once, however often it is sent."""
    return str(uuid.uuid4())


class Transport:
    """One channel to one address. Every call has a deadline, and fails with a `FloeError` or not at all."""

    def __init__(self, server: str, *, timeout: float) -> None:
        self.server = server
        self.timeout = timeout
        self._channel: grpc.aio.Channel | None = None

    async def unary(
        self, method: str, request: Message, answer: type[Answer], *, timeout: float | None = None
    ) -> Answer:
        """Call `method`, written `PolicyService/GetPolicy`, once or, if nobody answers, a few times."""
        path = f"/floe.v1.{method}"
        call = self._opened().unary_unary(
            path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        with client_span(path, self.server) as metadata:
            try:
                response: Answer = await call(
                    request, timeout=self.timeout if timeout is None else timeout, metadata=metadata
                )
                return response
            except grpc.aio.AioRpcError as error:
                raise self._error(error, error.trailing_metadata()) from error
            except grpc.aio.UsageError as error:
                raise self._closed() from error

    async def stream(self, method: str, request: Message, answer: type[Answer]) -> AsyncGenerator[Answer, None]:
        """The messages of one stream, to its end. Closing this generator cancels the call."""
        path = f"/floe.v1.{method}"
        call = self._opened().unary_stream(
            path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        with client_span(path, self.server) as metadata:
            responses = call(request, timeout=STREAM_TIMEOUT, metadata=metadata)
            try:
                async for response in responses:
                    yield response
            except grpc.aio.AioRpcError as error:
                raise self._error(error, error.trailing_metadata()) from error
            except grpc.aio.UsageError as error:
                raise self._closed() from error
            finally:
                responses.cancel()

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _opened(self) -> grpc.aio.Channel:
        # Opened on first use, since a channel belongs to the loop that it was made in.
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.server, options=list(_CHANNEL_OPTIONS))
        return self._channel

    def _error(self, error: _Failed, metadata: grpc.aio.Metadata) -> FloeError:
        status = _status(metadata)
        kind = BY_CODE.get(error.code().name, InternalError)
        message = (status.message if status is not None else error.details()) or error.code().name
        if status is None and kind is Unavailable:
            message = f"no answer from {self.server}: {message}"
        return _with_details(kind(message), status)

    def _closed(self) -> FloeError:
        return Unavailable(f"the client to {self.server} is closed; make a new one")


def _status(metadata: Sequence[tuple[str, str | bytes]] | grpc.aio.Metadata) -> status_pb2.Status | None:
    for key, value in metadata or ():
        if key == _DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _with_details(error: FloeError, status: status_pb2.Status | None) -> FloeError:
    """The error, with what the details of the status say."""
    for detail in status.details if status is not None else ():
        info, wrong = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            error.reason = info.reason.removeprefix("ERROR_REASON_")
            error.metadata = dict(info.metadata)
        elif detail.Unpack(wrong):
            error.violations = tuple(FieldViolation(each.field, each.description) for each in wrong.field_violations)
        elif detail.Unpack(retry):
            error.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return error
