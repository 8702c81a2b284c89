"""Deletes as Spark writes them, vectors of format version 3 among them, as an inspection tells them apart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from pyspark.sql import SparkSession

from executor.assignment import Catalog, Table
from executor.engines.spark.engine import SparkEngine
from executor.observation.lane import ObservationLane
from executor.observation.model import InspectTable, LoadTable, Measurements
from tests.support.iceberg import RestCatalog

pytestmark = pytest.mark.spark

_FILES = 4
_ROWS = 100


@pytest.fixture
async def lane() -> AsyncIterator[ObservationLane]:
    async with ObservationLane(1) as lane:
        yield lane


@pytest.fixture
def spark(spark_engine: SparkEngine, rest_catalog: RestCatalog) -> Iterator[SparkSession]:
    """SQL on the tests' catalog, which is named `deletes` there."""
    session = SparkSession.getActiveSession()
    assert session is not None
    settings = {"": "org.apache.iceberg.spark.SparkCatalog", ".type": "rest", ".uri": rest_catalog.uri}
    for key, value in settings.items():
        session.conf.set(f"spark.sql.catalog.deletes{key}", value)
    yield session
    for key in settings:
        session.conf.unset(f"spark.sql.catalog.deletes{key}")


def create(spark: SparkSession, table: str, format_version: int) -> None:
    spark.sql(
        f"CREATE TABLE {table} (id bigint, part int) USING iceberg PARTITIONED BY (part) TBLPROPERTIES ("
        f"'format-version'='{format_version}', 'write.delete.mode'='merge-on-read', 'write.delete.granularity'='file')"
    )
    spark.sql(
        f"INSERT INTO {table} SELECT id, CAST(id % {_FILES} AS int) FROM range({_FILES * _ROWS}) ORDER BY id % {_FILES}"
    )


def whole(spark: SparkSession, query: str) -> int:
    """The query's one number; through Java, since what PySpark collects leaves a socket open."""
    return int(spark.sql(query)._jdf.first().getLong(0))


async def inspected(lane: ObservationLane, catalog: Catalog, namespace: str, name: str) -> Measurements:
    loaded = await lane.run(LoadTable(catalog, (namespace,), name))
    return await lane.run(InspectTable(Table(catalog, (namespace,), name, loaded.uuid, loaded.location)))


def deletes(measured: Measurements) -> tuple[float | None, ...]:
    """All delete files, then by kind: position deletes, equality deletes, deletion vectors."""
    names = ("delete_file_count", "position_delete_file_count", "equality_delete_file_count", "deletion_vector_count")
    return tuple(measured.value(name) for name in names)


async def test_deletion_vectors_are_counted_one_by_one_though_they_share_a_file(
    spark: SparkSession, rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = f"deletes.{namespace}.vectors"
    create(spark, table, 3)
    spark.sql(f"DELETE FROM {table} WHERE id < 40")
    files = whole(spark, f"SELECT count(DISTINCT file_path) FROM {table}.delete_files")
    size = whole(spark, f"SELECT sum(content_size_in_bytes) FROM {table}.delete_files")

    measured = await inspected(lane, rest_catalog.record, namespace, "vectors")

    assert measured.table.format_version == 3
    assert deletes(measured) == (_FILES, 0, 0, _FILES)
    assert files < _FILES
    assert measured.value("delete_bytes") == size
    assert (measured.value("data_file_count"), measured.value("record_count")) == (_FILES, _FILES * _ROWS)
    # A tenth of each file's rows is not enough to rewrite it for their sake alone.
    assert measured.value("reducible_bytes") == 0


async def test_a_vector_that_takes_most_of_a_file_makes_it_worth_a_rewrite(
    spark: SparkSession, rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = f"deletes.{namespace}.mostly"
    create(spark, table, 3)
    spark.sql(f"DELETE FROM {table} WHERE part = 1 AND id >= 40")
    size = whole(spark, f"SELECT sum(file_size_in_bytes) FROM {table}.data_files WHERE partition.part = 1")

    measured = await inspected(lane, rest_catalog.record, namespace, "mostly")

    assert deletes(measured) == (1, 0, 0, 1)
    assert measured.value("reducible_bytes") == size


async def test_position_deletes_of_format_version_2_are_no_vectors(
    spark: SparkSession, rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = f"deletes.{namespace}.positions"
    create(spark, table, 2)
    spark.sql(f"DELETE FROM {table} WHERE id < 40")

    measured = await inspected(lane, rest_catalog.record, namespace, "positions")

    assert measured.table.format_version == 2
    assert deletes(measured) == (_FILES, _FILES, 0, 0)


async def test_a_table_that_was_upgraded_has_both_until_they_are_rewritten(
    spark: SparkSession, rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = f"deletes.{namespace}.upgraded"
    create(spark, table, 2)
    spark.sql(f"DELETE FROM {table} WHERE part = 0 AND id < 40")
    spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('format-version'='3')")
    spark.sql(f"DELETE FROM {table} WHERE part = 1 AND id < 40")

    measured = await inspected(lane, rest_catalog.record, namespace, "upgraded")

    assert measured.table.format_version == 3
    assert deletes(measured) == (2, 1, 0, 1)
