"""Tables that take their time, what a table holds, and which of its snapshots an operation made.

Read and written by a client of the test's own.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from executor.actions.table_metadata import EPOCH_KEY, OPERATION_KEY
from tests.support.iceberg import MESSY_SCHEMA


@dataclass(frozen=True, slots=True)
class Content:
    """The rows of a table, whatever files they lie in."""

    rows: int
    checksum: str


def slow_table(catalog: Catalog, identifier: tuple[str, str], *, megabytes: int) -> Table:
    """A table in ten files whose compaction is one task that takes about a second for every two megabytes.

    Nothing of it can be compressed, and the strongest compression tries all the same.
    """
    table = catalog.create_table(identifier, MESSY_SCHEMA)
    rows_per_file = megabytes * 100
    for number in range(10):
        ids = range(number * rows_per_file, (number + 1) * rows_per_file)
        generator = random.Random(number)
        table.append(
            pa.table(
                {
                    "id": pa.array(ids, pa.int64()),
                    "day": pa.array(["2026-01-01"] * rows_per_file, pa.string()),
                    "amount": pa.array([each * 0.5 for each in ids], pa.float64()),
                    "note": pa.array([generator.randbytes(500).hex() for _ in ids], pa.string()),
                }
            )
        )
    with table.transaction() as transaction:
        transaction.set_properties({"write.parquet.compression-codec": "zstd", "write.parquet.compression-level": "22"})
    return table


def content(table: Table) -> Content:
    rows = table.refresh().scan().to_arrow().sort_by("id")
    digest = hashlib.sha256()
    for row in rows.to_pylist():
        digest.update(repr(row).encode())
    return Content(rows.num_rows, digest.hexdigest())


def stamped(table: Table, operation: str) -> Sequence[Snapshot]:
    """Every snapshot that this operation committed, whichever of its attempts it was."""
    return [snapshot for snapshot in table.refresh().snapshots() if _property(snapshot, OPERATION_KEY) == operation]


def epoch(snapshot: Snapshot) -> int:
    return int(_property(snapshot, EPOCH_KEY) or 0)


def data_files(table: Table) -> int:
    return len(list(table.refresh().scan().plan_files()))


def _property(snapshot: Snapshot, key: str) -> str | None:
    return None if snapshot.summary is None else snapshot.summary.additional_properties.get(key)
