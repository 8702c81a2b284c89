"""A server span around each of our calls, a child of the caller's.

It is our own, since the contributed one breaks streaming handlers that write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from control_plane.rpc.errors import status_of
from control_plane.rpc.interceptors.chain import Call
from shared.telemetry.traces import context_from

_TRACER: Final = trace.get_tracer("floe.rpc")
_TRACEPARENT: Final = "traceparent"
# A server's own faults; the rest is the caller's business.
_FAULTS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


@asynccontextmanager
async def tracing(call: Call) -> AsyncIterator[None]:
    if not call.is_ours:
        yield
        return
    with _TRACER.start_as_current_span(
        call.method,
        context=context_from(_traceparent(call)),
        kind=SpanKind.SERVER,
        attributes={"rpc.system.name": "grpc", "rpc.method": call.method},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except Exception as error:
            _failed(span, error)
            raise
        else:
            span.set_attribute("rpc.response.status_code", grpc.StatusCode.OK.name)


def _failed(span: Span, error: Exception) -> None:
    status = status_of(error)
    span.set_attribute("rpc.response.status_code", status.code.name)
    if status.reason:
        span.set_attribute("error.type", status.reason)
    if status.code in _FAULTS:
        span.set_status(StatusCode.ERROR, status.message)


def _traceparent(call: Call) -> str:
    for key, value in call.context.invocation_metadata() or ():
        if key == _TRACEPARENT and isinstance(value, str):
            return value
    return ""
