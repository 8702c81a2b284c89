"""One trigger is one trace: from its caller through the API, over the queue's row and the stream, into the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.telemetry.traces import configure_tracing
from tests.support.cluster import FakeTables, cluster, register, state_name
from tests.support.collector import Span, running_collector
from tests.support.postgres import PostgresServer
from tests.support.processes import Processes

_TRIGGER = "floe.v1.TriggerService/TriggerMaintenance"
_EXPORTED = {"dispatch", "attempt RewriteDataFiles", "engine.run", "observe verify_operation"}


@pytest.mark.timeout(180)
async def test_a_trigger_is_one_trace_from_its_caller_into_the_engine(
    processes: Processes, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    fake = FakeTables(tmp_path / "fake")
    fake.directory.mkdir()
    called = InMemorySpanExporter()
    end_tracing = configure_tracing("caller", None, called)
    async with running_collector() as collector:
        exported = {"FLOE_TELEMETRY__OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with cluster(processes, postgres_server, replicas=2, environ=exported) as running:
            asked, dispatching = running.replicas
            await register(running.client(asked), "http://127.0.0.1:1")
            # The replica that is asked is not the one that hands out: between them is only the row.
            await running.attached(running.start_executor("executor", environ=fake.environ, replicas=[dispatching]))
            (handle,) = (await running.client(asked).trigger("lake.sales.orders")).operations
            assert state_name(await running.ended(handle.id)) == "SUCCEEDED"
            end_tracing()
            (client,) = [span for span in called.get_finished_spans() if span.name == _TRIGGER]
            assert client.context is not None
            trace_id = f"{client.context.trace_id:032x}"

            def complete(spans: Sequence[Span]) -> bool:
                return {span.name for span in spans if span.trace_id == trace_id} >= _EXPORTED | {_TRIGGER}

            spans = [span for span in await collector.until(complete) if span.trace_id == trace_id]

    server, dispatch, attempt, engine = (
        _one(spans, name) for name in (_TRIGGER, "dispatch", "attempt RewriteDataFiles", "engine.run")
    )
    assert server.parent_id == f"{client.context.span_id:016x}"
    assert dispatch.parent_id == server.span_id
    assert attempt.parent_id == dispatch.span_id
    assert engine.parent_id == attempt.span_id
    assert [span.service for span in (server, dispatch, attempt, engine)] == [
        "floe-control-plane",
        "floe-control-plane",
        "floe-executor",
        "floe-executor",
    ]
    assert attempt.attributes["floe.operation_id"] == handle.id
    assert attempt.attributes["floe.table"] == "lake.sales.orders"
    assert engine.attributes["floe.engine"] == "spark"
    # What the executor was asked to look at for it belongs to the same trace.
    for look in (_one(spans, "observe load_table"), _one(spans, "observe verify_operation")):
        assert look.parent_id == server.span_id
        assert look.service == "floe-executor"


def _one(spans: Sequence[Span], name: str) -> Span:
    named = [span for span in spans if span.name == name]
    assert len(named) == 1, f"{len(named)} spans {name!r} among {sorted(span.name for span in spans)}"
    return named[0]
