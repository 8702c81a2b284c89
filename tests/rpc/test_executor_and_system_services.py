"""ExecutorService and SystemService over the wire."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from floe.v1 import executor_pb2, system_pb2
from tests.support.api import Api, apply_policy, attach_executor, know_table, refused, register_catalog


async def test_attached_executors_are_listed_with_what_they_can_do(api: Api) -> None:
    executors = sorted([await attach_executor(api, slots=n) for n in (1, 2, 3)], key=lambda executor: executor.id)

    first = await api.executors.ListExecutors(executor_pb2.ListExecutorsRequest(page_size=2))
    second = await api.executors.ListExecutors(
        executor_pb2.ListExecutorsRequest(page_size=2, page_token=first.next_page_token)
    )

    listed = [*first.executors, *second.executors]
    assert [executor.id for executor in listed] == [executor.id for executor in executors]
    assert {executor.state for executor in listed} == {executor_pb2.EXECUTOR_STATE_ATTACHED}
    assert second.next_page_token == ""


async def test_an_executor_is_drained_and_given_work_again(api: Api) -> None:
    executor = await attach_executor(api)
    request_id = str(uuid4())

    drained = await api.executors.DrainExecutor(
        executor_pb2.DrainExecutorRequest(id=executor.id, request_id=request_id)
    )
    undrained = await api.executors.UndrainExecutor(executor_pb2.UndrainExecutorRequest(id=executor.id))
    read = await api.executors.GetExecutor(executor_pb2.GetExecutorRequest(id=executor.id))

    assert drained.executor.state == executor_pb2.EXECUTOR_STATE_DRAINING
    assert undrained.executor.state == executor_pb2.EXECUTOR_STATE_ATTACHED
    assert read.executor == undrained.executor


async def test_an_executor_that_leaves_cannot_be_given_work_again(api: Api) -> None:
    executor = await attach_executor(api)
    assert executor.session is not None
    await api.store.executors.leave(executor.session)

    refusal = await refused(api.executors.UndrainExecutor(executor_pb2.UndrainExecutorRequest(id=executor.id)))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTOR_LEAVING")


async def test_an_unknown_executor_is_not_found_and_a_malformed_id_is_refused(api: Api) -> None:
    unknown = str(uuid4())
    calls = (
        lambda id: api.executors.GetExecutor(executor_pb2.GetExecutorRequest(id=id)),
        lambda id: api.executors.DrainExecutor(executor_pb2.DrainExecutorRequest(id=id)),
        lambda id: api.executors.UndrainExecutor(executor_pb2.UndrainExecutorRequest(id=id)),
    )
    for call in calls:
        missing, malformed = await refused(call(unknown)), await refused(call("x"))

        assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTOR_NOT_FOUND")
        assert missing.details["ResourceInfo"].resource_name == unknown
        assert malformed.fields == ["id"]


async def test_the_server_says_what_it_is_without_its_secrets(api: Api) -> None:
    await register_catalog(api)
    await attach_executor(api)

    info = await api.system.GetServerInfo(system_pb2.GetServerInfoRequest())

    assert info.version
    assert info.settings["FLOE_LEASE__TTL"] == "PT1M"
    assert info.attached_executors == 1
    assert not info.pauses


async def test_a_paused_scope_blocks_what_waits_in_it_until_it_is_resumed(api: Api) -> None:
    from floe.v1.trigger_pb2 import TriggerMaintenanceRequest

    await register_catalog(api)
    await apply_policy(api)
    await know_table(api)
    scopes: tuple[dict[str, Any], ...] = (
        {},
        {"catalog": "lake"},
        {"catalog": "lake", "namespace": "sales", "table": "orders"},
    )
    for scope in scopes:
        paused = (await api.system.Pause(system_pb2.PauseRequest(reason="upgrade", **scope))).pause
        shown = (await api.system.GetServerInfo(system_pb2.GetServerInfoRequest())).pauses
        request = TriggerMaintenanceRequest(catalog="lake", namespace="sales", table="orders")
        operation = (await api.triggers.TriggerMaintenance(request)).runs[0].operations[0]

        assert list(shown) == [paused]
        assert paused.paused_by.startswith("local:")
        assert any("pause" in blocker.lower() for blocker in operation.blockers)

        await api.system.Resume(system_pb2.ResumeRequest(**scope))
        await api.system.Resume(system_pb2.ResumeRequest(**scope))
        assert not (await api.system.GetServerInfo(system_pb2.GetServerInfoRequest())).pauses


async def test_a_pause_without_reason_or_with_an_end_in_the_past_is_refused(api: Api) -> None:
    past = Timestamp()
    past.FromDatetime(await api.store.now() - timedelta(hours=1))

    refusal = await refused(api.system.Pause(system_pb2.PauseRequest(until=past)))

    assert refusal.fields == ["reason", "until"]


async def test_a_pause_of_a_scope_that_cannot_be_is_refused(api: Api) -> None:
    alone = await refused(api.system.Pause(system_pb2.PauseRequest(reason="x", namespace="sales", table="orders")))
    half = await refused(api.system.Pause(system_pb2.PauseRequest(reason="x", catalog="lake", table="orders")))
    unknown = await refused(api.system.Pause(system_pb2.PauseRequest(reason="x", catalog="lake")))

    assert (alone.fields, half.fields) == (["catalog"], ["namespace"])
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "CATALOG_NOT_FOUND")
