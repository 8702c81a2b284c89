"""TriggerService.PlanMaintenance over the wire, and triggers that demand a plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from control_plane.domain import health
from control_plane.domain.catalog import Table
from control_plane.domain.health import HealthMetrics, Metric
from control_plane.domain.identifiers import OperationType
from control_plane.domain.observation import (
    ExpiryPlan,
    LoadedTable,
    ObservationError,
    ObservationKind,
    SnapshotRef,
)
from control_plane.domain.thresholds import DEFAULT
from floe.v1 import operation_pb2, policy_pb2, system_pb2
from floe.v1 import trigger_pb2 as pb
from tests.support import factories
from tests.support.api import ORDERS, Api, know_table, looking, refused, register_catalog
from tests.support.scene import Scene

PLAN = pb.PlanMaintenanceRequest(catalog="lake", namespace="sales", table="orders")
REWRITE = operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES
EXPIRE = operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS
METADATA = "s3://bucket/orders/metadata/00007.json"
LOAD, EXPIRY = ObservationKind.LOAD_TABLE, ObservationKind.PLAN_EXPIRY


def trigger(hash: str = "", **more: Any) -> pb.TriggerMaintenanceRequest:
    return pb.TriggerMaintenanceRequest(catalog="lake", namespace="sales", table="orders", plan_hash=hash, **more)


async def write(api: Api, name: str = "tidy", **document: Any) -> policy_pb2.Policy:
    policy = policy_pb2.Policy(name=name, table_pattern="lake.**")
    for field, value in document.items():
        if isinstance(value, dict):
            getattr(policy, field).SetInParent()
            getattr(policy, field).MergeFrom(type(getattr(policy, field))(**value))
        else:
            setattr(policy, field, value)
    return (await api.policies.CreatePolicy(policy_pb2.CreatePolicyRequest(policy=policy))).policy


def loaded(table: Table, **changes: Any) -> LoadedTable:
    return replace(LoadedTable(table.uuid, table.location, METADATA, 2), **changes)


def expiry(table: Table, **changes: Any) -> ExpiryPlan:
    plan = ExpiryPlan(
        loaded(table),
        expiring=(1, 2),
        retained=(3,),
        expiring_count=2,
        retained_count=1,
        newest_expiring_time=datetime(2026, 1, 1, tzinfo=UTC),
        refs=(SnapshotRef("main", 3, True), SnapshotRef("audit", 2, False)),
    )
    return replace(plan, **changes)


@pytest.fixture
async def table(api: Api) -> Table:
    await register_catalog(api)
    return await know_table(api)


async def measured(api: Api, table: Table, metadata_location: str = METADATA, **figures: float) -> None:
    metrics = HealthMetrics.measured(
        ((name, Metric.exact(value)) for name, value in figures.items()), metadata_location=metadata_location
    )
    report = health.assess(metrics, DEFAULT, now=await api.store.now())
    await api.store.tables.save_report(ORDERS, table.uuid, report)


async def plans(api: Api, answers: dict[ObservationKind, Any]) -> dict[int, pb.PlannedOperation]:
    async with looking(api, answers):
        answer = await api.triggers.PlanMaintenance(PLAN)
    return {each.operation_type: each for each in answer.operations}


async def test_a_compaction_is_predicted_from_the_report(api: Api, table: Table) -> None:
    await write(api, rewrite_data_files={"target_file_size_bytes": 100 * 2**20})
    await measured(api, table, reducible_file_count=97, reducible_bytes=250 * 2**20)

    (each,) = (await plans(api, {LOAD: loaded(table)})).values()

    assert (each.operation_type, each.policy_name, each.policy_generation) == (REWRITE, "tidy", 1)
    assert (each.input_files, each.input_bytes) == (100, 250 * 2**20)
    assert (each.output_files, each.output_bytes) == (3, 250 * 2**20)
    assert (each.would_run, each.refusal, list(each.blockers), list(each.risks)) == (True, "", [], [])
    assert not each.HasField("duration_seconds")
    assert each.duration_basis == "no such operation has succeeded yet"


async def test_what_was_not_measured_is_not_predicted(api: Api, table: Table) -> None:
    await write(api, rewrite_data_files={})

    (each,) = (await plans(api, {LOAD: loaded(table)})).values()

    assert not any(each.HasField(name) for name in ("input_files", "input_bytes", "output_files", "output_bytes"))
    assert [risk.code for risk in each.risks] == ["no_report"]


async def test_a_report_of_another_metadata_file_is_a_risk(api: Api, table: Table) -> None:
    await write(api, rewrite_data_files={})
    await measured(api, table, "s3://bucket/orders/metadata/00006.json", reducible_file_count=9, reducible_bytes=100)

    (each,) = (await plans(api, {LOAD: loaded(table)})).values()

    assert [risk.code for risk in each.risks] == ["stale_report"]


async def test_an_expiry_is_planned_by_an_executor(api: Api, table: Table) -> None:
    await write(api, expire_snapshots={})

    each = (await plans(api, {LOAD: loaded(table), EXPIRY: expiry(table)}))[EXPIRE]

    assert (each.expiring_snapshots, each.retained_snapshots) == (2, 1)
    assert not each.HasField("input_files")
    assert [risk.code for risk in each.risks] == ["refs", "time_travel"]
    assert "audit" in each.risks[0].text and "main" not in each.risks[0].text


async def test_an_expiry_that_would_refuse_says_why(api: Api, table: Table) -> None:
    await write(api, expire_snapshots={})

    refusing = expiry(table, refusal="gc.enabled is false", expiring_count=0)
    each = (await plans(api, {LOAD: loaded(table), EXPIRY: refusing}))[EXPIRE]

    assert each.refusal == "gc.enabled is false"
    assert each.expiring_snapshots == 0


async def test_the_duration_is_of_this_table_if_it_has_any_history(api: Api, table: Table) -> None:
    await write(api, rewrite_data_files={})
    await measured(api, table, reducible_file_count=9, reducible_bytes=4_096)
    scene = Scene(api.store)
    for name, uuid in ((replace(ORDERS, name="other"), "other"), (ORDERS, table.uuid)):
        running = await scene.running(await scene.attach(), table=name, table_uuid=uuid, policy="tidy")
        await scene.report(running.lease, factories.result(metrics={"bytes_rewritten": 4_096}))

    (each,) = (await plans(api, {LOAD: loaded(table)})).values()

    assert each.HasField("duration_seconds")
    assert each.duration_basis == "from the last 1 of this type on this table, by the bytes that it rewrites"


async def test_what_is_in_the_way_is_told(api: Api, table: Table) -> None:
    await write(api, rewrite_data_files={}, trigger_conditions={"small_file_count_above": 5})
    await measured(api, table, small_file_count=1, reducible_file_count=0, reducible_bytes=0)
    await api.system.Pause(system_pb2.PauseRequest(catalog="lake", reason="moving house"))

    (each,) = (await plans(api, {LOAD: loaded(table, maintenance_enabled=False)})).values()

    assert any("moving house" in blocker for blocker in each.blockers)
    assert not each.would_run and "1 data file" in each.condition_text
    assert [risk.code for risk in each.risks] == ["maintenance_disabled"]
    assert (each.input_files, each.output_files) == (0, 0)


async def test_a_plan_that_nobody_can_make_says_what_is_missing(api: Api, table: Table) -> None:
    await write(api, rewrite_data_files={})

    async with looking(api, {LOAD: ObservationError("UNAVAILABLE", "connection refused")}):
        unreachable = await refused(api.triggers.PlanMaintenance(PLAN))
    async with looking(api, {LOAD: ObservationError("NOT_FOUND", "no such table")}):
        gone = await refused(api.triggers.PlanMaintenance(PLAN))

    assert unreachable.reason == "CATALOG_UNREACHABLE" and "connection refused" in unreachable.message
    assert gone.reason == "TABLE_NOT_FOUND"


# -- triggers that demand a plan


async def planned(api: Api, answers: dict[ObservationKind, Any]) -> str:
    async with looking(api, answers):
        return str((await api.triggers.PlanMaintenance(PLAN)).plan_hash)


async def test_a_trigger_with_the_hash_of_a_plan_that_holds_is_queued(api: Api, table: Table) -> None:
    await write(api, rewrite_data_files={})
    hash = await planned(api, {LOAD: loaded(table)})

    async with looking(api, {LOAD: loaded(table)}):
        answer = await api.triggers.TriggerMaintenance(trigger(hash))

    assert len(answer.runs[0].operations) == 1


async def test_a_trigger_says_what_of_its_plan_has_changed_and_queues_nothing(api: Api, table: Table) -> None:
    policy = await write(api, rewrite_data_files={})
    hash = await planned(api, {LOAD: loaded(table)})

    async with looking(api, {LOAD: loaded(table, metadata_location="s3://bucket/orders/metadata/00008.json")}):
        committed = await refused(api.triggers.TriggerMaintenance(trigger(hash)))
    policy.rewrite_data_files.min_input_files = 7
    await api.policies.UpdatePolicy(policy_pb2.UpdatePolicyRequest(policy=policy))
    async with looking(api, {LOAD: loaded(table)}):
        edited = await refused(api.triggers.TriggerMaintenance(trigger(hash)))
    async with looking(api, {LOAD: loaded(table, uuid="uuid-of-another")}):
        replaced = await refused(api.triggers.TriggerMaintenance(trigger(hash)))

    assert {each.code for each in (committed, edited, replaced)} == {grpc.StatusCode.FAILED_PRECONDITION}
    assert {each.reason for each in (committed, edited, replaced)} == {"PLAN_CHANGED"}
    assert "its metadata file changed" in committed.message
    assert "the policies that govern it or their generations changed" in edited.message
    assert "the table itself and the policies" in replaced.message
    assert not (await api.operations.ListOperations(operation_pb2.ListOperationsRequest())).operations


async def test_a_hash_is_of_one_table_and_of_all_that_is_asked(api: Api, table: Table) -> None:
    await write(api, rewrite_data_files={}, expire_snapshots={})
    hash = await planned(api, {LOAD: loaded(table), EXPIRY: expiry(table)})

    async with looking(api, {LOAD: loaded(table)}):
        narrower = await refused(api.triggers.TriggerMaintenance(trigger(hash, operation_types=[EXPIRE])))
    nonsense = await refused(api.triggers.TriggerMaintenance(trigger("abc")))
    wide = pb.TriggerMaintenanceRequest(pattern="lake.**", plan_hash=hash)
    pattern = await refused(api.triggers.TriggerMaintenance(wide))
    conditional = await refused(api.triggers.TriggerMaintenance(trigger(hash, respect_conditions=True)))

    assert narrower.reason == "PLAN_CHANGED"
    assert nonsense.fields == pattern.fields == conditional.fields == ["planHash"]


async def test_the_types_of_a_plan_are_in_the_order_of_a_run(api: Api, table: Table) -> None:
    await write(api, rewrite_data_files={}, expire_snapshots={}, rewrite_manifests={}, compute_statistics={})

    found = await plans(api, {LOAD: loaded(table), EXPIRY: expiry(table)})

    assert list(found) == [
        operation_pb2.OperationType.Value(f"OPERATION_TYPE_{kind}")
        for kind in OperationType
        if kind in ("REWRITE_DATA_FILES", "REWRITE_MANIFESTS", "EXPIRE_SNAPSHOTS", "COMPUTE_STATISTICS")
    ]
