"""PolicyService over the wire."""

from __future__ import annotations

from uuid import uuid4

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from floe.v1 import policy_pb2 as pb
from tests.support.api import Api, apply_policy, refused


async def test_a_policy_is_stored_as_it_was_written_and_read_back(api: Api) -> None:
    written = pb.Policy(name="nightly", table_pattern="lake.sales.*", tags={"team": "bi"})
    written.rewrite_data_files.strategy = "SORT"

    created = (await api.policies.CreatePolicy(pb.CreatePolicyRequest(policy=written))).policy
    read = (await api.policies.GetPolicy(pb.GetPolicyRequest(name="nightly"))).policy

    assert read == created
    assert (read.generation, bool(read.etag), read.HasField("create_time")) == (1, True, True)
    for kept in ("generation", "etag", "create_time", "update_time"):
        read.ClearField(kept)
    assert read == written


async def test_every_wrong_field_is_named_by_its_path_and_nothing_is_stored(api: Api) -> None:
    wrong = pb.Policy(name="nightly", table_pattern="lake..x", priority=99_999)
    wrong.rewrite_data_files.strategy = "FASTER"
    wrong.expire_snapshots.max_snapshot_age = "P1Y"

    refusal = await refused(api.policies.CreatePolicy(pb.CreatePolicyRequest(policy=wrong)))
    missing = await refused(api.policies.GetPolicy(pb.GetPolicyRequest(name="nightly")))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.fields) == {
        "tablePattern",
        "priority",
        "rewriteDataFiles.strategy",
        "expireSnapshots.maxSnapshotAge",
    }
    assert missing.code is grpc.StatusCode.NOT_FOUND


async def test_the_snapshots_floor_of_the_deployment_holds_for_policies(api: Api) -> None:
    wrong = pb.Policy(name="p", table_pattern="*")
    wrong.expire_snapshots.max_snapshot_age = "PT30M"

    refusal = await refused(api.policies.CreatePolicy(pb.CreatePolicyRequest(policy=wrong)))

    assert refusal.fields == ["expireSnapshots.maxSnapshotAge"]


async def test_a_policy_that_is_not_there_is_named_as_a_resource(api: Api) -> None:
    calls = (
        api.policies.GetPolicy(pb.GetPolicyRequest(name="none")),
        api.policies.UpdatePolicy(pb.UpdatePolicyRequest(policy=pb.Policy(name="none", priority=1))),
        api.policies.DeletePolicy(pb.DeletePolicyRequest(name="none")),
    )
    for call in calls:
        refusal = await refused(call)

        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "POLICY_NOT_FOUND")
        assert refusal.details["ResourceInfo"].resource_name == "none"


async def test_a_name_is_taken_once(api: Api) -> None:
    await apply_policy(api)

    refusal = await refused(
        api.policies.CreatePolicy(pb.CreatePolicyRequest(policy=pb.Policy(name="nightly", table_pattern="*")))
    )

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "POLICY_EXISTS")


async def test_pages_give_every_policy_once_in_the_order_of_names(api: Api) -> None:
    names = [f"policy-{n:02}" for n in range(7)]
    for name in reversed(names):
        await apply_policy(api, name)

    seen: list[str] = []
    token = ""
    while True:
        page = await api.policies.ListPolicies(pb.ListPoliciesRequest(page_size=3, page_token=token))
        seen.extend(policy.name for policy in page.policies)
        token = page.next_page_token
        if not token:
            break

    assert seen == names


async def test_a_negative_page_size_and_a_token_that_is_none_are_refused(api: Api) -> None:
    size = await refused(api.policies.ListPolicies(pb.ListPoliciesRequest(page_size=-1)))
    token = await refused(api.policies.ListPolicies(pb.ListPoliciesRequest(page_token="nonsense")))

    assert (size.fields, token.fields) == (["pageSize"], ["pageToken"])


