"""An OTLP collector in this process: every span that any process of a test exports, by trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc


@dataclass(frozen=True, slots=True)
class Span:
    """One exported span; ids as hexadecimal, as they stand in logs."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, str]


class Collector(pb_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[Span] = []
        self._arrived = asyncio.Condition()

    async def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> pb.ExportTraceServiceResponse:
        async with self._arrived:
            for resource in request.resource_spans:
                service = _attributes(resource.resource.attributes).get("service.name", "")
                for scope in resource.scope_spans:
                    self.spans.extend(
                        Span(
                            service,
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            _attributes(span.attributes),
                        )
                        for span in scope.spans
                    )
            self._arrived.notify_all()
        return pb.ExportTraceServiceResponse()

    async def until(self, holds: Callable[[Sequence[Span]], bool], *, within: float = 30.0) -> Sequence[Span]:
        """The spans, once this holds of them."""
        try:
            async with self._arrived, asyncio.timeout(within):
                await self._arrived.wait_for(lambda: holds(self.spans))
        except TimeoutError:
            names = sorted({f"{span.service}: {span.name}" for span in self.spans})
            raise AssertionError(f"these spans came within {within:g} s, but not the wanted ones: {names}") from None
        return list(self.spans)


def _attributes(pairs: Any) -> Mapping[str, str]:
    return {pair.key: str(getattr(pair.value, pair.value.WhichOneof("value") or "string_value")) for pair in pairs}


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    collector = Collector()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    # The generated code has no annotations.
    pb_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(grace=None)
