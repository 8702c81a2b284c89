"""Every file that some snapshot of a table needs, or that its metadata names in any other way."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table as OpenTable
from pyiceberg.table.snapshots import Snapshot

from executor.observation.errors import Invalid
from executor.observation.manifest_entries import fetch, listed

_READERS: Final = 8
_TOGETHER: Final = 32
_ROWS: Final = 10_000


def named_files(table: OpenTable) -> Iterator[str]:
    """Every text of the current metadata that may be a path, whatever field it stands in: also of fields that a later
    version of the format adds."""
    yield table.metadata_location
    for document in (json.loads(table.metadata.model_dump_json()), _current_document(table)):
        yield from _texts(document)


def needed_files(table: OpenTable, connection: duckdb.DuckDBPyConnection, scratch: Path) -> Iterator[str]:
    """The files of all snapshots, whichever branch or tag they are of, or none: manifest lists, manifests, and what
    manifests name. Also what a snapshot says it deleted: its entry goes with the next commit, and until then it stays.

    Raises what reading raises: nobody knows what an unreadable file names.
    """
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    read: set[str] = set()
    for snapshot in _snapshots(table):
        yield snapshot.manifest_list
        manifests = [each for each in listed(table.io, snapshot) if each.manifest_path not in read]
        read.update(each.manifest_path for each in manifests)
        remaining = iter(manifests)
        while batch := list(islice(remaining, _TOGETHER)):
            yield from (manifest.manifest_path for manifest in batch)
            yield from _entries(table.io, batch, connection, scratch)


def _entries(
    io: FileIO, manifests: list[ManifestFile], connection: duckdb.DuckDBPyConnection, scratch: Path
) -> Iterator[str]:
    with TemporaryDirectory(dir=scratch) as folder, ThreadPoolExecutor(_READERS) as readers:
        fetched = list(readers.map(lambda each: fetch(io, each[1], each[0], Path(folder)), enumerate(manifests)))
        for each in fetched:
            reader = connection.cursor()
            try:
                reader.execute("SELECT data_file.file_path FROM read_avro($path)", {"path": str(each.path)})
                while rows := reader.fetchmany(_ROWS):
                    yield from (path for (path,) in rows)
            except duckdb.Error as failure:
                where = each.manifest.manifest_path
                said = str(failure).splitlines()[0][:200]
                raise Invalid(f"manifest {where} cannot be decoded: {said}") from None
            finally:
                reader.close()


def _snapshots(table: OpenTable) -> list[Snapshot]:
    """Of the catalog's answer and of the metadata file: a catalog may leave snapshots out that no ref reaches."""
    written = FromInputFile.table_metadata(table.io.new_input(table.metadata_location))
    known = {snapshot.snapshot_id: snapshot for snapshot in (*written.snapshots, *table.metadata.snapshots)}
    return list(known.values())


def _current_document(table: OpenTable) -> Any:
    with table.io.new_input(table.metadata_location).open() as stream:
        content = stream.read()
    return json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON document, at any depth, that hold a slash."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text if "/" in text:
                yield text
            case dict() as fields:
                waiting.extend(fields.values())
            case list() as items:
                waiting.extend(items)
