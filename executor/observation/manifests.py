"""The live files of manifests, decoded by DuckDB and kept by manifest path: a manifest never changes, so it is read
once.

The bytes come through pyiceberg's FileIO, so that every object store and every vended credential works.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestContent, ManifestFile

from executor.observation.avro import header, record_fields
from executor.observation.errors import Invalid

_BATCH_BYTES = 32 * 1024**2
_BATCH_FILES = 256
_LARGEST_MANIFEST = 512 * 1024**2
_READERS = 8
# Ids of reserved metadata columns in the bounds of position delete files.
_DELETE_FILE_PATH = 2147483546


@dataclass(frozen=True, slots=True)
class _Fetched:
    manifest: ManifestFile
    path: Path
    schema: bytes


class ManifestFiles:
    """A table `files` in DuckDB, one row for each live file of the manifests read so far.

    Columns: manifest (see `load`), content (0 data, 1 position deletes, 2 equality deletes), is_dv, spec, partition
    and path (hashes, equal for equal values), referenced (hash of the one data file that a delete file speaks of),
    size, records, sequence, location (of delete files only) and format.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, scratch: Path, *, kept_files: int = 1_000_000) -> None:
        self.connection = connection
        self._scratch = scratch
        self._kept_files = kept_files
        self._known: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._next_id = 0
        connection.execute(
            "CREATE TABLE files (manifest INTEGER, content UTINYINT, is_dv BOOLEAN, spec INTEGER, partition UBIGINT,"
            " path UBIGINT, referenced UBIGINT, size BIGINT, records BIGINT, sequence BIGINT, location VARCHAR,"
            " format VARCHAR)"
        )

    def missing(self, manifests: Sequence[ManifestFile]) -> Sequence[ManifestFile]:
        """Those that would have to be read."""
        return [manifest for manifest in manifests if manifest.manifest_path not in self._known]

    def load(self, io: FileIO, manifests: Sequence[ManifestFile]) -> Sequence[int]:
        """Read what is not known yet; the ids under which the rows of these manifests stand in `files`."""
        for batch in _batches(self.missing(manifests)):
            self._read(io, batch)
        for manifest in manifests:
            self._known.move_to_end(manifest.manifest_path)
        return [self._known[manifest.manifest_path][0] for manifest in manifests]

    def trim(self) -> None:
        """Forget the manifests used longest ago until no more rows are kept than allowed. Ids of forgotten ones are
        void."""
        total = sum(rows for _, rows in self._known.values())
        forgotten = []
        while total > self._kept_files and self._known:
            _, (identifier, rows) = self._known.popitem(last=False)
            forgotten.append(identifier)
            total -= rows
        if forgotten:
            self.connection.execute("DELETE FROM files WHERE list_contains($gone, manifest)", {"gone": forgotten})

    def locations(
        self, io: FileIO, manifests: Sequence[ManifestFile], added_by: int | None, limit: int
    ) -> Sequence[str]:
        """Up to `limit` locations of live data files, of those that snapshot `added_by` added if it is given."""
        found: list[str] = []
        for manifest in manifests:
            if len(found) >= limit:
                break
            with TemporaryDirectory(dir=self._scratch) as folder:
                fetched = _fetch(io, manifest, 0, Path(folder))
                # An added entry without a snapshot id inherits that of its manifest.
                rows = self.connection.execute(
                    "SELECT data_file.file_path FROM read_avro($path) WHERE status <> 2 AND ($snapshot IS NULL OR"
                    " (status = 1 AND coalesce(snapshot_id, $manifest_snapshot) = $snapshot)) LIMIT $limit",
                    {
                        "path": str(fetched.path),
                        "snapshot": added_by,
                        "manifest_snapshot": manifest.added_snapshot_id,
                        "limit": limit - len(found),
                    },
                ).fetchall()
            found.extend(location for (location,) in rows)
        return found

    def _read(self, io: FileIO, manifests: Sequence[ManifestFile]) -> None:
        with (
            TemporaryDirectory(dir=self._scratch) as folder,
            ThreadPoolExecutor(min(_READERS, len(manifests))) as readers,
        ):
            first = self._next_id
            self._next_id += len(manifests)
            fetched = list(readers.map(lambda each: _fetch(io, each[1], each[0], Path(folder)), enumerate(manifests)))
            alike: defaultdict[tuple[bytes, bool], list[_Fetched]] = defaultdict(list)
            for each in fetched:
                alike[each.schema, each.manifest.content == ManifestContent.DELETES].append(each)
            known = {
                "ids": list(range(first, first + len(manifests))),
                "specs": [manifest.partition_spec_id or 0 for manifest in manifests],
                "sequences": [manifest.sequence_number or 0 for manifest in manifests],
            }
            for (schema, deletes), group in alike.items():
                self._insert(schema, group, known, deletes=deletes)
        counted = dict(
            self.connection.execute(
                "SELECT manifest, count(*) FROM files WHERE manifest >= $first GROUP BY ALL", {"first": first}
            ).fetchall()
        )
        for number, manifest in enumerate(manifests, first):
            self._known[manifest.manifest_path] = (number, counted.get(number, 0))

    def _insert(self, schema: bytes, group: Sequence[_Fetched], known: Mapping[str, object], *, deletes: bool) -> None:
        """Decode manifests whose writers declared one and the same schema, so that all columns fit."""
        try:
            self.connection.execute(
                _insert_statement(record_fields(schema), deletes=deletes),
                {"paths": [str(each.path) for each in group], **known},
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
        SELECT $ids[position + 1], content, kind = 'PUFFIN', $specs[position + 1], partition, hash(name),
            CASE WHEN referenced IS NOT NULL THEN hash(referenced) END, size, records,
            coalesce(sequence_number, $sequences[position + 1]), CASE WHEN content <> 0 THEN name END, kind
        FROM (
            SELECT parse_filename(filename, true)::INTEGER AS position, {content} AS content,
                upper(data_file.file_format) AS kind, hash(data_file.partition::VARCHAR) AS partition,
                data_file.file_path AS name, {referenced} AS referenced, {size} AS size,
                data_file.record_count AS records, sequence_number
            FROM read_avro($paths, filename = true)
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


def _fetch(io: FileIO, manifest: ManifestFile, position: int, folder: Path) -> _Fetched:
    if manifest.manifest_length > _LARGEST_MANIFEST:
        raise Invalid(
            f"manifest {manifest.manifest_path} has {manifest.manifest_length} bytes, more than {_LARGEST_MANIFEST}"
        )
    with io.new_input(manifest.manifest_path).open() as stream:
        content = stream.read()
    path = folder / f"{position}.avro"
    path.write_bytes(content)
    try:
        return _Fetched(manifest, path, header(content)["avro.schema"])
    except (ValueError, KeyError) as failure:
        raise Invalid(f"manifest {manifest.manifest_path} cannot be decoded: {failure}") from None


def _batches(manifests: Sequence[ManifestFile]) -> Iterator[Sequence[ManifestFile]]:
    batch: list[ManifestFile] = []
    size = 0
    for manifest in manifests:
        if batch and (size + manifest.manifest_length > _BATCH_BYTES or len(batch) >= _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(manifest)
        size += manifest.manifest_length
    if batch:
        yield batch
