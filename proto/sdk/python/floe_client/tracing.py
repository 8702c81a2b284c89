"""A client span a call, and its context as metadata, where OpenTelemetry is installed; nothing where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from floe_client.errors import FloeError

Metadata = tuple[tuple[str, str], ...]


@contextmanager
def client_span(path: str, server: str) -> Iterator[Metadata]:
    """The call of `path` as a span, a child of the current one; yields the metadata that carries it to the server.

    The span is never made the current one: the block may be left and entered again from other contexts, as the body of
    an async generator is.
    """
    try:
        from opentelemetry import propagate, trace
    except ImportError:
        yield ()
        return
    service, method = path.removeprefix("/").split("/")
    span = trace.get_tracer("floe_client").start_span(
        path.removeprefix("/"),
        kind=trace.SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, "server.address": server},
    )
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    try:
        yield tuple(carrier.items())
    except FloeError as error:
        span.set_attribute("rpc.grpc.status", error.code)
        span.set_status(trace.StatusCode.ERROR, error.message)
        raise
    finally:
        span.end()
