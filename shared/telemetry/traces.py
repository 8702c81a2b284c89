"""Traces: one provider a process, and the W3C `traceparent` by which a trace crosses rows, streams and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_HEADER: Final = "traceparent"


def configure_tracing(
    service_name: str, endpoint: str | None, exporter: SpanExporter | None = None
) -> Callable[[], None]:
    """Set this process's tracing up and return what flushes and ends it.

    Spans go in batches to the OTLP (gRPC) collector at `endpoint`, and one by one to `exporter`, which is for tests.
    With neither, spans are made all the same, so that logs carry trace ids and what is called stays in the trace.
    A process has one provider: the first call makes it, later ones add to it.
    """
    current = trace.get_tracer_provider()
    provider = current if isinstance(current, TracerProvider) else None
    if provider is None:
        provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
        trace.set_tracer_provider(provider)
    processors: list[BatchSpanProcessor | SimpleSpanProcessor] = []
    if exporter is not None:
        processors.append(SimpleSpanProcessor(exporter))
    if endpoint:
        # Imported only where it is used: it brings a gRPC client of its own.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        insecure = not endpoint.startswith("https:")
        processors.append(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=insecure)))
    for processor in processors:
        provider.add_span_processor(processor)

    def end() -> None:
        for processor in processors:
            processor.shutdown()

    return end


def current_traceparent() -> str:
    """The `traceparent` of the active span, to be stored or sent; empty if no span is active."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(_HEADER, "")


def context_from(traceparent: str) -> otel_context.Context:
    """The context in which spans become children of `traceparent`; the current one if it is empty or malformed."""
    return _PROPAGATOR.extract({_HEADER: traceparent}) if traceparent else otel_context.get_current()


@contextmanager
def span_from(
    traceparent: str,
    name: str,
    /,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
    **more: AttributeValue,
) -> Iterator[Span]:
    """Run the block in a span that is a child of `traceparent`, or of the active span if that is empty.

    An exception that leaves the block is recorded and marks the span as failed.
    Attributes whose names hold dots go into `attributes`.
    """
    tracer = trace.get_tracer("floe")
    with tracer.start_as_current_span(
        name, context=context_from(traceparent), kind=kind, attributes={**(attributes or {}), **more}
    ) as span:
        yield span
