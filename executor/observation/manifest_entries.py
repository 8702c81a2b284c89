"""Decodes the entries of manifests into rows of live files."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table.snapshots import Snapshot

from executor.observation.avro import header, record_fields
from executor.observation.errors import Invalid

# What decoding bytes that are no Avro, or are cut off, ends in.
_UNDECODABLE = (
    ArithmeticError,
    AssertionError,
    EOFError,
    LookupError,
    SystemError,
    TypeError,
    ValueError,
    zlib.error,
)
_LARGEST_MANIFEST = 512 * 1024**2
# Ids of reserved metadata columns in the bounds of position delete files.
_DELETE_FILE_PATH = 2147483546


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest's content in a file of ours, and the schema that its writer declared."""

    manifest: ManifestFile
    path: Path
    schema: bytes


def listed(io: FileIO, snapshot: Snapshot) -> Sequence[ManifestFile]:
    """The manifests of a snapshot. Raises `Invalid` for a list that is none; what storage raises goes through."""
    try:
        return snapshot.manifests(io)
    except _UNDECODABLE as failure:
        said = f"{type(failure).__name__}: {failure}"
        raise Invalid(f"manifest list {snapshot.manifest_list} cannot be decoded: {said[:200]}") from None


def insert(
    connection: duckdb.DuckDBPyConnection,
    schema: bytes,
    group: Sequence[Fetched],
    known: Mapping[str, object],
    *,
    deletes: bool,
) -> None:
    """Decode manifests whose writers declared one and the same schema, so that all columns fit."""
    try:
        connection.execute(
            _insert_statement(record_fields(schema), deletes=deletes),
            {"paths": "\n".join(str(each.path) for each in group), **known},
        )
    except (duckdb.Error, ValueError) as failure:
        where = group[0].manifest.manifest_path
        raise Invalid(f"manifest {where} cannot be decoded: {str(failure).splitlines()[0][:200]}") from None


def _insert_statement(fields: frozenset[str], *, deletes: bool) -> str:
    """Only names of known fields enter the statement; values are bound.

    One projection, without a join: either would keep whole entries, with all statistics of their columns, in memory.
    """
    content = "coalesce(data_file.content, 0)" if "content" in fields else "0"
    size = "data_file.file_size_in_bytes"
    if "content_size_in_bytes" in fields:
        # Deletion vectors share a Puffin file: each counts with its own blob.
        size = f"coalesce(data_file.content_size_in_bytes, {size})"
    referenced = _referenced(fields) if deletes else "NULL"
    return f"""
        INSERT INTO files
        SELECT $first + position, content, kind = 'PUFFIN', ($specs::INTEGER[])[position + 1], partition, hash(name),
            CASE WHEN referenced IS NOT NULL THEN hash(referenced) END, size, records,
            coalesce(sequence_number, ($sequences::BIGINT[])[position + 1]), CASE WHEN content <> 0 THEN name END, kind
        FROM (
            SELECT parse_filename(filename, true)::INTEGER AS position, {content} AS content,
                upper(data_file.file_format) AS kind, hash(data_file.partition::VARCHAR) AS partition,
                data_file.file_path AS name, {referenced} AS referenced, {size} AS size,
                data_file.record_count AS records, sequence_number
            FROM read_avro(string_split($paths, chr(10)), filename = true)
            WHERE status <> 2
        )
    """


def _referenced(fields: frozenset[str]) -> str:
    """The data file that a delete file is bound to: named outright, or the only one within its bounds."""
    named = "data_file.referenced_data_file" if "referenced_data_file" in fields else "NULL"
    if not {"lower_bounds", "upper_bounds"} <= fields:
        return named
    lower, upper = (f"data_file.{side}_bounds[{_DELETE_FILE_PATH}]" for side in ("lower", "upper"))
    return f"coalesce({named}, CASE WHEN data_file.content = 1 AND {lower} = {upper} THEN decode({lower}) END)"


def fetch(io: FileIO, manifest: ManifestFile, position: int, folder: Path) -> Fetched:
    if manifest.manifest_length > _LARGEST_MANIFEST:
        raise Invalid(
            f"manifest {manifest.manifest_path} has {manifest.manifest_length} bytes, more than {_LARGEST_MANIFEST}"
        )
    with io.new_input(manifest.manifest_path).open() as stream:
        content = stream.read()
    path = folder / f"{position}.avro"
    path.write_bytes(content)
    try:
        return Fetched(manifest, path, header(content)["avro.schema"])
    except (ValueError, KeyError) as failure:
        raise Invalid(f"manifest {manifest.manifest_path} cannot be decoded: {failure}") from None
