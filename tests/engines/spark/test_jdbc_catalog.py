from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from pyiceberg.catalog import load_catalog

from executor import assignment
from executor.assignment import Outcome, RewriteDataFiles
from executor.catalogs.properties import pyiceberg_properties
from executor.engines.spark.engine import SparkEngine
from tests.support.iceberg import messy_table
from tests.support.spark import attempt

pytestmark = pytest.mark.spark


def test_a_table_of_a_jdbc_catalog_is_found_under_the_catalogs_own_name(
    spark_engine: SparkEngine, empty_database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    where = urlsplit(empty_database)
    login = {"jdbc.user": where.username or "", "jdbc.password": where.password or ""}
    record = assignment.Catalog(
        name="warehouse",
        type="jdbc",
        uri=f"jdbc:postgresql://{where.hostname}:{where.port}{where.path}",
        warehouse=tmp_path_factory.mktemp("jdbc").as_uri(),
        properties=login,
    )
    catalog = load_catalog(record.name, **pyiceberg_properties(record, login, create=True))  # type: ignore[arg-type]  # nested values
    catalog.create_namespace("sales")
    table = messy_table(catalog, ("sales", "events"), files=4, commits=2)
    reference = assignment.Table(record, ("sales",), "events", str(table.metadata.table_uuid), table.metadata.location)

    result = spark_engine.run(attempt(reference, RewriteDataFiles(min_input_files=2)))

    assert (result.failure, result.outcome) == (None, Outcome.COMPLETE)
    assert len(list(table.refresh().scan().plan_files())) == 1
