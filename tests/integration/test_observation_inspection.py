"""Inspection of real tables against what pyiceberg's own inspection says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pyiceberg.table import Table

from executor.observation.lane import ObservationLane
from executor.observation.model import FileSizeRules, InspectTable, Knowledge, Measurements, ScanMode
from executor.observation.settings import LaneSettings
from tests.support.iceberg import MESSY_SCHEMA, RestCatalog, messy_table


@pytest.fixture
async def lane() -> AsyncIterator[ObservationLane]:
    async with ObservationLane(1) as lane:
        yield lane


def knowledge(measured: Measurements, name: str) -> Knowledge:
    return next(metric.knowledge for metric in measured.metrics if metric.name == name)


def values(measured: Measurements, *names: str) -> dict[str, float | None]:
    return {name: measured.value(name) for name in names}


async def test_a_partitioned_table_is_measured_exactly(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "events"), files=24, commits=6, partitions=4)
    files = table.inspect.files().to_pylist()

    measured = await lane.run(InspectTable(rest_catalog.reference(table)))

    assert measured.scan_mode is ScanMode.SCAN
    assert measured.table.metadata_location == table.metadata_location
    assert {metric.knowledge for metric in measured.metrics} == {Knowledge.EXACT}
    assert values(measured, "data_file_count", "small_file_count", "large_file_count", "delete_file_count") == {
        "data_file_count": 24,
        "small_file_count": 24,
        "large_file_count": 0,
        "delete_file_count": 0,
    }
    assert measured.value("total_bytes") == sum(file["file_size_in_bytes"] for file in files)
    assert measured.value("record_count") == sum(file["record_count"] for file in files) == 240
    assert values(measured, "partition_count", "max_files_per_partition", "mean_files_per_partition") == {
        "partition_count": 4,
        "max_files_per_partition": 6,
        "mean_files_per_partition": 6,
    }
    assert measured.value("snapshot_count") == 6
    assert measured.value("manifest_count") == 6
    assert measured.value("oldest_snapshot_time_ms") == min(each.timestamp_ms for each in table.metadata.snapshots)
    assert measured.value("newest_snapshot_time_ms") == max(each.timestamp_ms for each in table.metadata.snapshots)
    # Six small files in each of four partitions become one each.
    assert measured.value("reducible_file_count") == 20
    assert measured.value("reducible_bytes") == measured.value("total_bytes")


async def test_many_partitions_of_one_small_file_each_are_not_reducible(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "daily"), files=20, commits=1, partitions=20)

    measured = await lane.run(InspectTable(rest_catalog.reference(table)))

    assert measured.value("small_file_count") == 20
    assert measured.value("reducible_file_count") == 0
    assert measured.value("reducible_bytes") == 0


async def test_the_tables_own_target_size_and_the_policys_rules_count(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(
        rest_catalog.open(),
        (namespace, "small"),
        files=10,
        commits=2,
        # Files of about 2 kB are then just right.
        properties={"write.target-file-size-bytes": "2000"},
    )
    reference = rest_catalog.reference(table)

    own = await lane.run(InspectTable(reference))
    policy = await lane.run(InspectTable(reference, rules=FileSizeRules(target=1024**2, min_input_files=10)))
    strict = await lane.run(InspectTable(reference, rules=FileSizeRules(target=1024**2, min_input_files=11)))

    assert own.value("target_file_size_bytes") == 2000
    assert own.value("reducible_file_count") == 0
    assert policy.value("reducible_file_count") == 9
    assert strict.value("reducible_file_count") == 0


async def test_removed_files_are_no_longer_counted(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "pruned"), files=8, commits=2, partitions=4)
    table.delete("day = '2026-01-02'")

    measured = await lane.run(InspectTable(rest_catalog.reference(table)))

    assert measured.value("data_file_count") == table.inspect.files().num_rows == 6
    assert measured.value("partition_count") == 3


async def test_an_empty_table_has_one_partition_and_no_snapshot_times(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = rest_catalog.open().create_table((namespace, "empty"), MESSY_SCHEMA)

    measured = await lane.run(InspectTable(rest_catalog.reference(table)))

    assert values(measured, "data_file_count", "snapshot_count", "manifest_count", "partition_count") == {
        "data_file_count": 0,
        "snapshot_count": 0,
        "manifest_count": 0,
        "partition_count": 1,
    }
    assert knowledge(measured, "newest_snapshot_time_ms") is Knowledge.UNKNOWN


async def test_metadata_mode_knows_counts_and_says_what_it_does_not_know(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "cheap"), files=12, commits=3, partitions=2)
    reference = rest_catalog.reference(table)

    cheap = await lane.run(InspectTable(reference, scan_mode=ScanMode.METADATA))
    scanned = await lane.run(InspectTable(reference))

    assert cheap.scan_mode is ScanMode.METADATA
    assert (cheap.value("data_file_count"), knowledge(cheap, "data_file_count")) == (12, Knowledge.EXACT)
    assert knowledge(cheap, "total_bytes") is Knowledge.ESTIMATED
    assert cheap.value("total_bytes") == scanned.value("total_bytes")
    for name in ("small_file_count", "partition_count", "reducible_file_count"):
        assert (cheap.value(name), knowledge(cheap, name)) == (None, Knowledge.UNKNOWN)
    assert {metric.name for metric in cheap.metrics} == {metric.name for metric in scanned.metrics}


async def test_manifests_read_before_make_the_distribution_free(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "known"), files=12, commits=3)
    reference = rest_catalog.reference(table)
    await lane.run(InspectTable(reference))

    again = await lane.run(InspectTable(reference, scan_mode=ScanMode.METADATA))

    assert knowledge(again, "small_file_count") is Knowledge.EXACT


async def test_a_sample_is_scaled_and_marked_as_an_estimate(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "large"), files=40, commits=20, partitions=2)
    reference = rest_catalog.reference(table)

    async with ObservationLane(1, settings=LaneSettings(max_scan_bytes=20_000, sample_limit=10)) as careful:
        sampled = await careful.run(InspectTable(reference))
    scanned = await lane.run(InspectTable(reference))

    assert sampled.scan_mode is ScanMode.SAMPLE
    assert (sampled.value("data_file_count"), knowledge(sampled, "data_file_count")) == (40, Knowledge.EXACT)
    assert (sampled.value("small_file_count"), knowledge(sampled, "small_file_count")) == (40, Knowledge.ESTIMATED)
    assert knowledge(sampled, "partition_count") is Knowledge.ESTIMATED
    assert sampled.value("delete_file_count") == 0
    assert {metric.name for metric in sampled.metrics} == {metric.name for metric in scanned.metrics}


async def test_small_and_large_are_what_the_request_says(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table: Table = messy_table(rest_catalog.open(), (namespace, "sizes"), files=6, commits=1)
    smallest = min(file["file_size_in_bytes"] for file in table.inspect.files().to_pylist())

    measured = await lane.run(
        InspectTable(rest_catalog.reference(table), small_file_size=smallest, large_file_size=smallest - 1)
    )

    assert measured.value("small_file_count") == 0
    assert measured.value("large_file_count") == 6
