"""A server of the public API that answers what a test told it to, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from floe.v1 import (
    catalog_pb2,
    executor_pb2,
    operation_pb2,
    policy_pb2,
    system_pb2,
    table_pb2,
    trigger_pb2,
)

_FILES: Final = (catalog_pb2, executor_pb2, operation_pb2, policy_pb2, system_pb2, table_pb2, trigger_pb2)


@dataclass(frozen=True)
class Refusal:
    """An error answer: its status, and the details that go with it."""

    code: grpc.StatusCode
    message: str = "refused"
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()

    async def abort(self, context: Any) -> None:
        details: list[any_pb2.Any] = []
        if self.reason:
            info = error_details_pb2.ErrorInfo(
                reason=f"ERROR_REASON_{self.reason}", domain="floe", metadata=self.metadata
            )
            details.append(_packed(info))
        if self.violations:
            wrong = [
                error_details_pb2.BadRequest.FieldViolation(field=path, description=text)
                for path, text in self.violations
            ]
            details.append(_packed(error_details_pb2.BadRequest(field_violations=wrong)))
        trailing: tuple[tuple[str, str | bytes], ...] = ()
        if details:
            status = status_pb2.Status(code=self.code.value[0], message=self.message, details=details)
            trailing = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(self.code, self.message, trailing)


class Hang:
    """In a stream: say nothing more until the client leaves."""


Answer = Message | Refusal | Callable[[Any], Message]


@dataclass(frozen=True)
class Call:
    method: str
    request: Any
    metadata: dict[str, str]


class ScriptedServer:
    """Answers each method's calls in the order of its script; the last answer is given again and again."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.address = ""
        self._scripts: dict[str, list[Any]] = {}
        self._called = asyncio.Condition()

    def script(self, method: str, *answers: Answer | Iterable[Message | Refusal | Hang]) -> None:
        """What `method` answers to one call after the other. A stream's answer is a sequence of messages."""
        self._scripts[method] = list(answers)

    def requests(self, method: str) -> list[Any]:
        return [call.request for call in self.calls if call.method == method]

    async def called(self, method: str, times: int = 1) -> None:
        """Wait until the method was called so often."""
        async with self._called, asyncio.timeout(20):
            await self._called.wait_for(lambda: len(self.requests(method)) >= times)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        return [
            grpc.method_handlers_generic_handler(
                service.full_name,
                {method.name: self._handler(f"{service.name}/{method.name}", method) for method in service.methods},
            )
            for file in _FILES
            for service in file.DESCRIPTOR.services_by_name.values()
        ]

    def _handler(self, name: str, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
        request = message_factory.GetMessageClass(method.input_type)

        async def unary(request: Any, context: Any) -> Any:
            answer = await self._next(name, request, context)
            if isinstance(answer, Refusal):
                await answer.abort(context)
            return answer(request) if callable(answer) else answer

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            for answer in await self._next(name, request, context):
                if isinstance(answer, Refusal):
                    await answer.abort(context)
                if isinstance(answer, Hang):
                    await asyncio.Event().wait()
                yield answer

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                stream, request_deserializer=request.FromString, response_serializer=_serialized
            )
        return grpc.unary_unary_rpc_method_handler(
            unary, request_deserializer=request.FromString, response_serializer=_serialized
        )

    async def _next(self, name: str, request: Any, context: Any) -> Any:
        async with self._called:
            self.calls.append(Call(name, request, {key: str(value) for key, value in context.invocation_metadata()}))
            self._called.notify_all()
        script = self._scripts.get(name)
        if not script:
            await Refusal(grpc.StatusCode.UNIMPLEMENTED, f"the test scripted no answer of {name}").abort(context)
            raise AssertionError
        return script.pop(0) if len(script) > 1 else script[0]


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(script.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    script.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield script
    finally:
        await server.stop(grace=None)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
