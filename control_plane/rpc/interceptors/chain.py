"""The one gRPC interceptor: it puts the concerns around each handler, the first outermost."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from control_plane.rpc.types import Context


@dataclass(frozen=True, slots=True)
class Call:
    """One call under way. `method` is `floe.v1.PolicyService/GetPolicy`; `streams` if the answer is a stream."""

    method: str
    context: Context
    streams: bool

    @property
    def is_ours(self) -> bool:
        """False for health and reflection."""
        return self.method.startswith("floe.")


# None: this call does not concern it.
Around = Callable[[Call], AbstractAsyncContextManager[object] | None]


class Chain(grpc.aio.ServerInterceptor):
    """Enters the concerns in their order before a handler runs, and leaves them in reverse with what it raised.

    A streaming handler may be a coroutine that writes or a generator that yields.
    """

    def __init__(self, *concerns: Around) -> None:
        self._concerns = concerns

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        # None: there is no such method, and gRPC answers UNIMPLEMENTED itself.
        if handler is None:
            return handler
        return self._wrapped(handler, str(handler_call_details.method).lstrip("/"))

    def _wrapped(self, handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        serializing = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        match handler.request_streaming, handler.response_streaming:
            case False, False:
                return grpc.unary_unary_rpc_method_handler(self._answering(handler.unary_unary, method), **serializing)
            case True, False:
                return grpc.stream_unary_rpc_method_handler(
                    self._answering(handler.stream_unary, method), **serializing
                )
            case False, True:
                return grpc.unary_stream_rpc_method_handler(self._writing(handler.unary_stream, method), **serializing)
            case _:
                return grpc.stream_stream_rpc_method_handler(
                    self._writing(handler.stream_stream, method), **serializing
                )

    def _answering(self, handle: Callable[[Any, Context], Any], method: str) -> Callable[[Any, Context], Any]:
        async def answer(request: Any, context: Context) -> Any:
            async with AsyncExitStack() as stack:
                await self._enter(stack, Call(method, context, streams=False))
                return await handle(request, context)

        return answer

    def _writing(self, handle: Callable[[Any, Context], Any], method: str) -> Callable[[Any, Context], Any]:
        async def write(request: Any, context: Context) -> None:
            async with AsyncExitStack() as stack:
                await self._enter(stack, Call(method, context, streams=True))
                running = handle(request, context)
                if inspect.isasyncgen(running):
                    async with _closing(running):
                        async for message in running:
                            await context.write(message)
                else:
                    await running

        return write

    async def _enter(self, stack: AsyncExitStack, call: Call) -> None:
        for concern in self._concerns:
            if (around := concern(call)) is not None:
                await stack.enter_async_context(around)


class _closing:
    """Close a generator when the block ends, so that what it holds is let go at once."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        await self._generator.aclose()
