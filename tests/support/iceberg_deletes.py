"""Row-level deletes on real tables: pyiceberg reads them and cannot write them, so their manifests are written here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record

# Reserved field ids of a position delete file's columns.
_PATH_ID, _POSITION_ID = 2147483546, 2147483545
_NUMBERS = itertools.count()


class _DeleteManifestWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _AppendDeletes(_FastAppendFiles):
    """A commit that adds delete files only."""

    deletes: Sequence[DataFile] = ()

    def _manifests(self) -> list[ManifestFile]:
        writer = _DeleteManifestWriter(
            self._transaction.table_metadata.spec(),
            self._transaction.table_metadata.schema(),
            self.new_manifest_output(),
            self._snapshot_id,
            "deflate",
        )
        with writer:
            for delete in self.deletes:
                writer.add(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self._snapshot_id,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=delete,
                    )
                )
        return [*super()._manifests(), writer.to_manifest_file()]


def delete_positions(table: Table, positions: Sequence[tuple[str, int]]) -> None:
    """Commit one position delete file that takes these rows, each a data file's location and a position in it."""
    _commit(table, [_position_deletes(table, positions)])


def delete_by_vector(table: Table, data_file: str, rows: int) -> None:
    """Commit a deletion vector's manifest entry for one data file. Its blob is never read: the entry says how many
    rows go."""
    location = f"{table.metadata.location}/data/{next(_NUMBERS)}.puffin"
    _commit(
        table, [_delete_file(location, FileFormat.PUFFIN, DataFileContent.POSITION_DELETES, rows, 100, {data_file})]
    )


def delete_by_equality(table: Table) -> None:
    """Commit an equality delete file's manifest entry."""
    location = f"{table.metadata.location}/data/{next(_NUMBERS)}.parquet"
    _commit(table, [_delete_file(location, FileFormat.PARQUET, DataFileContent.EQUALITY_DELETES, 1, 100, set())])


def _position_deletes(table: Table, positions: Sequence[tuple[str, int]]) -> DataFile:
    location = f"{table.metadata.location}/data/deletes-{next(_NUMBERS)}.parquet"
    schema = pa.schema(
        [
            pa.field("file_path", pa.string(), False, {"PARQUET:field_id": str(_PATH_ID)}),
            pa.field("pos", pa.int64(), False, {"PARQUET:field_id": str(_POSITION_ID)}),
        ]
    )
    rows = pa.table([[path for path, _ in positions], [position for _, position in positions]], schema=schema)
    with table.io.new_output(location).create(overwrite=True) as stream:
        pq.write_table(rows, stream)
    size = len(table.io.new_input(location))
    paths = {path for path, _ in positions}
    return _delete_file(location, FileFormat.PARQUET, DataFileContent.POSITION_DELETES, len(positions), size, paths)


def _delete_file(
    location: str, kind: FileFormat, content: DataFileContent, rows: int, size: int, data_files: set[str]
) -> DataFile:
    bounds: dict[str, Any] = {}
    if data_files:
        bounds = {
            "lower_bounds": {_PATH_ID: min(data_files).encode()},
            "upper_bounds": {_PATH_ID: max(data_files).encode()},
        }
    return DataFile.from_args(
        content=content,
        file_path=location,
        file_format=kind,
        partition=Record(),
        record_count=rows,
        file_size_in_bytes=size,
        spec_id=0,
        **bounds,
    )


def _commit(table: Table, deletes: Sequence[DataFile]) -> None:
    with table.transaction() as transaction:
        update = _AppendDeletes(operation=Operation.DELETE, transaction=transaction, io=table.io)
        update.deletes = deletes
        update.commit()
