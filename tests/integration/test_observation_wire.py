"""From the control plane's question over the wire to real tables, and back to the answer that it reads."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyiceberg.table import Table

from control_plane.domain.identifiers import CatalogName, ObservationId, TableName, TableUuid
from control_plane.domain.observation import (
    Answer,
    ExpiryPlan,
    LoadedTable,
    Measurements,
    Observation,
    ObservationError,
    ObservationKind,
    ObservationRequest,
    OrphanPlan,
    ScanMode,
    SnapshotRef,
    TableNames,
)
from control_plane.rpc.convert import observations
from control_plane.services.dispatch import Look
from executor import convert_observations
from executor.convert import UnknownRequest, wall_time
from executor.observation import model
from executor.observation.errors import ObservationError as LookFailed
from executor.observation.lane import ObservationLane
from tests.support import factories
from tests.support.iceberg import MESSY_SCHEMA, RestCatalog, messy_table, on_disk

LAKE = CatalogName("lake")

Ask = Callable[[ObservationRequest], Awaitable[Answer]]


@pytest.fixture
async def ask(rest_catalog: RestCatalog) -> AsyncIterator[Ask]:
    """What the control plane gets to read when it asks this."""
    record = factories.catalog(LAKE, uri=rest_catalog.uri)
    async with ObservationLane(1) as lane:

        async def ask(request: ObservationRequest) -> Answer:
            now = datetime.now(UTC)
            observation = Observation(ObservationId("o1"), request, now, now, timedelta(minutes=1), epoch=1)
            asked = observations.look_to_proto(Look(observation, record))
            answer: Any
            try:
                answer = await lane.run(convert_observations.request(asked))
            except LookFailed as failure:
                answer = failure
            wire = convert_observations.to_wire(asked, answer, began=wall_time(), elapsed=timedelta())
            return observations.answer_from_proto(LAKE, type(wire).FromString(wire.SerializeToString()))

        yield ask


def name(table: Table) -> TableName:
    *namespace, own = table.name()
    return TableName(LAKE, tuple(namespace), own)


def asked(kind: ObservationKind, table: Table, **fields: Any) -> ObservationRequest:
    return ObservationRequest(
        kind,
        LAKE,
        table=name(table),
        table_uuid=TableUuid(str(table.metadata.table_uuid)),
        location=table.metadata.location,
        **fields,
    )


def expiry(older_than: datetime, *, retain_last: int = 1, snapshot_ids: tuple[int, ...] = ()) -> dict[str, Any]:
    """The action as the control plane plans one."""
    now = datetime.now(UTC) + timedelta(days=1)
    return {
        "older_than": older_than.isoformat(),
        "retain_last": retain_last,
        "floor": now.isoformat(),
        "clean_expired_metadata": False,
        "snapshot_ids": [str(each) for each in snapshot_ids],
    }


LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def table(rest_catalog: RestCatalog, namespace: str) -> Table:
    """Five snapshots."""
    return messy_table(rest_catalog.open(), (namespace, "t"), files=5, commits=5)


def ids(table: Table) -> list[int]:
    return [each.snapshot_id for each in sorted(table.refresh().metadata.snapshots, key=lambda s: s.timestamp_ms)]


def committed(table: Table, snapshot: int) -> datetime:
    found = table.snapshot_by_id(snapshot)
    assert found is not None
    return datetime.fromtimestamp(found.timestamp_ms / 1000, UTC)


async def test_an_expiry_is_foreseen_with_what_goes_what_stays_and_the_refs(ask: Ask, table: Table) -> None:
    first, second, third, fourth, fifth = ids(table)
    table.manage_snapshots().create_tag(second, "audit").create_branch(fourth, "staging").commit()

    plan = await ask(asked(ObservationKind.PLAN_EXPIRY, table, action=expiry(LATER)))

    assert isinstance(plan, ExpiryPlan)
    assert (plan.expiring, plan.retained) == ((first, third), (second, fourth, fifth))
    assert (plan.expiring_count, plan.retained_count) == (2, 3)
    assert (plan.newest_expiring_time, plan.oldest_retained_time) == (committed(table, third), committed(table, second))
    assert set(plan.refs) == {
        SnapshotRef("main", fifth, True),
        SnapshotRef("audit", second, False),
        SnapshotRef("staging", fourth, True),
    }
    assert plan.refusal == ""
    assert plan.table.uuid == str(table.metadata.table_uuid)
    assert len(ids(table)) == 5


@pytest.mark.parametrize(("retain_last", "expiring"), [(1, 4), (3, 2), (5, 0), (50, 0)])
async def test_as_many_as_asked_for_stay_however_old(ask: Ask, table: Table, retain_last: int, expiring: int) -> None:
    plan = await ask(asked(ObservationKind.PLAN_EXPIRY, table, action=expiry(LATER, retain_last=retain_last)))

    assert isinstance(plan, ExpiryPlan)
    assert plan.expiring == tuple(ids(table)[:expiring])


async def test_what_is_young_enough_stays(ask: Ask, table: Table) -> None:
    third = ids(table)[2]

    plan = await ask(asked(ObservationKind.PLAN_EXPIRY, table, action=expiry(committed(table, third))))

    assert isinstance(plan, ExpiryPlan)
    assert plan.retained == tuple(ids(table)[2:])


async def test_exactly_the_named_snapshots_go(ask: Ask, table: Table) -> None:
    second = ids(table)[1]

    plan = await ask(asked(ObservationKind.PLAN_EXPIRY, table, action=expiry(LATER, snapshot_ids=(second,))))

    assert isinstance(plan, ExpiryPlan)
    assert plan.expiring == (second,)


async def test_a_refusal_is_an_answer_with_its_reason(ask: Ask, rest_catalog: RestCatalog, namespace: str) -> None:
    shared = messy_table(
        rest_catalog.open(), (namespace, "shared"), files=3, commits=3, properties={"gc.enabled": "false"}
    )

    plan = await ask(asked(ObservationKind.PLAN_EXPIRY, shared, action=expiry(LATER)))

    assert isinstance(plan, ExpiryPlan)
    assert "gc.enabled" in plan.refusal
    assert (plan.expiring, plan.expiring_count) == ((), 0)


async def test_an_empty_table_has_nothing_to_expire(ask: Ask, rest_catalog: RestCatalog, namespace: str) -> None:
    empty = rest_catalog.open().create_table((namespace, "empty"), MESSY_SCHEMA)

    plan = await ask(asked(ObservationKind.PLAN_EXPIRY, empty, action=expiry(LATER)))

    assert isinstance(plan, ExpiryPlan)
    assert (plan.expiring_count, plan.retained_count, plan.newest_expiring_time) == (0, 0, None)


async def test_another_table_of_the_name_is_not_planned_for(
    ask: Ask, rest_catalog: RestCatalog, namespace: str, table: Table
) -> None:
    meant = asked(ObservationKind.PLAN_EXPIRY, table, action=expiry(LATER))
    rest_catalog.open().drop_table((namespace, "t"))
    messy_table(rest_catalog.open(), (namespace, "t"), files=2, commits=2)

    answer = await ask(meant)

    assert isinstance(answer, ObservationError)
    assert answer.kind == "NOT_FOUND"


async def test_orphan_files_are_listed_with_their_figures(ask: Ask, table: Table) -> None:
    lost = on_disk(table.metadata.location) / "data" / "lost.parquet"
    lost.write_text("four")
    old = datetime(2026, 1, 1, tzinfo=UTC)
    os.utime(lost, (old.timestamp(), old.timestamp()))
    action = {
        "older_than": "2026-01-02T00:00:00Z",
        "floor": "2026-01-03T00:00:00Z",
        "prefix_mismatch_mode": "ERROR",
        "equal_schemes": {"s3a": "s3"},
        "equal_authorities": {},
        "max_files": 5,
        "max_share_of_table": 0.01,
    }

    plan = await ask(asked(ObservationKind.LIST_ORPHANS, table, action=action))

    assert isinstance(plan, OrphanPlan)
    assert (plan.files, plan.bytes, plan.remaining, plan.young_files) == (1, 4, 0, 0)
    assert (plan.oldest_time, plan.newest_time, plan.sample) == (old, old, (str(lost),))
    assert [cap.split()[0] for cap in plan.exceeded] == ["maxShareOfTable"]
    assert (len(plan.digest), plan.refusal) == (64, "")
    assert lost.exists()


@pytest.mark.parametrize(
    ("value", "enabled"),
    [(None, True), ("true", True), ("TRUE", True), ("false", False), ("False", False), ("no", False)],
)
async def test_an_owners_wish_is_told_with_every_load_and_inspection(
    ask: Ask, rest_catalog: RestCatalog, namespace: str, value: str | None, enabled: bool
) -> None:
    properties = {} if value is None else {"floe.enabled": value}
    table = messy_table(rest_catalog.open(), (namespace, "wish"), files=1, commits=1, properties=properties)

    loaded = await ask(asked(ObservationKind.LOAD_TABLE, table))
    measured = await ask(asked(ObservationKind.INSPECT_TABLE, table))

    assert isinstance(loaded, LoadedTable)
    assert isinstance(measured, Measurements)
    assert (loaded.maintenance_enabled, measured.table.maintenance_enabled) == (enabled, enabled)
    assert loaded.metadata_location == table.metadata_location


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        (ScanMode.AUTO, "scan"),
        (ScanMode.SCAN, "scan"),
        (ScanMode.SAMPLE, "sample"),
        (ScanMode.METADATA, "metadata"),
    ],
)
async def test_an_inspection_looks_as_deep_as_it_was_asked_to(
    ask: Ask, table: Table, mode: ScanMode, seen: str
) -> None:
    measured = await ask(asked(ObservationKind.INSPECT_TABLE, table, scan_mode=mode))

    assert isinstance(measured, Measurements)
    assert measured.metrics.scan_mode == seen
    assert measured.metrics.data_file_count.value == 5
    assert measured.metrics.format_version == 2
    assert measured.metrics.current_snapshot_id == ids(table)[-1]


async def test_a_mode_of_a_later_version_is_refused_by_name(table: Table) -> None:
    now = datetime.now(UTC)
    request = asked(ObservationKind.INSPECT_TABLE, table)
    observation = Observation(ObservationId("o1"), request, now, now, timedelta(minutes=1))
    message = observations.look_to_proto(Look(observation, factories.catalog(LAKE)))
    message.inspect_table.scan_mode = "clairvoyant"

    with pytest.raises(UnknownRequest, match="'clairvoyant'"):
        convert_observations.request(message)


async def test_a_catalog_that_tells_one_table_at_a_time_lists_names_alone(ask: Ask, table: Table) -> None:
    listed = await ask(ObservationRequest(ObservationKind.LIST_TABLES, LAKE))

    assert isinstance(listed, TableNames)
    assert name(table) in listed.names
    assert listed.metadata_locations == {}


def test_metadata_locations_go_with_their_names_even_where_some_are_unknown() -> None:
    now = datetime.now(UTC)
    request = ObservationRequest(ObservationKind.LIST_TABLES, LAKE)
    observation = Observation(ObservationId("o1"), request, now, now, timedelta(minutes=1))
    message = observations.look_to_proto(Look(observation, factories.catalog(LAKE)))
    first, second, third = (model.TableName(("a.b",), each) for each in "xyz")
    told = model.TableNames([first, second, third], True, {first: "s3://1", third: "s3://3"})

    wire = convert_observations.to_wire(message, told, began=wall_time(), elapsed=timedelta())
    listed = observations.answer_from_proto(LAKE, wire)

    assert isinstance(listed, TableNames)
    assert {each.name: location for each, location in listed.metadata_locations.items()} == {
        "x": "s3://1",
        "z": "s3://3",
    }
    assert len(listed.names) == 3
