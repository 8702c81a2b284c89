"""TriggerService and OperationService over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from dataclasses import replace
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from control_plane.domain import decisions
from control_plane.domain.identifiers import CatalogName, OperationId, TableName
from control_plane.domain.observation import LoadedTable, ObservationError, ObservationKind
from control_plane.domain.rules import Rules
from control_plane.ports.operations import Cursor
from control_plane.rpc.pagination import read_cursor, write_cursor
from floe.v1 import operation_pb2 as pb
from floe.v1 import policy_pb2
from floe.v1.trigger_pb2 import TriggerMaintenanceRequest
from tests.support.api import (
    ORDERS,
    Api,
    apply_policy,
    know_table,
    looking,
    refusal,
    refused,
    register_catalog,
)

ORDERS_REQUEST = TriggerMaintenanceRequest(catalog="lake", namespace="sales", table="orders")


async def set_up(api: Api, *tables: TableName) -> None:
    await register_catalog(api)
    await apply_policy(api)
    for table in tables or (ORDERS,):
        await know_table(api, table)


async def triggered(api: Api, table: str = "orders") -> pb.Operation:
    request = TriggerMaintenanceRequest(catalog="lake", namespace="sales", table=table)
    return (await api.triggers.TriggerMaintenance(request)).runs[0].operations[0]


async def get(api: Api, operation: str) -> pb.Operation:
    return (await api.operations.GetOperation(pb.GetOperationRequest(id=operation))).operation


# -- triggering


async def test_a_trigger_queues_what_governs_the_table_and_answers_at_once(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    await apply_policy(api, "compaction")
    expiry = policy_pb2.Policy(name="expiry", table_pattern="*")
    expiry.expire_snapshots.SetInParent()
    await api.policies.CreatePolicy(policy_pb2.CreatePolicyRequest(policy=expiry))

    answer = await api.triggers.TriggerMaintenance(ORDERS_REQUEST)

    (run,) = answer.runs
    assert [(o.type, o.policy_name, o.state) for o in run.operations] == [
        (pb.OPERATION_TYPE_REWRITE_DATA_FILES, "compaction", pb.OPERATION_STATE_QUEUED),
        (pb.OPERATION_TYPE_EXPIRE_SNAPSHOTS, "expiry", pb.OPERATION_STATE_QUEUED),
    ]
    assert {o.trigger_id for o in run.operations} == {answer.trigger_id}
    assert {o.run_id for o in run.operations} == {run.id}
    assert all(o.requested_by.startswith("local:") for o in run.operations)
    assert (await get(api, run.operations[0].id)).run_id == run.id


async def test_a_trigger_on_a_busy_table_is_queued_behind_and_says_so(api: Api) -> None:
    await set_up(api)
    first = await triggered(api)
    await hold(api, first.id)

    second = await triggered(api)

    assert second.state == pb.OPERATION_STATE_QUEUED
    assert any(first.id in blocker for blocker in second.blockers)


async def test_a_trigger_that_is_only_validated_queues_nothing(api: Api) -> None:
    await set_up(api)
    request = TriggerMaintenanceRequest(catalog="lake", namespace="sales", table="orders", validate_only=True)

    answer = await api.triggers.TriggerMaintenance(request)

    assert len(answer.runs[0].operations) == 1
    assert not (await api.operations.ListOperations(pb.ListOperationsRequest())).operations


async def test_names_that_do_not_exist_are_told_apart(api: Api) -> None:
    catalog = await refused(api.triggers.TriggerMaintenance(ORDERS_REQUEST))
    await register_catalog(api)
    async with looking(api, {ObservationKind.LOAD_TABLE: ObservationError("NOT_FOUND", "no such table")}):
        table = await refused(api.triggers.TriggerMaintenance(ORDERS_REQUEST))
    await know_table(api)
    named = TriggerMaintenanceRequest(catalog="lake", namespace="sales", table="orders", policy_name="none")
    policy = await refused(api.triggers.TriggerMaintenance(named))

    for missing, reason, name in (
        (catalog, "CATALOG_NOT_FOUND", "lake"),
        (table, "TABLE_NOT_FOUND", "lake.sales.orders"),
        (policy, "POLICY_NOT_FOUND", "none"),
    ):
        assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, reason)
        assert missing.details["ResourceInfo"].resource_name == name


async def test_an_unknown_table_is_looked_up_in_its_catalog(api: Api) -> None:
    await register_catalog(api)
    await apply_policy(api)
    loaded = LoadedTable("uuid-9", "s3://b/orders", "s3://b/m.json", 2)  # type: ignore[arg-type]

    async with looking(api, {ObservationKind.LOAD_TABLE: loaded}):
        operation = await triggered(api)

    assert operation.table_uuid == "uuid-9"


async def test_a_catalog_that_cannot_be_asked_is_unavailable(api: Api) -> None:
    await register_catalog(api)
    async with looking(api, {ObservationKind.LOAD_TABLE: ObservationError("UNAVAILABLE", "refused")}):
        refusal = await refused(api.triggers.TriggerMaintenance(ORDERS_REQUEST))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "CATALOG_UNREACHABLE")


async def test_a_shadow_policy_runs_nothing_even_if_somebody_asks(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    await apply_policy(api, "shadow", mode="SHADOW")
    naming = TriggerMaintenanceRequest()
    naming.CopyFrom(ORDERS_REQUEST)
    naming.policy_name = "shadow"

    governing = await refused(api.triggers.TriggerMaintenance(ORDERS_REQUEST))
    named = await refused(api.triggers.TriggerMaintenance(naming))

    assert governing.reason == "NO_GOVERNING_POLICY"
    assert named.reason == "POLICY_DISABLED"
    assert "is in mode SHADOW and runs nothing" in named.message


async def test_a_policy_that_does_not_apply_is_a_failed_precondition(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)

    def naming(policy: str, *types: pb.OperationType.ValueType) -> TriggerMaintenanceRequest:
        return TriggerMaintenanceRequest(
            catalog="lake", namespace="sales", table="orders", policy_name=policy, operation_types=types
        )

    none = await refused(api.triggers.TriggerMaintenance(ORDERS_REQUEST))
    await apply_policy(api, "off", enabled=False)
    await apply_policy(api, "elsewhere", table_pattern="pond.*.*")
    off = await refused(api.triggers.TriggerMaintenance(naming("off")))
    elsewhere = await refused(api.triggers.TriggerMaintenance(naming("elsewhere")))
    await apply_policy(api, "on")
    unconfigured = await refused(api.triggers.TriggerMaintenance(naming("on", pb.OPERATION_TYPE_EXPIRE_SNAPSHOTS)))

    assert [refusal.reason for refusal in (none, off, elsewhere)] == [
        "NO_GOVERNING_POLICY",
        "POLICY_DISABLED",
        "PATTERN_MISMATCH",
    ]
    assert {refusal.code for refusal in (none, off, elsewhere)} == {grpc.StatusCode.FAILED_PRECONDITION}
    assert (unconfigured.code, unconfigured.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["operationTypes[0]"])


async def test_an_unknown_operation_type_is_refused_by_its_place(api: Api) -> None:
    for value in (0, 99):
        request = TriggerMaintenanceRequest(catalog="lake", namespace="sales", table="orders")
        request.operation_types.append(value)  # type: ignore[arg-type]  # what a newer client may send
        refusal = await refused(api.triggers.TriggerMaintenance(request))

        assert refusal.fields == ["operationTypes[0]"]
        assert "REWRITE_DATA_FILES" in refusal.message


# -- reading


async def test_operations_are_listed_newest_first_a_page_at_a_time(api: Api) -> None:
    await set_up(api)
    ids = [(await triggered(api)).id for _ in range(5)]

    seen: list[str] = []
    token = ""
    while True:
        page = await api.operations.ListOperations(pb.ListOperationsRequest(page_size=2, page_token=token))
        seen.extend(operation.id for operation in page.operations)
        token = page.next_page_token
        if not token:
            break

    assert seen == ids[::-1]


async def test_a_filter_selects_by_every_field_that_is_set(api: Api) -> None:
    await set_up(api, ORDERS, replace(ORDERS, name="lines"))
    orders, lines = await triggered(api), await triggered(api, "lines")
    await api.operations.CancelOperation(pb.CancelOperationRequest(id=lines.id))

    async def ids(**where: object) -> list[str]:
        request = pb.ListOperationsRequest(filter=pb.OperationFilter(**where))  # type: ignore[arg-type]
        return [operation.id for operation in (await api.operations.ListOperations(request)).operations]

    assert await ids(catalog="lake") == [lines.id, orders.id]
    assert await ids(catalog="pond") == []
    assert await ids(catalog="lake", namespace=["sales"], table="orders") == [orders.id]
    assert await ids(run_id=lines.run_id) == [lines.id]
    assert await ids(trigger_id=orders.trigger_id) == [orders.id]
    assert await ids(policy_name="nightly", states=[pb.OPERATION_STATE_CANCELLED]) == [lines.id]
    assert await ids(types=[pb.OPERATION_TYPE_EXPIRE_SNAPSHOTS]) == []
    assert await ids(operation_ids=[orders.id, str(uuid4())]) == [orders.id]


async def test_a_page_token_of_another_filter_is_refused(api: Api) -> None:
    await set_up(api)
    for _ in range(2):
        await triggered(api)
    page = await api.operations.ListOperations(pb.ListOperationsRequest(page_size=1))

    refusal = await refused(
        api.operations.ListOperations(
            pb.ListOperationsRequest(page_token=page.next_page_token, filter=pb.OperationFilter(catalog="lake"))
        )
    )

    assert refusal.fields == ["pageToken"]


async def test_an_operation_that_does_not_exist_is_not_found_and_a_malformed_id_is_refused(api: Api) -> None:
    unknown = str(uuid4())
    calls = (
        lambda id: api.operations.GetOperation(pb.GetOperationRequest(id=id)),
        lambda id: api.operations.CancelOperation(pb.CancelOperationRequest(id=id)),
        lambda id: api.operations.RetryOperation(pb.RetryOperationRequest(id=id)),
    )
    for call in calls:
        missing, malformed = await refused(call(unknown)), await refused(call("7"))

        assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND")
        assert missing.details["ResourceInfo"].resource_name == unknown
        assert malformed.fields == ["id"]


# -- cancelling and retrying


async def test_a_queued_operation_is_cancelled_at_once_and_a_finished_one_is_not(api: Api) -> None:
    await set_up(api)
    operation = await triggered(api)

    cancelled = (
        await api.operations.CancelOperation(pb.CancelOperationRequest(id=operation.id, reason="not now"))
    ).operation
    again = await refused(api.operations.CancelOperation(pb.CancelOperationRequest(id=operation.id)))

    assert cancelled.state == pb.OPERATION_STATE_CANCELLED
    assert cancelled.cancel_requested_by.startswith("local:")
    assert (again.code, again.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OPERATION_FINISHED")


async def test_a_cancel_of_an_older_version_is_refused(api: Api) -> None:
    await set_up(api)
    operation = await triggered(api)

    refusal = await refused(api.operations.CancelOperation(pb.CancelOperationRequest(id=operation.id, etag="999")))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert (await get(api, operation.id)).state == pb.OPERATION_STATE_QUEUED


async def test_a_finished_operation_is_retried_as_a_new_one(api: Api) -> None:
    await set_up(api)
    operation = await triggered(api)
    request = pb.RetryOperationRequest(id=operation.id, request_id=str(uuid4()))

    early = await refused(api.operations.RetryOperation(request))
    await api.operations.CancelOperation(pb.CancelOperationRequest(id=operation.id))
    retry = (await api.operations.RetryOperation(request)).operation
    again = (await api.operations.RetryOperation(request)).operation

    assert early.reason == "OPERATION_NOT_FINISHED"
    assert (retry.retry_of, retry.state) == (operation.id, pb.OPERATION_STATE_QUEUED)
    assert again == retry


# -- watching


async def events(call: AsyncIterable[pb.WatchOperationsResponse], count: int) -> list[pb.WatchOperationsResponse]:
    found: list[pb.WatchOperationsResponse] = []
    async with asyncio.timeout(10):
        async for message in call:
            if message.HasField("event"):
                found.append(message)
                if len(found) == count:
                    break
    return found


async def test_a_watch_from_a_lists_cursor_sees_what_came_later_and_can_be_resumed(api: Api) -> None:
    await set_up(api)
    before = await triggered(api)
    cursor = (await api.operations.ListOperations(pb.ListOperationsRequest())).watch_cursor
    operation = await triggered(api)
    await api.operations.CancelOperation(pb.CancelOperationRequest(id=operation.id))

    queued, cancelled = await events(api.operations.WatchOperations(pb.WatchOperationsRequest(cursor=cursor)), 2)
    (resumed,) = await events(api.operations.WatchOperations(pb.WatchOperationsRequest(cursor=queued.cursor)), 1)

    assert before.id not in (queued.event.operation.id, cancelled.event.operation.id)
    assert (queued.event.event, cancelled.event.event) == ("queued", "cancelled")
    assert cancelled.event.to_state == pb.OPERATION_STATE_CANCELLED
    assert cancelled.event.sequence > queued.event.sequence
    assert resumed == cancelled


async def test_a_watch_starts_with_a_cursor_and_sends_what_its_filter_selects(api: Api) -> None:
    await set_up(api, ORDERS, replace(ORDERS, name="lines"))
    where = pb.OperationFilter(catalog="lake", namespace=["sales"], table="lines")
    call = api.operations.WatchOperations(pb.WatchOperationsRequest(filter=where))

    first = await anext(aiter(call))
    await triggered(api)
    lines = await triggered(api, "lines")
    (event,) = await events(call, 1)

    assert first.WhichOneof("update") == "heartbeat"
    assert first.cursor
    assert event.event.operation.id == lines.id


async def test_a_cursor_of_another_database_is_out_of_range_and_nonsense_is_refused(api: Api) -> None:
    cursor = (await api.operations.ListOperations(pb.ListOperationsRequest())).watch_cursor
    parsed = read_cursor(cursor)
    assert parsed is not None
    foreign = write_cursor(Cursor("another", parsed.xid, parsed.sequence))

    for text, code, reason in (
        (foreign, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED"),
        ("nonsense", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            async for _ in api.operations.WatchOperations(pb.WatchOperationsRequest(cursor=text), timeout=10):
                pass

        found = refusal(failure.value)
        assert (found.code, found.reason) == (code, reason)


async def hold(api: Api, operation: str) -> None:
    """Have an executor hold the table of the operation."""
    from control_plane.ports.operations import ClaimRequest
    from tests.support.api import attach_executor

    executor = await attach_executor(api)
    assert executor.session is not None
    (held,) = await api.store.operations.claim(
        ClaimRequest(
            executor.session,
            executor.id,
            executor.capabilities.engine,
            executor.capabilities.operation_types,
            [CatalogName("lake")],
            {},
            slots=1,
            alone=True,
        )
    )
    claimed = held.operation
    assert claimed.id == operation
    await api.store.operations.change(
        OperationId(operation),
        lambda op, now: decisions.acked(op, now, session=claimed.session or executor.session, rules=Rules()),  # type: ignore[arg-type]
        lease=claimed.lease,
    )


# -- triggering by pattern


async def test_a_pattern_starts_one_run_for_each_table_that_it_matches(api: Api) -> None:
    orders, items = ORDERS, TableName(CatalogName("lake"), ("sales",), "items")
    await set_up(api, orders, items, TableName(CatalogName("lake"), ("hr",), "people"))

    answer = await api.triggers.TriggerMaintenance(TriggerMaintenanceRequest(pattern="lake.sales.*"))

    assert [run.table for run in answer.runs] == ["items", "orders"]
    assert len({run.id for run in answer.runs}) == 2
    stored = [await get(api, operation.id) for run in answer.runs for operation in run.operations]
    assert {one.trigger_id for one in stored} == {answer.trigger_id}


async def test_a_pattern_that_matches_more_than_it_may_queues_nothing(api: Api) -> None:
    await set_up(api, ORDERS, TableName(CatalogName("lake"), ("sales",), "items"))
    wanted = TriggerMaintenanceRequest(pattern="lake.**", max_tables=1)

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await api.triggers.TriggerMaintenance(wanted)

    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not (await api.operations.ListOperations(pb.ListOperationsRequest())).operations


@pytest.mark.parametrize(
    "wanted",
    [
        TriggerMaintenanceRequest(pattern="lake.**", catalog="lake", namespace="sales", table="orders"),
        TriggerMaintenanceRequest(pattern="lake.**", max_tables=10_001),
        TriggerMaintenanceRequest(pattern="lake..x"),
        TriggerMaintenanceRequest(catalog="lake", namespace="sales", table="orders", max_tables=3),
    ],
)
async def test_a_pattern_that_makes_no_sense_is_refused(api: Api, wanted: TriggerMaintenanceRequest) -> None:
    await set_up(api)

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await api.triggers.TriggerMaintenance(wanted)

    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
