"""CatalogService over the wire."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.observation import Answer, CatalogChecks, ObservationError, ObservationKind, TableNames
from control_plane.domain.operation import Finding
from control_plane.ports.records import ObservationClaim
from floe.v1 import catalog_pb2 as pb
from floe.v1 import operation_pb2, trigger_pb2
from tests.support.api import (
    Api,
    apply_policy,
    attach_executor,
    know_table,
    looking,
    refused,
    register_catalog,
)


async def trigger(api: Api) -> str:
    """An unfinished operation in the catalog."""
    await apply_policy(api)
    await know_table(api)
    request = trigger_pb2.TriggerMaintenanceRequest(catalog="lake", namespace="sales", table="orders")
    return (await api.triggers.TriggerMaintenance(request)).runs[0].operations[0].id


async def test_a_registered_catalog_is_read_back_and_listed(api: Api) -> None:
    created = await register_catalog(api, properties={"s3.region": "eu"}, secrets={"credential": "lake.credential"})

    read = (await api.catalogs.GetCatalog(pb.GetCatalogRequest(name="lake"))).catalog
    page = await api.catalogs.ListCatalogs(pb.ListCatalogsRequest())

    assert read == created
    assert list(page.catalogs) == [created]
    assert (read.generation, bool(read.etag), read.HasField("last_list_time")) == (1, True, False)


async def test_a_new_catalog_waits_to_be_listed_by_an_executor(api: Api) -> None:
    await register_catalog(api)
    executor = await attach_executor(api)
    assert executor.session is not None

    wanted = await api.store.observations.claim(
        ObservationClaim(executor.session, executor.id, [ObservationKind.LIST_TABLES], [], slots=5)
    )

    assert [(look.request.kind, look.request.catalog) for look in wanted] == [(ObservationKind.LIST_TABLES, "lake")]


async def test_every_wrong_field_of_a_catalog_is_named_and_nothing_is_stored(api: Api) -> None:
    wrong = pb.Catalog(
        name="Lake", uri="file:///etc/passwd", type=pb.CATALOG_TYPE_REST, properties={"token": "hunter2"}
    )

    refusal = await refused(api.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog=wrong)))

    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == ["catalog.name", "catalog.uri", 'catalog.properties["token"]']
    assert "hunter2" not in refusal.message
    assert not (await api.catalogs.ListCatalogs(pb.ListCatalogsRequest())).catalogs


async def test_a_catalogs_name_is_taken_once(api: Api) -> None:
    await register_catalog(api)

    again = pb.Catalog(name="lake", type=pb.CATALOG_TYPE_REST, uri="http://localhost:1")
    refusal = await refused(api.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog=again)))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "CATALOG_EXISTS")


async def test_a_catalog_that_is_not_there_is_named_as_a_resource(api: Api) -> None:
    calls = (
        api.catalogs.GetCatalog(pb.GetCatalogRequest(name="none")),
        api.catalogs.UpdateCatalog(pb.UpdateCatalogRequest(catalog=pb.Catalog(name="none", description="x"))),
        api.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name="none")),
        api.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name="none", force=True)),
        api.catalogs.CheckCatalog(pb.CheckCatalogRequest(name="none")),
    )
    for call in calls:
        refusal = await refused(call)

        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CATALOG_NOT_FOUND")
        assert refusal.details["ResourceInfo"].resource_name == "none"


async def test_the_generation_rises_only_when_the_catalog_is_elsewhere(api: Api) -> None:
    await register_catalog(api)

    described = await api.catalogs.UpdateCatalog(
        pb.UpdateCatalogRequest(catalog=pb.Catalog(name="lake", description="ours", max_concurrent_operations=3))
    )
    moved = await api.catalogs.UpdateCatalog(
        pb.UpdateCatalogRequest(
            catalog=pb.Catalog(name="lake", uri="http://127.0.0.1:9", description="ignored"),
            update_mask=FieldMask(paths=["uri"]),
        )
    )

    assert (described.catalog.generation, moved.catalog.generation) == (1, 2)
    assert (moved.catalog.uri, moved.catalog.description) == ("http://127.0.0.1:9", "ours")
    assert moved.catalog.warehouse == "s3://bucket/lake"


async def test_the_type_never_changes_and_an_unknown_field_is_refused(api: Api) -> None:
    await register_catalog(api)

    kind = await refused(
        api.catalogs.UpdateCatalog(pb.UpdateCatalogRequest(catalog=pb.Catalog(name="lake", type=pb.CATALOG_TYPE_JDBC)))
    )
    mask = await refused(
        api.catalogs.UpdateCatalog(
            pb.UpdateCatalogRequest(catalog=pb.Catalog(name="lake"), update_mask=FieldMask(paths=["generation"]))
        )
    )

    assert (kind.fields, mask.fields) == (["catalog.type"], ["updateMask"])


async def test_a_catalog_that_is_at_another_etag_is_not_changed(api: Api) -> None:
    created = await register_catalog(api)
    await api.catalogs.UpdateCatalog(pb.UpdateCatalogRequest(catalog=pb.Catalog(name="lake", description="x")))

    update = await refused(
        api.catalogs.UpdateCatalog(
            pb.UpdateCatalogRequest(catalog=pb.Catalog(name="lake", description="y", etag=created.etag))
        )
    )
    delete = await refused(api.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name="lake", etag="never-was")))

    for refusal in (update, delete):
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_a_catalog_in_use_neither_moves_nor_goes(api: Api) -> None:
    await register_catalog(api)
    await trigger(api)

    moved = await refused(
        api.catalogs.UpdateCatalog(pb.UpdateCatalogRequest(catalog=pb.Catalog(name="lake", uri="http://127.0.0.1:9")))
    )
    gone = await refused(api.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name="lake")))
    await api.catalogs.UpdateCatalog(pb.UpdateCatalogRequest(catalog=pb.Catalog(name="lake", description="still")))

    for refusal in (moved, gone):
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CATALOG_IN_USE")
        assert refusal.details["ErrorInfo"].metadata["operations"] == "1"


async def test_a_forced_deletion_cancels_what_is_queued_and_then_deletes(api: Api) -> None:
    await register_catalog(api)
    operation = await trigger(api)

    await api.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name="lake", force=True))

    cancelled = await api.operations.GetOperation(operation_pb2.GetOperationRequest(id=operation))
    assert cancelled.operation.state == operation_pb2.OPERATION_STATE_CANCELLED
    assert (await refused(api.catalogs.GetCatalog(pb.GetCatalogRequest(name="lake")))).reason == "CATALOG_NOT_FOUND"


async def test_a_forced_deletion_that_is_only_validated_cancels_nothing(api: Api) -> None:
    await register_catalog(api)
    operation = await trigger(api)

    await refused(api.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name="lake", force=True, validate_only=True)))

    queued = await api.operations.GetOperation(operation_pb2.GetOperationRequest(id=operation))
    assert queued.operation.state == operation_pb2.OPERATION_STATE_QUEUED


async def test_a_check_says_step_by_step_what_an_executor_saw(api: Api) -> None:
    await register_catalog(api)
    checks = CatalogChecks([Finding("reachable", True, "200"), Finding("listable", False, "403", "grant it")])

    async with looking(api, {ObservationKind.CHECK_CATALOG: checks}) as executor:
        answer = await api.catalogs.CheckCatalog(pb.CheckCatalogRequest(name="lake"))

    assert not answer.healthy
    assert [(check.check, check.passed, check.hint) for check in answer.checks] == [
        ("reachable", True, ""),
        ("listable", False, "grant it"),
    ]
    assert answer.executor_id == executor.id
    assert not answer.HasField("table_count")


async def test_a_check_with_refresh_lists_the_tables_too(api: Api) -> None:
    await register_catalog(api)
    names = [TableName(CatalogName("lake"), ("sales",), name) for name in ("a", "b")]
    answers: dict[ObservationKind, Answer] = {
        ObservationKind.CHECK_CATALOG: CatalogChecks([Finding("reachable", True)]),
        ObservationKind.LIST_TABLES: TableNames(names, complete=True),
    }

    async with looking(api, answers):
        answer = await api.catalogs.CheckCatalog(pb.CheckCatalogRequest(name="lake", refresh=True))

    assert (answer.healthy, answer.table_count) == (True, 2)
    listed = (await api.catalogs.GetCatalog(pb.GetCatalogRequest(name="lake"))).catalog
    assert listed.HasField("last_list_time")
    assert [table.name for table in await api.store.tables.list(catalog=None, after=None, limit=9)] == names


async def test_a_listing_that_fails_says_why_and_is_remembered(api: Api) -> None:
    await register_catalog(api)
    answers: dict[ObservationKind, Answer] = {
        ObservationKind.CHECK_CATALOG: CatalogChecks([Finding("reachable", True)]),
        ObservationKind.LIST_TABLES: ObservationError("UNAVAILABLE", "connection refused"),
    }

    async with looking(api, answers):
        refusal = await refused(api.catalogs.CheckCatalog(pb.CheckCatalogRequest(name="lake", refresh=True)))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "CATALOG_UNREACHABLE")
    catalog = (await api.catalogs.GetCatalog(pb.GetCatalogRequest(name="lake"))).catalog
    assert catalog.last_list_error == "connection refused"


@pytest.mark.parametrize("refresh", [False, True])
async def test_a_check_without_any_executor_says_so(api: Api, refresh: bool) -> None:
    await register_catalog(api)

    refusal = await refused(api.catalogs.CheckCatalog(pb.CheckCatalogRequest(name="lake", refresh=refresh)))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_EXECUTOR")
    assert refusal.details["ErrorInfo"].metadata["catalog"] == "lake"
