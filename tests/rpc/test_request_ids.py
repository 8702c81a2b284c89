"""A mutation happens once for each request id."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import grpc

from floe.v1 import policy_pb2 as pb
from floe.v1 import trigger_pb2
from tests.support.api import Api, apply_policy, know_table, refused, register_catalog
from tests.support.stores import lose


def creation(name: str = "nightly") -> pb.CreatePolicyRequest:
    return pb.CreatePolicyRequest(policy=pb.Policy(name=name, table_pattern="*"))


async def test_a_repeated_request_gets_the_first_answer_even_if_the_world_went_on(api: Api) -> None:
    request = creation()
    request.request_id = str(uuid4())

    first = await api.policies.CreatePolicy(request)
    await api.policies.UpdatePolicy(pb.UpdatePolicyRequest(policy=pb.Policy(name="nightly", priority=3)))
    request.request_id = request.request_id.upper()
    again = await api.policies.CreatePolicy(request)

    assert again == first


async def test_the_same_id_for_another_request_is_refused(api: Api) -> None:
    request_id = str(uuid4())
    await api.policies.CreatePolicy(pb.CreatePolicyRequest(policy=creation().policy, request_id=request_id))

    refusal = await refused(
        api.policies.CreatePolicy(pb.CreatePolicyRequest(policy=creation("other").policy, request_id=request_id))
    )

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert refusal.details["ErrorInfo"].metadata["request_id"] == request_id


async def test_the_same_id_may_be_used_with_another_method(api: Api) -> None:
    request_id = str(uuid4())
    await api.policies.CreatePolicy(pb.CreatePolicyRequest(policy=creation().policy, request_id=request_id))

    await api.policies.DeletePolicy(pb.DeletePolicyRequest(name="nightly", request_id=request_id))


async def test_a_refused_request_stores_nothing_under_its_id(api: Api) -> None:
    request_id = str(uuid4())
    delete = pb.DeletePolicyRequest(name="nightly", request_id=request_id)
    await refused(api.policies.DeletePolicy(delete))
    await apply_policy(api)

    await api.policies.DeletePolicy(delete)


async def test_concurrent_duplicates_get_the_same_answer(api: Api) -> None:
    request = creation()
    request.request_id = str(uuid4())

    answers = await asyncio.gather(*(api.policies.CreatePolicy(request) for _ in range(8)))

    assert all(answer == answers[0] for answer in answers)


async def test_an_id_that_is_no_uuid_is_refused(api: Api) -> None:
    for wrong in ("1", "x" * 36, "00000000-0000-0000-0000-000000000000", uuid4().hex):
        request = creation()
        request.request_id = wrong

        assert (await refused(api.policies.CreatePolicy(request))).fields == ["requestId"]


async def test_a_second_trigger_with_the_same_id_is_the_same_run_even_if_the_table_is_gone(api: Api) -> None:
    await register_catalog(api)
    await apply_policy(api)
    table = await know_table(api)
    request = trigger_pb2.TriggerMaintenanceRequest(
        catalog="lake", namespace="sales", table="orders", request_id=str(uuid4())
    )

    first = await api.triggers.TriggerMaintenance(request)
    await lose(api.store, table.name)
    again = await api.triggers.TriggerMaintenance(request, timeout=10)

    assert again == first
