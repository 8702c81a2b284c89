"""Counts the live rows of a snapshot, and sums up a table's contents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import duckdb
from pyiceberg.io import FileIO
from pyiceberg.table import Table as OpenTable
from pyiceberg.table.snapshots import Snapshot

from executor.catalogs.locations import local_path
from executor.observation.manifest_entries import listed
from executor.observation.manifests import CHOSEN, ManifestFiles, chosen
from executor.observation.model import Checksum

T = TypeVar("T")

_CHUNK_BYTES = 4 * 1024**2
_MOST_DELETE_BYTES = 1024**3


@dataclass(frozen=True, slots=True)
class RowCount:
    """Live rows of a snapshot, deletes applied; None with the reason if they cannot be counted."""

    rows: int | None
    reason: str = ""


def live_rows(io: FileIO, snapshot: Snapshot, files: ManifestFiles, scratch: Path) -> RowCount:
    """Records of data files less the distinct positions that its deletion vectors and position delete files take from
    them."""
    manifests = list(files.load(io, listed(io, snapshot)))
    (records, equality, vectors) = _one(
        files.connection,
        f"""
        WITH live AS (SELECT * FROM files WHERE {CHOSEN})
        SELECT coalesce(sum(records) FILTER (content = 0), 0), count(*) FILTER (content = 2),
            (SELECT coalesce(sum(vector.records), 0) FROM live AS vector JOIN live AS data
                ON vector.referenced = data.path AND data.content = 0 AND data.sequence <= vector.sequence
             WHERE vector.is_dv AND vector.content = 1)
        FROM live
        """,
        {"manifests": chosen(manifests)},
    )
    if equality:
        return RowCount(None, f"{equality} equality delete files: their rows are only known by reading all data")
    by_position = files.connection.execute(
        f"SELECT location, sequence, format, size FROM files WHERE {CHOSEN} AND content = 1 AND NOT is_dv",
        {"manifests": chosen(manifests)},
    ).fetchall()
    if not by_position:
        return RowCount(int(records) - int(vectors))
    if any(kind != "PARQUET" for _, _, kind, _ in by_position):
        return RowCount(None, "position delete files that are not Parquet")
    total = sum(size for _, _, _, size in by_position)
    if total > _MOST_DELETE_BYTES:
        return RowCount(None, f"position delete files of {total} bytes: at most {_MOST_DELETE_BYTES} are read")
    deleted = _deleted_positions(
        io, manifests, [(location, sequence) for location, sequence, _, _ in by_position], files, scratch
    )
    return RowCount(int(records) - int(vectors) - deleted)


def content_checksum(table: OpenTable, files: ManifestFiles, scratch: Path) -> Checksum:
    """The checksum of the current snapshot: one pass over its Parquet files, or a scan by pyiceberg where deletes
    apply."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return Checksum(None, 0, "0")
    manifests = listed(table.io, snapshot)
    ids = list(files.load(table.io, manifests))
    plain = _one(
        files.connection,
        f"SELECT count(*) = 0 FROM files WHERE {CHOSEN} AND (content > 0 OR format <> 'PARQUET')",
        {"manifests": chosen(ids)},
    )[0]
    rows = checksum = 0
    connection = files.connection.cursor()
    if plain:
        columns = _field_map(table)
        locations = files.locations(table.io, manifests, None, 2**62)
        for batch in _in_batches(locations, 64):
            with _materialized(table.io, batch, scratch) as paths:
                parquet = f"read_parquet($paths, schema = {columns})"
                part_rows, part = _one(
                    connection, _sum_statement(table, parquet), {"paths": [str(path) for path in paths]}
                )
                rows, checksum = rows + int(part_rows), checksum + int(part)
    else:
        for arrow in table.scan().to_arrow_batch_reader():
            connection.register("arrow_rows", arrow)
            part_rows, part = _one(connection, _sum_statement(table, "arrow_rows"), {})
            connection.unregister("arrow_rows")
            rows, checksum = rows + int(part_rows), checksum + int(part)
    return Checksum(snapshot.snapshot_id, rows, f"{checksum % 2**64:016x}")


