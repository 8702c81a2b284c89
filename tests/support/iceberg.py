"""Real Iceberg tables for tests: a REST catalog in a JVM of its own, and tables as messy as ingestion leaves them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, LongType, NestedField, StringType

from executor import assignment
from executor.catalogs.locations import local_path

_ROOT = Path(__file__).parents[2]
_READY_SECONDS = 90
_NUMBERS = itertools.count()

MESSY_SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "day", StringType(), required=False),
    NestedField(3, "amount", DoubleType(), required=False),
    NestedField(4, "note", StringType(), required=False),
)


@dataclass(frozen=True, slots=True)
class RestCatalog:
    """A running local REST catalog."""

    uri: str
    warehouse: Path
    process_id: int
    jvm_process_id: int
    name: str = "lake"
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def record(self) -> assignment.Catalog:
        """The catalog as the control plane would know it."""
        return assignment.Catalog(name=self.name, type="rest", uri=self.uri, properties=self.properties)

    def open(self) -> Catalog:
        """A client of its own; one a thread."""
        return load_catalog(self.name, type="rest", uri=self.uri, auth={"type": "noop"})  # type: ignore[arg-type]  # `auth` is a dict

    def reference(self, table: Table) -> assignment.Table:
        """The table as an assignment would name it."""
        *namespace, name = table.name()
        return assignment.Table(
            self.record, tuple(namespace), name, str(table.metadata.table_uuid), table.metadata.location
        )


def _inherited_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


@contextmanager
def running_rest_catalog(
    directory: Path, *, environ: Mapping[str, str] | None = None, arguments: tuple[str, ...] = ()
) -> Iterator[RestCatalog]:
    """A REST catalog whose tables and rows lie in `directory`; it ends with the block, or with this process."""
    warehouse = directory / "warehouse"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "executor.catalogs.rest_server"),
            *("--warehouse", str(warehouse)),
            *(arguments or ("--database", str(directory / "catalog.db"))),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environ or {}), "PYTHONPATH": os.pathsep.join([str(_ROOT), *_inherited_path()])},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    # A server that never gets ready must not hang the tests: its end is the end of its output.
    overdue = threading.Timer(_READY_SECONDS, process.kill)
    overdue.start()
    try:
        ready = process.stdout.readline()
        overdue.cancel()
        if not ready:
            raise RuntimeError(
                f"the REST catalog ended with status {process.wait()} before it was ready; see its output above"
            )
        said = json.loads(ready)
        yield RestCatalog(said["uri"], warehouse, said["pid"], said["jvm"])
    finally:
        overdue.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.fixture(scope="session")
def rest_catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestCatalog]:
    """One REST catalog for all tests of a session: give each test a namespace of its own."""
    with running_rest_catalog(tmp_path_factory.mktemp("lake")) as catalog:
        yield catalog


@pytest.fixture
def namespace(rest_catalog: RestCatalog) -> str:
    """A new, empty namespace in the session's catalog."""
    name = f"ns{next(_NUMBERS)}_{os.getpid()}"
    rest_catalog.open().create_namespace(name)
    return name


def messy_rows(first: int, number: int, partitions: int) -> pa.Table:
    """Rows with ids from `first` on, spread over that many days; the same ids always give the same rows."""
    ids = range(first, first + number)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "day": pa.array([f"2026-01-{1 + each % partitions:02d}" for each in ids], pa.string()),
            "amount": pa.array([each * 0.5 for each in ids], pa.float64()),
            "note": pa.array([f"row {each}" if each % 7 else None for each in ids], pa.string()),
        }
    )


def messy_table(
    catalog: Catalog,
    identifier: str | tuple[str, ...],
    *,
    files: int,
    commits: int,
    partitions: int = 1,
    rows_per_file: int = 10,
    properties: Mapping[str, str] | None = None,
) -> Table:
    """A table of exactly `files` small data files, evenly over the partitions, written in `commits` appends.

    With one partition it is unpartitioned. Rows are `messy_rows(0, files * rows_per_file, partitions)`. `files` must
    be a multiple of `partitions`, and `commits` at most `files // partitions`.
    """
    if files % partitions or commits > files // partitions or not 1 <= partitions <= 28:
        raise ValueError("files must be a multiple of partitions, and commits at most files // partitions")
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "day")) if partitions > 1 else PartitionSpec()
    table = catalog.create_table(identifier, MESSY_SCHEMA, partition_spec=spec, properties=dict(properties or {}))
    rounds = files // partitions
    per_round = partitions * rows_per_file
    written = 0
    for commit in range(commits):
        until = rounds * (commit + 1) // commits
        # Each round becomes one file in each partition, all of them in one snapshot.
        with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
            for number in range(written, until):
                for data_file in _written(transaction, messy_rows(number * per_round, per_round, partitions)):
                    append.append_data_file(data_file)
        written = until
    return table


def _written(transaction: Any, rows: pa.Table) -> Iterator[Any]:
    from pyiceberg.io.pyarrow import _dataframe_to_data_files

    yield from _dataframe_to_data_files(table_metadata=transaction.table_metadata, df=rows, io=transaction._table.io)


def on_disk(location: str) -> Path:
    """The file at a location in the local warehouse."""
    path = local_path(location)
    assert path is not None, f"{location} is not local"
    return Path(path)
