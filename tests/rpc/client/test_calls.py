"""Calls of the client over a real socket: retries, request ids, deadlines, errors, pages, traces."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from floe.v1 import operation_pb2, policy_pb2, table_pb2, trigger_pb2
from floe_client import (
    Aborted,
    AsyncFloe,
    DeadlineExceeded,
    FieldViolation,
    Floe,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    TableName,
    Unavailable,
)
from floe_client.errors import BY_CODE, FloeError
from tests.support.scripted_server import Refusal, ScriptedServer

NOBODY = Refusal(grpc.StatusCode.UNAVAILABLE, "come back later")
POLICY = policy_pb2.Policy(name="compact", table_pattern="lake.**", etag="v1", generation=1)


async def test_a_call_that_nobody_answers_is_sent_again_under_the_same_request_id(
    server: ScriptedServer, client: AsyncFloe
) -> None:
    server.script("PolicyService/CreatePolicy", NOBODY, NOBODY, policy_pb2.CreatePolicyResponse(policy=POLICY))

    created = await client.policies.create(POLICY)

    assert created == POLICY
    ids = {request.request_id for request in server.requests("PolicyService/CreatePolicy")}
    assert len(server.calls) == 3
    assert len(ids) == 1
    UUID(ids.pop())


async def test_two_mutations_have_two_request_ids_and_a_given_one_is_kept(
    server: ScriptedServer, client: AsyncFloe
) -> None:
    server.script("PolicyService/DeletePolicy", policy_pb2.DeletePolicyResponse())

    await client.policies.delete("a")
    await client.policies.delete("a")
    await client.policies.delete("a", request_id="mine")

    first, second, third = (request.request_id for request in server.requests("PolicyService/DeletePolicy"))
    assert first != second
    assert third == "mine"


async def test_only_unavailable_is_tried_again(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script("PolicyService/GetPolicy", Refusal(grpc.StatusCode.ABORTED, "changed", "ETAG_MISMATCH"))

    with pytest.raises(Aborted):
        await client.policies.get("a")

    assert len(server.calls) == 1


async def test_an_inspection_that_no_executor_could_do_is_not_asked_for_again(
    server: ScriptedServer, client: AsyncFloe
) -> None:
    server.script("TableService/InspectTable", Refusal(grpc.StatusCode.UNAVAILABLE, "none there", "NO_EXECUTOR"))

    with pytest.raises(Unavailable) as failure:
        await client.tables.inspect("lake.sales.orders")

    assert failure.value.reason == "NO_EXECUTOR"
    assert len(server.calls) == 1


async def test_an_error_carries_reason_metadata_and_violations(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script(
        "PolicyService/CreatePolicy",
        Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            "1 field is wrong",
            "INVALID_ARGUMENT",
            {"fields": "1"},
            (("policy.priority", "must be at most 10000"),),
        ),
    )

    with pytest.raises(InvalidArgument) as failure:
        await client.policies.create(POLICY)

    assert failure.value.message == "1 field is wrong"
    assert failure.value.reason == "INVALID_ARGUMENT"
    assert failure.value.metadata == {"fields": "1"}
    assert failure.value.violations == (FieldViolation("policy.priority", "must be at most 10000"),)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_every_status_has_its_own_error(server: ScriptedServer, client: AsyncFloe, code: grpc.StatusCode) -> None:
    server.script("TableService/InspectTable", Refusal(code, "no"))

    with pytest.raises(FloeError) as failure:
        await client.tables.inspect("a.b.c")

    assert type(failure.value) is BY_CODE[code.name]


async def test_a_server_that_is_not_there_is_named() -> None:
    async with AsyncFloe("127.0.0.1:1", timeout=20) as client:
        with pytest.raises(Unavailable, match=r"no answer from 127\.0\.0\.1:1"):
            await client.policies.get("a")


async def test_a_message_that_is_too_large_is_told_apart(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script("PolicyService/CreatePolicy", policy_pb2.CreatePolicyResponse())

    with pytest.raises(ResourceExhausted):
        await client.policies.create(policy_pb2.Policy(name="a", description="x" * 5_000_000))


async def test_a_call_ends_at_its_deadline(server: ScriptedServer) -> None:
    hold = asyncio.Event()

    async def never(request: object, context: object) -> None:
        await hold.wait()

    slow = grpc.aio.server()
    slow.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "floe.v1.PolicyService", {"GetPolicy": grpc.unary_unary_rpc_method_handler(never)}
            )
        ]
    )
    port = slow.add_insecure_port("127.0.0.1:0")
    await slow.start()

    async with AsyncFloe(f"127.0.0.1:{port}", timeout=0.1) as client:
        with pytest.raises(DeadlineExceeded):
            await client.policies.get("a")

    hold.set()
    await slow.stop(None)


async def test_a_list_is_read_page_after_page(server: ScriptedServer, client: AsyncFloe) -> None:
    pages = {"": (["a", "b"], "2"), "2": (["c"], "3"), "3": ([], "")}

    def answer(request: policy_pb2.ListPoliciesRequest) -> policy_pb2.ListPoliciesResponse:
        names, following = pages[request.page_token]
        return policy_pb2.ListPoliciesResponse(
            policies=[policy_pb2.Policy(name=name) for name in names], next_page_token=following
        )

    server.script("PolicyService/ListPolicies", answer)

    names = [policy.name async for policy in client.policies.list(page_size=2)]

    assert names == ["a", "b", "c"]
    assert [request.page_token for request in server.requests("PolicyService/ListPolicies")] == ["", "2", "3"]


async def test_a_policy_is_created_updated_or_left_alone(server: ScriptedServer, client: AsyncFloe) -> None:
    kind = policy_pb2.PolicyChange.Kind
    server.script(
        "PolicyService/ApplyPolicies",
        *(
            policy_pb2.ApplyPoliciesResponse(changes=[policy_pb2.PolicyChange(kind=each, policy=POLICY)])
            for each in (kind.KIND_CREATED, kind.KIND_UNCHANGED, kind.KIND_UPDATED)
        ),
    )

    applied = [await client.policies.apply(POLICY) for _ in range(3)]

    assert [each.change for each in applied] == ["created", "unchanged", "updated"]
    assert all(each.policy == POLICY for each in applied)


async def test_a_set_of_policies_says_who_keeps_it(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script("PolicyService/ApplyPolicies", NOBODY, policy_pb2.ApplyPoliciesResponse())

    await client.policies.apply_all([POLICY], managed_by="us", prune=True)

    first, second = server.requests("PolicyService/ApplyPolicies")
    assert first == second, "a repeated call has the same request id"
    assert (first.managed_by, first.prune, first.validate_only) == ("us", True, False)
    assert list(first.policies) == [POLICY]


async def test_a_preview_is_read_to_its_end(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script(
        "PolicyService/PreviewPolicy",
        policy_pb2.PreviewPolicyResponse(tables=[policy_pb2.PreviewedTable(table="a")], next_page_token="2"),
        policy_pb2.PreviewPolicyResponse(tables=[policy_pb2.PreviewedTable(table="b")]),
    )

    tables = [each.table async for each in client.policies.preview_tables("nightly")]

    assert tables == ["a", "b"]
    assert [each.name for each in server.requests("PolicyService/PreviewPolicy")] == ["nightly", "nightly"]


async def test_a_trigger_says_table_policy_and_types(server: ScriptedServer, client: AsyncFloe) -> None:
    run = trigger_pb2.Run(id="r", operations=[operation_pb2.Operation(id="o1"), operation_pb2.Operation(id="o2")])
    server.script(
        "TriggerService/TriggerMaintenance", trigger_pb2.TriggerMaintenanceResponse(trigger_id="t", runs=[run])
    )

    started = await client.trigger('lake."eu.west".sales.orders', policy="p", operations=["rewrite-data-files"])

    (request,) = server.requests("TriggerService/TriggerMaintenance")
    assert (request.catalog, request.namespace, request.table) == ("lake", '"eu.west".sales', "orders")
    assert list(request.operation_types) == [operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES]
    assert [handle.id for handle in started.operations] == ["o1", "o2"]


async def test_an_unknown_operation_type_is_refused_before_the_call(server: ScriptedServer, client: AsyncFloe) -> None:
    with pytest.raises(InvalidArgument, match="known are REWRITE_DATA_FILES, EXPIRE_SNAPSHOTS"):
        await client.trigger("a.b.c", operations=["defragment"])

    assert not server.calls


async def test_the_numbers_are_asked_for_by_filter_and_time(server: ScriptedServer, client: AsyncFloe) -> None:
    call = "OperationService/GetOperationStats"
    answer = operation_pb2.GetOperationStatsResponse(overall=operation_pb2.OperationFigures(total=3))
    server.script(call, answer)
    filter = operation_pb2.OperationFilter(catalog="lake")

    def in_a_thread() -> int:
        with Floe(server.address) as floe:
            return floe.operations.stats(since=datetime(2026, 1, 1, tzinfo=UTC)).overall.total

    assert (await client.operations.stats(filter, window=timedelta(hours=24))).overall.total == 3
    assert await asyncio.to_thread(in_a_thread) == 3

    within, since = server.requests(call)
    assert (within.filter, within.window.seconds, within.HasField("since")) == (filter, 86_400, False)
    assert (since.since.seconds, since.HasField("window")) == (1_767_225_600, False)


async def test_a_call_carries_the_callers_trace(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script("TableService/GetTable", table_pb2.GetTableResponse())
    tracer = TracerProvider().get_tracer("test")

    with tracer.start_as_current_span("asking") as span:
        await client.tables.get(TableName("a", ("b",), "c"))

    assert format(span.get_span_context().trace_id, "032x") in server.calls[0].metadata["traceparent"]
    assert trace.get_current_span() is not span


async def test_the_sync_client_does_the_same_from_any_thread(server: ScriptedServer) -> None:
    server.script("PolicyService/GetPolicy", policy_pb2.GetPolicyResponse(policy=POLICY))
    server.script(
        "PolicyService/ListPolicies",
        policy_pb2.ListPoliciesResponse(policies=[POLICY], next_page_token="2"),
        policy_pb2.ListPoliciesResponse(policies=[POLICY]),
    )

    def use() -> tuple[policy_pb2.Policy, int]:
        with Floe(server.address, timeout=20) as client:
            return client.policies.get("compact"), len(list(client.policies.list()))

    assert await asyncio.to_thread(use) == (POLICY, 2)


async def test_a_closed_sync_client_says_so(server: ScriptedServer) -> None:
    client = Floe(server.address)
    client.close()
    client.close()

    with pytest.raises(Unavailable, match="closed"):
        client.policies.get("a")


async def test_a_missing_operation_is_not_found_by_its_reason(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script(
        "OperationService/GetOperation", Refusal(grpc.StatusCode.NOT_FOUND, "none", "OPERATION_NOT_FOUND", {"id": "o"})
    )

    with pytest.raises(NotFound) as failure:
        await client.operation("o").get()

    assert (failure.value.reason, failure.value.metadata) == ("OPERATION_NOT_FOUND", {"id": "o"})