def _deleted_positions(
    io: FileIO, manifests: Sequence[int], deletes: Sequence[tuple[str, int]], files: ManifestFiles, scratch: Path
) -> int:
    """Distinct positions that take effect: in a live data file, not newer than the delete, and without a vector of
    its own."""
    connection = files.connection.cursor()
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE deleted_positions (path UBIGINT, position BIGINT, sequence BIGINT)"
    )
    try:
        for batch in _in_batches(deletes, 64):
            with _materialized(io, [location for location, _ in batch], scratch) as paths:
                for path, (_, sequence) in zip(paths, batch, strict=True):
                    connection.execute(
                        "INSERT INTO deleted_positions SELECT hash(file_path), pos, $sequence FROM read_parquet($path)",
                        {"path": str(path), "sequence": sequence},
                    )
        (number,) = _one(
            connection,
            f"""
            WITH live AS (SELECT * FROM files WHERE {CHOSEN})
            SELECT count(*) FROM (
                SELECT DISTINCT deleted.path, deleted.position
                FROM deleted_positions AS deleted JOIN live AS data
                    ON data.path = deleted.path AND data.content = 0 AND data.sequence <= deleted.sequence
                WHERE NOT EXISTS (FROM live AS vector WHERE vector.is_dv AND vector.referenced = data.path)
            )
            """,
            {"manifests": chosen(manifests)},
        )
        return int(number)
    finally:
        connection.execute("DROP TABLE IF EXISTS deleted_positions")


def _sum_statement(table: OpenTable, source: str) -> str:
    """Rows and the sum of their hashes. Columns are cast to one type each, whatever type their file's writer chose."""
    columns = ", ".join(
        f'CAST("{_quoted(field.name)}" AS {kind})'
        if (kind := _duckdb_type(str(field.field_type)))
        else f'"{_quoted(field.name)}"'
        for field in table.schema().fields
    )
    return f"SELECT count(*), coalesce(sum(hash(row({columns}))::HUGEINT), 0) FROM {source}"


def _field_map(table: OpenTable) -> str:
    """Columns by field id, so that a file written before a rename or an added column reads like one written after."""
    entries = ", ".join(
        f"{field.field_id}: {{name: '{field.name.replace(chr(39), chr(39) * 2)}', type: '{kind}', default_value: NULL}}"
        for field in table.schema().fields
        if (kind := _duckdb_type(str(field.field_type)))
    )
    return f"MAP {{{entries}}}"


def _duckdb_type(iceberg_type: str) -> str | None:
    """DuckDB's name of a primitive type; None for a nested one."""
    if iceberg_type.startswith("decimal"):
        return iceberg_type.upper().replace(" ", "")
    if iceberg_type.startswith("fixed"):
        return "BLOB"
    return {
        "boolean": "BOOLEAN",
        "int": "INTEGER",
        "long": "BIGINT",
        "float": "FLOAT",
        "double": "DOUBLE",
        "date": "DATE",
        "time": "TIME",
        "timestamp": "TIMESTAMP",
        "timestamptz": "TIMESTAMPTZ",
        "timestamp_ns": "TIMESTAMP_NS",
        "string": "VARCHAR",
        "binary": "BLOB",
        "uuid": "UUID",
    }.get(iceberg_type)


def _quoted(name: str) -> str:
    return name.replace('"', '""')


@contextmanager
def _materialized(io: FileIO, locations: Sequence[str], scratch: Path) -> Iterator[Sequence[Path]]:
    """The files as local paths: themselves if they are local, else copies that go when the block ends."""
    with TemporaryDirectory(dir=scratch) as folder:
        paths = []
        for number, location in enumerate(locations):
            local = local_path(location)
            if local is not None:
                paths.append(Path(local))
                continue
            copy = Path(folder) / f"{number}.parquet"
            with io.new_input(location).open() as source, copy.open("wb") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    target.write(chunk)
            paths.append(copy)
        yield paths


def _in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _one(connection: duckdb.DuckDBPyConnection, statement: str, parameters: dict[str, object]) -> tuple[Any, ...]:
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return tuple(row)
