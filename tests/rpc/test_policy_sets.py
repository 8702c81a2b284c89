"""ApplyPolicies over the wire: a set of policies becomes what is stored, all of it or none."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import grpc
import pytest

from control_plane.domain.identifiers import CatalogName, TableName
from floe.v1 import operation_pb2
from floe.v1 import policy_pb2 as pb
from tests.support.api import Api, apply_policy, know_table, refused, register_catalog

Kind = pb.PolicyChange.Kind


def policy(name: str, pattern: str = "lake.**", **fields: Any) -> pb.Policy:
    made = pb.Policy(name=name, table_pattern=pattern, **fields)
    if "expire_snapshots" not in fields:
        made.rewrite_data_files.SetInParent()
    return made


async def stored(api: Api) -> dict[str, pb.Policy]:
    answer = await api.policies.ListPolicies(pb.ListPoliciesRequest(page_size=1_000))
    return {each.name: each for each in answer.policies}


async def apply(api: Api, *policies: pb.Policy, **fields: Any) -> pb.ApplyPoliciesResponse:
    answer: pb.ApplyPoliciesResponse = await api.policies.ApplyPolicies(
        pb.ApplyPoliciesRequest(policies=policies, **fields)
    )
    return answer


def kinds(answer: pb.ApplyPoliciesResponse) -> dict[str, str]:
    return {change.policy.name: Kind.Name(change.kind).removeprefix("KIND_") for change in answer.changes}


async def test_a_set_creates_updates_and_leaves_alone(api: Api) -> None:
    await apply(api, policy("same"), policy("other", priority=1))

    answer = await apply(api, policy("new"), policy("other", priority=2, description="d"), policy("same"))

    assert kinds(answer) == {"new": "CREATED", "other": "UPDATED", "same": "UNCHANGED"}
    assert [change.policy.name for change in answer.changes] == ["new", "other", "same"]
    assert answer.changes[1].changed_paths == ["description", "priority"]
    after = await stored(api)
    assert [after[name].generation for name in ("new", "other", "same")] == [1, 2, 1]
    assert after == {change.policy.name: change.policy for change in answer.changes}


async def test_what_a_set_unsets_is_unset(api: Api) -> None:
    await apply(api, policy("a", priority=5, tags={"k": "v"}))

    answer = await apply(api, policy("a"))

    assert answer.changes[0].changed_paths == ["priority", "tags"]
    assert not (await stored(api))["a"].HasField("priority")


async def test_changed_paths_reach_into_the_parts_of_a_policy(api: Api) -> None:
    first, second = policy("a"), policy("a")
    first.rewrite_data_files.strategy = "BINPACK"
    second.rewrite_data_files.strategy = "SORT"
    second.trigger_conditions.per_operation["EXPIRE_SNAPSHOTS"].snapshot_count_above = 9
    first.trigger_conditions.per_operation["EXPIRE_SNAPSHOTS"].snapshot_count_above = 8
    second.rewrite_data_files_schedule.cron_expression = "0 2 * * *"
    await apply(api, first)

    answer = await apply(api, second)

    assert answer.changes[0].changed_paths == [
        "rewriteDataFiles.strategy",
        "rewriteDataFilesSchedule",
        "triggerConditions.perOperation.EXPIRE_SNAPSHOTS.snapshotCountAbove",
    ]


async def test_pruning_deletes_what_the_same_keeper_keeps_and_the_set_lacks(api: Api) -> None:
    await apply_policy(api, "nobodys")
    await apply(api, policy("theirs"), managed_by="them")
    await apply(api, policy("kept"), policy("gone"), managed_by="us")

    without = await apply(api, policy("kept"), managed_by="us")
    pruned = await apply(api, policy("kept"), managed_by="us", prune=True)

    assert kinds(without) == {"kept": "UNCHANGED"}
    assert kinds(pruned) == {"kept": "UNCHANGED", "gone": "DELETED"}
    assert set(await stored(api)) == {"nobodys", "theirs", "kept"}
    assert (await stored(api))["kept"].managed_by == "us"


async def test_an_empty_set_prunes_all_that_is_kept(api: Api) -> None:
    await apply(api, policy("a"), policy("b"), managed_by="us")

    assert kinds(await apply(api, managed_by="us", prune=True)) == {"a": "DELETED", "b": "DELETED"}
    assert not await stored(api)


async def test_a_set_takes_over_what_nobody_keeps(api: Api) -> None:
    await apply_policy(api, "a")

    answer = await apply(api, policy("a"), managed_by="us")

    assert answer.changes[0].changed_paths == ["managedBy"]
    assert answer.changes[0].policy.generation == 1


def wrong_strategy(name: str) -> pb.Policy:
    made = policy(name)
    made.rewrite_data_files.strategy = "FASTER"
    return made


@pytest.mark.parametrize(
    ("request_fields", "fields"),
    [
        ({"policies": [policy("x"), wrong_strategy("y")]}, ["policies[1].rewriteDataFiles.strategy"]),
        ({"policies": [policy("X"), policy("x", priority=99_999)]}, ["policies[0].name", "policies[1].priority"]),
        ({"policies": [policy("x"), policy("x")]}, ["policies[1].name"]),
        ({"policies": [policy("x", managed_by="b")], "managed_by": "a"}, ["policies[0].managedBy"]),
        ({"policies": [policy("x"), policy("theirs")], "managed_by": "us"}, ["policies[1].managedBy"]),
        ({"policies": [policy("x")], "prune": True}, ["managedBy"]),
        ({"policies": [policy("x")], "managed_by": "a\x00"}, ["managedBy"]),
        ({"policies": [policy("x")], "managed_by": "a" * 129}, ["managedBy"]),
        ({"policies": [policy(f"p{n}") for n in range(1_001)]}, ["policies"]),
        ({"policies": [policy("x")], "request_id": "1"}, ["requestId"]),
    ],
)
@pytest.mark.parametrize("validate_only", [False, True])
async def test_one_wrong_field_and_nothing_is_stored(
    api: Api, request_fields: dict[str, Any], fields: list[str], validate_only: bool
) -> None:
    await apply(api, policy("theirs"), managed_by="them")
    before = await stored(api)

    refusal = await refused(
        api.policies.ApplyPolicies(pb.ApplyPoliciesRequest(**request_fields, validate_only=validate_only))
    )

    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == fields
    assert await stored(api) == before


async def test_an_etag_that_is_not_the_current_one_stops_the_whole_set(api: Api) -> None:
    await apply(api, policy("a"), policy("b"))
    before = await stored(api)
    stale = policy("b", priority=3, etag="old")

    refusal = await refused(
        api.policies.ApplyPolicies(pb.ApplyPoliciesRequest(policies=[policy("a", priority=3), stale]))
    )

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert await stored(api) == before
    stale.etag = before["b"].etag
    assert kinds(await apply(api, stale)) == {"b": "UPDATED"}


async def test_a_repeated_request_gets_the_first_answer(api: Api) -> None:
    request = pb.ApplyPoliciesRequest(policies=[policy("a")], request_id=str(uuid4()))

    first = await api.policies.ApplyPolicies(request)
    again = await api.policies.ApplyPolicies(request)

    assert again == first
    assert kinds(again) == {"a": "CREATED"}


async def test_validating_stores_nothing_and_answers_the_difference(api: Api) -> None:
    await apply(api, policy("a"), policy("b"), managed_by="us")
    before = await stored(api)

    answer = await apply(api, policy("a", priority=1), policy("c"), managed_by="us", prune=True, validate_only=True)

    assert kinds(answer) == {"a": "UPDATED", "c": "CREATED", "b": "DELETED"}
    assert answer.changes[0].changed_paths == ["priority"]
    assert await stored(api) == before


async def test_validating_names_the_tables_that_another_policy_would_govern(api: Api) -> None:
    await register_catalog(api)
    await register_catalog(api, "sea")
    for catalog, table in (("lake", "orders"), ("lake", "events"), ("sea", "fish")):
        await know_table(api, TableName(CatalogName(catalog), ("sales",), table))
    await apply(api, policy("wide", "*"))
    closer = policy("closer", "lake.sales.orders")
    closer.expire_snapshots.SetInParent()
    shadow = policy("shadow", "sea.**", mode="SHADOW")

    answer = await apply(api, closer, shadow, policy("wide", "*", description="d"), validate_only=True)

    found = [
        (
            each.catalog,
            list(each.namespace),
            each.table,
            each.operation_type,
            each.mode,
            each.old_policy_name,
            each.new_policy_name,
        )
        for each in answer.governing_changes
    ]
    rewrite, expire = (
        operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES,
        operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS,
    )
    assert found == [
        ("lake", ["sales"], "orders", rewrite, "ACTIVE", "wide", "closer"),
        ("lake", ["sales"], "orders", expire, "ACTIVE", "", "closer"),
        ("sea", ["sales"], "fish", rewrite, "SHADOW", "", "shadow"),
    ]
    assert (answer.governing_change_count, answer.governing_table_count) == (3, 2)


async def test_a_policy_that_goes_leaves_its_tables_to_the_next(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    await apply(api, policy("wide", "*"))
    await apply(api, policy("closer", "lake.**"), managed_by="us")

    answer = await apply(api, managed_by="us", prune=True, validate_only=True)

    (change,) = answer.governing_changes
    assert (change.old_policy_name, change.new_policy_name) == ("closer", "wide")


async def test_more_governing_changes_than_are_shown_are_counted(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.services.policy_sets.MAX_GOVERNING_CHANGES", 2)
    await register_catalog(api)
    for number in range(5):
        await know_table(api, TableName(CatalogName("lake"), ("sales",), f"t{number}"))

    answer = await apply(api, policy("a"), validate_only=True)

    assert [each.table for each in answer.governing_changes] == ["t0", "t1"]
    assert (answer.governing_change_count, answer.governing_table_count) == (5, 5)


async def test_labels_change_nobodys_government(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    await apply(api, policy("a"))

    answer = await apply(api, policy("a", description="d", tags={"k": "v"}), validate_only=True)

    assert kinds(answer) == {"a": "UPDATED"}
    assert not answer.governing_changes
