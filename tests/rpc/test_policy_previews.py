"""PreviewPolicy over the wire, and the generations of a policy."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from control_plane.domain.identifiers import OperationType, TableName
from floe.v1 import operation_pb2
from floe.v1 import policy_pb2 as pb
from tests.support.api import Api, apply_policy, attach_executor, know_table, refused, register_catalog

REWRITE = operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES
EXPIRE = operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS


async def tables(api: Api, *names: str) -> None:
    for catalog in sorted({name.split(".")[0] for name in names}):
        await register_catalog(api, catalog)
    for name in names:
        await know_table(api, TableName.parse(name))


def document(name: str = "draft", pattern: str = "lake.sales.*", **fields: Any) -> pb.Policy:
    policy = pb.Policy(name=name, table_pattern=pattern, **fields)
    policy.rewrite_data_files.SetInParent()
    return policy


async def preview(api: Api, **fields: Any) -> pb.PreviewPolicyResponse:
    answer: pb.PreviewPolicyResponse = await api.policies.PreviewPolicy(pb.PreviewPolicyRequest(**fields))
    return answer


async def test_a_policy_that_is_not_stored_is_shown_where_it_would_apply(api: Api) -> None:
    await tables(api, "lake.sales.orders", "lake.sales.tmp", "lake.raw.events", "sea.sales.orders")
    await apply_policy(api, "strong", table_pattern="lake.sales.tmp", priority=9)
    draft = document(expire_snapshots=pb.ExpireSnapshotsConfig())

    answer = await preview(api, policy=draft)

    shown = {
        each.table: [
            (one.operation_type, one.governing_policy_name, one.governs, one.reason) for one in each.operations
        ]
        for each in answer.tables
    }
    assert shown == {
        "orders": [(REWRITE, "draft", True, ""), (EXPIRE, "draft", True, "")],
        "tmp": [(REWRITE, "strong", False, "LOWER_PRIORITY"), (EXPIRE, "draft", True, "")],
    }
    assert answer.tables[1].operations[0].detail == "its priority is 0, that of strong is 9"
    assert not answer.next_page_token
    assert not (await api.policies.ListPolicies(pb.ListPoliciesRequest())).policies[1:]


async def test_a_stored_policy_is_previewed_by_its_name(api: Api) -> None:
    await tables(api, "lake.sales.orders")
    await apply_policy(api, "wide", table_pattern="*")
    await apply_policy(api, "close", table_pattern="lake.sales.orders")

    (table,) = (await preview(api, name="wide")).tables

    assert [(one.governing_policy_name, one.governs, one.reason) for one in table.operations] == [
        ("close", False, "LESS_SPECIFIC")
    ]


async def test_a_document_stands_in_for_the_stored_policy_of_its_name(api: Api) -> None:
    await tables(api, "lake.sales.orders")
    await apply_policy(api, "a", table_pattern="lake.sales.orders")
    await apply_policy(api, "b", table_pattern="lake.sales.orders")

    (table,) = (await preview(api, policy=document("a", "lake.sales.orders"))).tables

    # Still the one that was created first: the later one governs.
    assert (table.operations[0].governing_policy_name, table.operations[0].reason) == ("b", "CREATED_EARLIER")


@pytest.mark.parametrize(
    ("fields", "governing", "reason"), [({"enabled": False}, "wide", "DISABLED"), ({"mode": "SHADOW"}, "draft", "")]
)
async def test_disabled_and_shadow_policies_are_previewed_as_what_they_are(
    api: Api, fields: dict[str, Any], governing: str, reason: str
) -> None:
    await tables(api, "lake.sales.orders")
    await apply_policy(api, "wide", table_pattern="*", priority=10)

    (table,) = (await preview(api, policy=document(**fields))).tables

    assert (table.operations[0].governing_policy_name, table.operations[0].reason) == (governing, reason)


async def test_pages_give_every_matching_table_once(api: Api) -> None:
    names = [f"lake.sales.t{number}" for number in range(7)]
    await tables(api, *names, "lake.raw.x")

    found: list[str] = []
    token = ""
    while True:
        answer = await preview(api, policy=document(pattern="/lake\\.sales\\..*/"), page_size=3, page_token=token)
        found.extend(each.table for each in answer.tables)
        token = answer.next_page_token
        if not token:
            break

    assert found == [f"t{number}" for number in range(7)]


async def test_what_no_attached_executor_can_do_is_named(api: Api) -> None:
    draft = document(expire_snapshots=pb.ExpireSnapshotsConfig(), compute_statistics=pb.ComputeStatisticsConfig())

    nobody = (await preview(api, policy=draft)).impossible_types
    await attach_executor(api, types=[OperationType.REWRITE_DATA_FILES, OperationType.EXPIRE_SNAPSHOTS])
    somebody = (await preview(api, policy=draft)).impossible_types

    statistics = operation_pb2.OPERATION_TYPE_COMPUTE_STATISTICS
    assert list(nobody) == [REWRITE, EXPIRE, statistics]
    assert list(somebody) == [statistics]


async def test_an_executor_that_takes_no_work_does_not_count(api: Api) -> None:
    executor = await attach_executor(api)
    assert not (await preview(api, policy=document())).impossible_types

    await api.store.executors.set_drained(executor.id, True)

    assert list((await preview(api, policy=document())).impossible_types) == [REWRITE]


async def test_a_preview_of_nothing_is_refused(api: Api) -> None:
    missing = await refused(api.policies.PreviewPolicy(pb.PreviewPolicyRequest()))
    unknown = await refused(api.policies.PreviewPolicy(pb.PreviewPolicyRequest(name="none")))
    wrong = await refused(api.policies.PreviewPolicy(pb.PreviewPolicyRequest(policy=document(priority=99_999))))

    assert (missing.code, missing.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["name"])
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "POLICY_NOT_FOUND")
    assert (wrong.code, wrong.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["priority"])


async def test_every_generation_of_a_policy_can_be_read(api: Api) -> None:
    first = await apply_policy(api, "a", priority=1)
    update = pb.UpdatePolicyRequest(policy=pb.Policy(name="a", priority=2))
    second = (await api.policies.UpdatePolicy(update)).policy
    await api.policies.UpdatePolicy(pb.UpdatePolicyRequest(policy=pb.Policy(name="a", priority=3)))

    old = (await api.policies.GetPolicy(pb.GetPolicyRequest(name="a", generation=1))).policy
    middle = (await api.policies.GetPolicy(pb.GetPolicyRequest(name="a", generation=2))).policy
    current = (await api.policies.GetPolicy(pb.GetPolicyRequest(name="a", generation=3))).policy

    assert [(each.generation, each.priority, bool(each.etag)) for each in (old, middle, current)] == [
        (1, 1, False),
        (2, 2, False),
        (3, 3, True),
    ]
    assert old.create_time == first.create_time == middle.create_time == second.create_time


async def test_a_generation_that_never_was_is_not_found(api: Api) -> None:
    await apply_policy(api, "a")

    refusal = await refused(api.policies.GetPolicy(pb.GetPolicyRequest(name="a", generation=2)))
    negative = await refused(api.policies.GetPolicy(pb.GetPolicyRequest(name="a", generation=-1)))

    assert (refusal.reason, refusal.message) == ("POLICY_NOT_FOUND", "policy 'a' has no generation 2")
    assert negative.fields == ["generation"]
