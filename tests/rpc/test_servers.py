"""What holds for every call: limits, health, reflection, traces, errors, and the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from control_plane.rpc.server import AddressInUse
from floe.v1 import (
    catalog_pb2,
    executor_pb2,
    operation_pb2,
    policy_pb2,
    system_pb2,
    table_pb2,
    trigger_pb2,
)
from shared.telemetry.traces import configure_tracing
from tests.support.api import Api, memory_config, refused, running_api

MODULES = (catalog_pb2, executor_pb2, operation_pb2, policy_pb2, system_pb2, table_pb2, trigger_pb2)
SERVICES = sorted(service.full_name for module in MODULES for service in module.DESCRIPTOR.services_by_name.values())
METHODS: list[MethodDescriptor] = [
    method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
WATCH = operation_pb2.WatchOperationsRequest()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    end = configure_tracing("test", None, exporter)
    yield exporter
    end()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
async def test_no_method_that_is_declared_is_unimplemented(api: Api, method: MethodDescriptor) -> None:
    request = message_factory.GetMessageClass(method.input_type)()
    response = message_factory.GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    code = grpc.StatusCode.OK
    try:
        if method.server_streaming:
            stream = api.channel.unary_stream(path, type(request).SerializeToString, response.FromString)
            await anext(aiter(stream(request, timeout=10)))
        else:
            unary = api.channel.unary_unary(path, type(request).SerializeToString, response.FromString)
            await unary(request, timeout=10)
    except grpc.aio.AioRpcError as error:
        code = error.code()

    assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), code


async def test_reflection_lists_every_service_and_describes_it(api: Api) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", api.channel))

    async def ask(**request: Any) -> reflection_pb2.ServerReflectionResponse:
        async def one() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(**request)

        answer: reflection_pb2.ServerReflectionResponse = await anext(aiter(stub.ServerReflectionInfo(one())))
        return answer

    listed = (await ask(list_services="")).list_services_response.service
    described = await ask(file_containing_symbol="floe.v1.PolicyService")

    assert {service.name for service in listed} >= {*SERVICES, "grpc.health.v1.Health"}
    assert described.file_descriptor_response.file_descriptor_proto


async def test_reflection_can_be_switched_off() -> None:
    async with running_api(memory_config(reflection=False)) as api:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", api.channel))

        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await anext(aiter(stub.ServerReflectionInfo(iter(()))))

    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_is_said_for_the_server_and_for_each_service(api: Api) -> None:
    health: Any = health_pb2_grpc.HealthStub(api.channel)

    async def status(service: str) -> int:
        return int((await health.Check(health_pb2.HealthCheckRequest(service=service))).status)

    before = [await status(service) for service in ("", *SERVICES)]
    await api.server.announce(False)
    after = [await status(service) for service in ("", *SERVICES)]
    unknown = await refused(health.Check(health_pb2.HealthCheckRequest(service="floe.v1.Nothing")))

    assert set(before) == {health_pb2.HealthCheckResponse.SERVING}
    assert set(after) == {health_pb2.HealthCheckResponse.NOT_SERVING}
    assert unknown.code is grpc.StatusCode.NOT_FOUND


async def test_a_message_that_is_too_large_is_refused_and_a_page_larger_than_a_request_is_answered(api: Api) -> None:
    policy = policy_pb2.Policy(name="p", table_pattern="*", description="x" * 5_000_000)

    refusal = await refused(api.policies.CreatePolicy(policy_pb2.CreatePolicyRequest(policy=policy)))
    for n in range(700):
        small = policy_pb2.Policy(name=f"p{n:03}", table_pattern="*", description="x" * 2_000)
        await api.policies.CreatePolicy(policy_pb2.CreatePolicyRequest(policy=small))
    page = await api.policies.ListPolicies(policy_pb2.ListPoliciesRequest(page_size=1_000))

    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert page.ByteSize() > 1024 * 1024
    assert len(page.policies) == 700


async def test_more_calls_than_may_run_at_once_are_refused_with_when_to_try_again() -> None:
    async with running_api(memory_config(max_concurrent_rpcs=1, max_watches=1)) as api:
        watch = api.operations.WatchOperations(WATCH)
        await anext(aiter(watch))
        streams = await refused(anext(aiter(api.operations.WatchOperations(WATCH))))
        checking: Any = health_pb2_grpc.HealthStub(api.channel)
        health = await checking.Check(health_pb2.HealthCheckRequest())
        watch.cancel()

        held = asyncio.Event()
        reached = asyncio.Event()

        async def slow(*_: Any, **__: Any) -> Any:
            reached.set()
            await held.wait()
            return []

        api.store.policies.list = slow  # type: ignore[method-assign]  # a call that lasts as long as the test says
        first = asyncio.create_task(_list(api))
        await reached.wait()
        calls = await refused(_list(api))
        held.set()
        await first
        await _list(api)

    for refusal in (streams, calls):
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS")
        assert refusal.details["RetryInfo"].retry_delay.seconds > 0
    assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_call_whose_client_sets_no_deadline_has_one_all_the_same() -> None:
    async with running_api(memory_config(default_deadline=timedelta(seconds=0.1))) as api:

        async def never(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        api.store.policies.list = never  # type: ignore[method-assign]  # a store that never answers
        refusal = await refused(_list(api))

    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_error_that_nobody_foresaw_is_logged_once_and_not_shown(
    api: Api, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the password is hunter2")

    api.store.policies.list = broken  # type: ignore[method-assign]  # a bug in the store
    with caplog.at_level(logging.ERROR):
        refusal = await refused(_list(api))

    assert (refusal.code, refusal.message) == (grpc.StatusCode.INTERNAL, "internal error")
    captured = capsys.readouterr()
    logged = caplog.text + captured.out + captured.err
    assert logged.count("rpc.failed") == 1


async def test_a_call_is_a_span_of_its_callers_trace(api: Api, spans: InMemorySpanExporter) -> None:
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    metadata = (("traceparent", f"00-{trace_id}-{parent}-01"),)

    await api.policies.ListPolicies(policy_pb2.ListPoliciesRequest(), metadata=metadata)
    await refused(api.policies.GetPolicy(policy_pb2.GetPolicyRequest(name="none"), metadata=metadata))
    await anext(aiter(api.operations.WatchOperations(WATCH, metadata=metadata)))
    await api.server.stop(timedelta(0))

    by_name = {span.name: span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER}
    listed = by_name["floe.v1.PolicyService/ListPolicies"]
    missing = by_name["floe.v1.PolicyService/GetPolicy"]
    watched = by_name["floe.v1.OperationService/WatchOperations"]
    for span in (listed, missing, watched):
        assert (_trace(span), _parent(span)) == (trace_id, parent)
    assert dict(missing.attributes or {})["rpc.response.status_code"] == "NOT_FOUND"
    # A caller's mistake is no fault of the server.
    assert missing.status.status_code is StatusCode.UNSET


async def test_a_stop_ends_watches_at_once_with_a_status_that_says_to_come_back(api: Api) -> None:
    call = api.operations.WatchOperations(WATCH)
    messages = aiter(call)
    await anext(messages)

    async with asyncio.timeout(10):
        await api.server.stop(timedelta(minutes=5))
    refusal = await refused(_drain(messages))

    assert refusal.code is grpc.StatusCode.UNAVAILABLE


async def test_an_address_that_is_taken_is_named(api: Api) -> None:
    config = memory_config()
    taken = config.model_copy(update={"grpc": config.grpc.model_copy(update={"address": f"127.0.0.1:{api.port}"})})

    with pytest.raises(AddressInUse, match=f"127.0.0.1:{api.port}"):
        async with running_api(taken):
            pass


async def _list(api: Api) -> None:
    await api.policies.ListPolicies(policy_pb2.ListPoliciesRequest())


async def _drain(messages: AsyncIterator[object]) -> None:
    async for _ in messages:
        pass


def _trace(span: ReadableSpan) -> str:
    context = span.get_span_context()
    return format_trace_id(context.trace_id) if context is not None else ""


def _parent(span: ReadableSpan) -> str:
    return format_span_id(span.parent.span_id) if span.parent is not None else ""
