"""JDBC catalogs on a real PostgreSQL: pyiceberg and Iceberg's Java catalog see the same tables under the same name."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pyiceberg.catalog import Catalog, load_catalog

from executor import assignment
from executor.catalogs.properties import pyiceberg_properties
from executor.catalogs.rest_server import JDBC_PASSWORD_VARIABLE
from executor.catalogs.secrets import resolve
from executor.observation.errors import Unavailable
from executor.observation.lane import ObservationLane
from executor.observation.model import CheckCatalog, InspectTable, ListTables, LoadTable, TableName
from tests.support.iceberg import MESSY_SCHEMA, messy_rows, messy_table, running_rest_catalog

# The lane's workers inherit the environment, so the secret stands there.
_SECRET = "FLOE_SECRET_CATALOG_TESTS_PASSWORD"


@pytest.fixture
def record(empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> assignment.Catalog:
    dsn = urlsplit(empty_database)
    monkeypatch.setenv(_SECRET, unquote(dsn.password or ""))
    return assignment.Catalog(
        name="rest",  # The name that the Java catalog of the REST server has.
        type="jdbc",
        uri=f"jdbc:postgresql://{dsn.hostname}:{dsn.port}{dsn.path}",
        warehouse=tmp_path.as_uri(),
        properties={"jdbc.user": dsn.username or ""},
        secrets={"jdbc.password": "catalog-tests.password"},
    )


@pytest.fixture
async def lane() -> AsyncIterator[ObservationLane]:
    async with ObservationLane(1) as lane:
        yield lane


def writer(record: assignment.Catalog) -> Catalog:
    resolved = resolve(record, environ=os.environ, directory=None)
    properties = pyiceberg_properties(record, resolved, create=True)
    return load_catalog(record.name, **properties)  # type: ignore[arg-type]  # `auth` of other types is a dict


async def test_what_a_writer_wrote_is_listed_loaded_and_measured(
    record: assignment.Catalog, lane: ObservationLane
) -> None:
    catalog = writer(record)
    catalog.create_namespace("sales")
    catalog.create_namespace("sales.eu")
    table = messy_table(catalog, ("sales", "eu", "orders"), files=6, commits=2, partitions=2)

    listed = await lane.run(ListTables(record))
    loaded = await lane.run(LoadTable(record, ("sales", "eu"), "orders"))
    measured = await lane.run(
        InspectTable(assignment.Table(record, ("sales", "eu"), "orders", loaded.uuid, loaded.location))
    )

    assert (listed.names, listed.complete) == ([TableName(("sales", "eu"), "orders")], True)
    assert listed.metadata_locations == {TableName(("sales", "eu"), "orders"): loaded.metadata_location}
    assert loaded.uuid == str(table.metadata.table_uuid)
    assert measured.value("data_file_count") == 6


async def test_an_empty_database_is_said_to_have_no_catalog_in_it(
    record: assignment.Catalog, lane: ObservationLane
) -> None:
    checked = await lane.run(CheckCatalog(record))

    assert [(check.check, check.passed) for check in checked.checks] == [
        ("configured", True),
        ("reachable", True),
        ("authenticated", True),
        ("listable", False),
    ]
    assert "iceberg_tables" in checked.checks[-1].hint
    with pytest.raises(Unavailable):
        await lane.run(ListTables(record))


async def test_a_wrong_password_is_told_apart_and_never_shown(
    record: assignment.Catalog, lane: ObservationLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_SECRET, "not-this-one-4711")

    checked = await lane.run(CheckCatalog(record))

    assert [(check.check, check.passed) for check in checked.checks] == [
        ("configured", True),
        ("reachable", True),
        ("authenticated", False),
    ]
    assert "not-this-one-4711" not in repr(checked)


async def test_the_rest_server_on_postgresql_takes_rivals_for_one_table(
    record: assignment.Catalog, lane: ObservationLane, tmp_path: Path
) -> None:
    password = os.environ[_SECRET]
    arguments = ("--jdbc-uri", record.uri, "--jdbc-user", record.properties["jdbc.user"])
    with running_rest_catalog(tmp_path, environ={JDBC_PASSWORD_VARIABLE: password}, arguments=arguments) as served:
        served.open().create_namespace("n")
        served.open().create_table(
            ("n", "t"), MESSY_SCHEMA, properties={"commit.retry.num-retries": "20", "commit.retry.min-wait-ms": "10"}
        )

        def append(number: int) -> None:
            served.open().load_table(("n", "t")).append(messy_rows(number, 1, 1))

        with ThreadPoolExecutor(4) as writers:
            list(writers.map(append, range(8)))

        by_rest = await lane.run(LoadTable(served.record, ("n",), "t"))
        by_jdbc = await lane.run(LoadTable(record, ("n",), "t"))
        assert len(served.open().load_table(("n", "t")).metadata.snapshots) == 8

    assert (by_rest.uuid, by_rest.metadata_location) == (by_jdbc.uuid, by_jdbc.metadata_location)