async def test_an_update_takes_the_fields_of_the_mask_and_no_others(api: Api) -> None:
    await apply_policy(api, priority=5, description="old", tags={"a": "b"})
    changes = pb.Policy(name="nightly", priority=9, description="new")

    updated = await api.policies.UpdatePolicy(
        pb.UpdatePolicyRequest(policy=changes, update_mask=FieldMask(paths=["priority", "tags"]))
    )

    assert (updated.policy.priority, updated.policy.description, dict(updated.policy.tags)) == (9, "old", {})
    assert updated.policy.generation == 2


async def test_without_a_mask_the_set_fields_are_taken(api: Api) -> None:
    created = await apply_policy(api, description="old")

    updated = (
        await api.policies.UpdatePolicy(
            pb.UpdatePolicyRequest(policy=pb.Policy(name="nightly", description="new", etag=created.etag))
        )
    ).policy

    assert (updated.description, updated.table_pattern) == ("new", created.table_pattern)
    assert updated.generation == 1
    assert updated.etag != created.etag


async def test_a_mask_of_an_unknown_field_or_of_the_name_is_refused(api: Api) -> None:
    await apply_policy(api)
    for path in ("colour", "name", "rewrite_data_files.speed"):
        refusal = await refused(
            api.policies.UpdatePolicy(
                pb.UpdatePolicyRequest(policy=pb.Policy(name="nightly"), update_mask=FieldMask(paths=[path]))
            )
        )

        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_update_that_would_make_it_wrong_changes_nothing(api: Api) -> None:
    created = await apply_policy(api)

    refusal = await refused(
        api.policies.UpdatePolicy(pb.UpdatePolicyRequest(policy=pb.Policy(name="nightly", table_pattern="a..b")))
    )

    assert refusal.fields == ["tablePattern"]
    assert (await api.policies.GetPolicy(pb.GetPolicyRequest(name="nightly"))).policy == created


async def test_who_read_an_older_version_changes_nothing(api: Api) -> None:
    created = await apply_policy(api)
    await api.policies.UpdatePolicy(pb.UpdatePolicyRequest(policy=pb.Policy(name="nightly", priority=1)))

    update = await refused(
        api.policies.UpdatePolicy(
            pb.UpdatePolicyRequest(policy=pb.Policy(name="nightly", priority=2, etag=created.etag))
        )
    )
    delete = await refused(api.policies.DeletePolicy(pb.DeletePolicyRequest(name="nightly", etag=created.etag)))
    policy = (await api.policies.GetPolicy(pb.GetPolicyRequest(name="nightly"))).policy

    for refusal in (update, delete):
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert policy.priority == 1
    assert update.details["ErrorInfo"].metadata["etag"] == policy.etag


async def test_validate_only_says_the_same_and_stores_nothing(api: Api) -> None:
    kept = await apply_policy(api, "kept")
    new = pb.Policy(name="new", table_pattern="*")

    answer = await api.policies.CreatePolicy(
        pb.CreatePolicyRequest(policy=new, validate_only=True, request_id=str(uuid4()))
    )
    await api.policies.UpdatePolicy(
        pb.UpdatePolicyRequest(policy=pb.Policy(name="kept", priority=7), validate_only=True)
    )
    await api.policies.DeletePolicy(pb.DeletePolicyRequest(name="kept", validate_only=True))
    taken = await refused(
        api.policies.CreatePolicy(
            pb.CreatePolicyRequest(policy=pb.Policy(name="kept", table_pattern="*"), validate_only=True)
        )
    )

    assert answer.policy.name == "new"
    assert taken.reason == "POLICY_EXISTS"
    page = await api.policies.ListPolicies(pb.ListPoliciesRequest())
    assert list(page.policies) == [kept]


async def test_a_deleted_policy_is_gone(api: Api) -> None:
    await apply_policy(api)

    await api.policies.DeletePolicy(pb.DeletePolicyRequest(name="nightly"))

    assert (await refused(api.policies.GetPolicy(pb.GetPolicyRequest(name="nightly")))).reason == "POLICY_NOT_FOUND"
