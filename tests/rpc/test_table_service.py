"""TableService over the wire."""

from __future__ import annotations

from dataclasses import replace

import grpc

from control_plane.domain.health import HealthMetrics, Metric
from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.observation import LoadedTable, Measurements, ObservationError, ObservationKind
from floe.v1 import table_pb2 as pb
from tests.support.api import ORDERS, Api, know_table, looking, refused, register_catalog

GET = pb.GetTableRequest(catalog="lake", namespace="sales", table="orders")
INSPECT = pb.InspectTableRequest(catalog="lake", namespace="sales", table="orders")


async def test_a_known_table_is_found_by_its_name(api: Api) -> None:
    await register_catalog(api)
    known = await know_table(api)
    quoted = await know_table(api, TableName(CatalogName("lake"), ("e.u", "x"), "t.1"))

    table = (await api.tables.GetTable(GET)).table
    other = await api.tables.GetTable(pb.GetTableRequest(catalog="lake", namespace='"e.u".x', table="t.1"))

    assert (table.uuid, table.state, table.HasField("health")) == (known.uuid, pb.TABLE_STATE_PRESENT, False)
    assert other.table.uuid == quoted.uuid


async def test_an_unknown_table_and_an_unknown_catalog_are_told_apart(api: Api) -> None:
    catalog = await refused(api.tables.GetTable(GET))
    await register_catalog(api)
    table = await refused(api.tables.GetTable(GET))

    assert (catalog.code, catalog.reason) == (grpc.StatusCode.NOT_FOUND, "CATALOG_NOT_FOUND")
    assert (table.code, table.reason) == (grpc.StatusCode.NOT_FOUND, "TABLE_NOT_FOUND")
    assert table.details["ResourceInfo"].resource_name == "lake.sales.orders"


async def test_a_table_without_name_is_refused_by_its_fields(api: Api) -> None:
    refusal = await refused(api.tables.GetTable(pb.GetTableRequest(catalog="lake")))

    assert refusal.fields == ["namespace", "table"]


async def test_tables_are_listed_by_catalog_and_pattern_a_page_at_a_time(api: Api) -> None:
    names = [TableName(CatalogName(c), ("sales",), f"t{n}") for c in ("lake", "pond") for n in range(5)]
    for catalog in ("lake", "pond"):
        await register_catalog(api, catalog)
    for name in names:
        await know_table(api, name)

    async def every(**query: str) -> list[str]:
        seen: list[str] = []
        token = ""
        while True:
            page = await api.tables.ListTables(pb.ListTablesRequest(page_size=2, page_token=token, **query))
            seen.extend(f"{table.catalog}.{table.namespace[0]}.{table.name}" for table in page.tables)
            token = page.next_page_token
            if not token:
                return seen

    assert await every() == [str(name) for name in names]
    assert await every(catalog="pond") == [str(name) for name in names[5:]]
    assert await every(pattern="*.*.t3, lake.sales.t1") == ["lake.sales.t1", "lake.sales.t3", "pond.sales.t3"]


async def test_a_pattern_that_is_none_and_a_token_of_another_query_are_refused(api: Api) -> None:
    await register_catalog(api)
    for n in range(3):
        await know_table(api, TableName(CatalogName("lake"), ("sales",), f"t{n}"))
    page = await api.tables.ListTables(pb.ListTablesRequest(page_size=1))

    pattern = await refused(api.tables.ListTables(pb.ListTablesRequest(pattern="a..b")))
    token = await refused(api.tables.ListTables(pb.ListTablesRequest(page_token=page.next_page_token, catalog="lake")))

    assert (pattern.fields, token.fields) == (["pattern"], ["pageToken"])


async def test_an_inspection_measures_judges_and_keeps_the_report(api: Api) -> None:
    await register_catalog(api)
    loaded = LoadedTable("uuid-1", "s3://b/orders", "s3://b/orders/m1.json", 2, 77)  # type: ignore[arg-type]
    metrics = HealthMetrics(
        data_file_count=Metric.exact(100),
        small_file_count=Metric.exact(90),
        reducible_file_count=Metric.exact(80),
        snapshot_count=Metric.exact(20),
        metadata_location="s3://b/orders/m1.json",
        scan_mode="scan",
    )

    async with looking(api, {ObservationKind.INSPECT_TABLE: Measurements(loaded, metrics)}):
        inspected = (await api.tables.InspectTable(INSPECT)).table

    assert inspected.uuid == "uuid-1"
    assert inspected.health.status == pb.HEALTH_STATUS_CRITICAL
    assert inspected.health.score == 70
    assert [issue.type for issue in inspected.health.issues] == ["TOO_MANY_SMALL_FILES"]
    assert inspected.health.scan_mode == "scan"
    assert (await api.tables.GetTable(GET)).table == inspected


async def test_a_catalog_that_is_down_leaves_the_reason_with_the_table(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    down = ObservationError("UNAVAILABLE", "connection refused")

    async with looking(api, {ObservationKind.INSPECT_TABLE: down}):
        refusal = await refused(api.tables.InspectTable(INSPECT))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "CATALOG_UNREACHABLE")
    health = (await api.tables.GetTable(GET)).table.health
    assert (health.status, health.error) == (pb.HEALTH_STATUS_UNKNOWN, "connection refused")


async def test_an_inspection_that_finds_no_table_says_so_and_drops_nothing_by_itself(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)

    async with looking(api, {ObservationKind.INSPECT_TABLE: ObservationError("NOT_FOUND", "no such table")}):
        refusal = await refused(api.tables.InspectTable(INSPECT))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "TABLE_NOT_FOUND")
    assert (await api.tables.GetTable(GET)).table.state == pb.TABLE_STATE_PRESENT


async def test_an_inspection_that_nobody_can_make_says_so(api: Api) -> None:
    await register_catalog(api)

    refusal = await refused(api.tables.InspectTable(INSPECT))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_EXECUTOR")


async def test_an_inspection_of_an_unknown_catalog_asks_nobody(api: Api) -> None:
    refusal = await refused(api.tables.InspectTable(INSPECT))

    assert refusal.reason == "CATALOG_NOT_FOUND"
    assert not await api.store.observations.claimable()


async def test_a_renamed_table_keeps_its_identity(api: Api) -> None:
    await register_catalog(api)
    known = await know_table(api)
    await api.store.tables.seen([replace(known, name=replace(ORDERS, name="orders_v2"))])

    renamed = await api.tables.GetTable(pb.GetTableRequest(catalog="lake", namespace="sales", table="orders_v2"))

    assert renamed.table.uuid == known.uuid
    assert (await refused(api.tables.GetTable(GET))).reason == "TABLE_NOT_FOUND"
