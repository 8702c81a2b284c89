"""The live files of manifests, decoded by DuckDB and kept by manifest: a manifest never changes, so it is read once.

The bytes come through pyiceberg's FileIO, so that every object store and every vended credential works.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import duckdb
import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestContent, ManifestFile

from executor.observation.manifest_cache import ROWS, ManifestCache, ManifestKey
from executor.observation.manifest_entries import Fetched, fetch, insert

CHOSEN: Final = "manifest IN (SELECT unnest($manifests::INTEGER[]))"
"""The condition for the rows of `chosen(...)`, the parameter `manifests`."""

_BATCH_BYTES = 16 * 1024**2
_BATCH_FILES = 50
_READERS = 8
_LONG_SECONDS = 5
_SAVED_TOGETHER = 50
_DECODERS = min(4, os.cpu_count() or 1)


def chosen(manifests: Sequence[int]) -> str:
    """The ids as one text: DuckDB looks at every element of a list that it is given from Python, for its type."""
    return str(list(manifests))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Manifests that are read in one go; the first one's id is `first`, and so on."""

    first: int
    manifests: Sequence[ManifestFile]


@dataclass(frozen=True, slots=True)
class _Known:
    id: int
    rows: int


class ManifestFiles:
    """A table `files` in DuckDB, one row for each live file of the manifests read so far.

    Columns: manifest (see `load`), content (0 data, 1 position deletes, 2 equality deletes), is_dv, spec, partition
    and path (hashes, equal for equal values), referenced (hash of the one data file that a delete file speaks of),
    size, records, sequence, location (of delete files only) and format.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        scratch: Path,
        *,
        cache: ManifestCache | None = None,
        kept_files: int = 1_000_000,
    ) -> None:
        self.connection = connection
        self._scratch = scratch
        self._cache = cache
        self._kept_files = kept_files
        self._known: OrderedDict[ManifestKey, _Known] = OrderedDict()
        self._unsaved: list[tuple[ManifestKey, _Known]] = []
        self._next_id = 0
        connection.execute(
            "CREATE TABLE files (manifest INTEGER, content UTINYINT, is_dv BOOLEAN, spec INTEGER, partition UBIGINT,"
            " path UBIGINT, referenced UBIGINT, size BIGINT, records BIGINT, sequence BIGINT, location VARCHAR,"
            " format VARCHAR)"
        )

    def missing(self, manifests: Sequence[ManifestFile]) -> Sequence[ManifestFile]:
        """Those that would have to be read."""
        return [
            manifest
            for manifest in manifests
            if (key := ManifestKey.of(manifest)) not in self._known
            and (self._cache is None or not self._cache.holds(key))
        ]

    def load(self, io: FileIO, manifests: Sequence[ManifestFile]) -> Sequence[int]:
        """Read what is not known yet; the ids under which the rows of these manifests stand in `files`."""
        keys = [ManifestKey.of(manifest) for manifest in manifests]
        wanted = {key: manifest for key, manifest in zip(keys, manifests, strict=True) if key not in self._known}
        self._recall(wanted)
        self._read(io, [manifest for key, manifest in wanted.items() if key not in self._known])
        for key in keys:
            self._known.move_to_end(key)
        return [self._known[key].id for key in keys]

    def save(self) -> None:
        """Give the cache what was read since the last time. An answer need not wait for it."""
        if self._cache is None:
            return
        while part := self._unsaved[:_SAVED_TOGETHER]:
            rows = self.connection.execute(
                f"SELECT {', '.join(ROWS.names)} FROM files WHERE {CHOSEN} ORDER BY manifest, rowid",
                {"manifests": chosen([known.id for _, known in part])},
            ).to_arrow_table()
            start = 0
            for key, known in sorted(part, key=lambda each: each[1].id):
                self._cache.put(key, rows.slice(start, known.rows))
                start += known.rows
            del self._unsaved[: len(part)]

    def trim(self) -> None:
        """Forget the manifests used longest ago until no more rows are kept than allowed. Ids of forgotten ones are
        void."""
        self.save()
        total = sum(known.rows for known in self._known.values())
        forgotten = []
        while total > self._kept_files and self._known:
            _, known = self._known.popitem(last=False)
            forgotten.append(known.id)
            total -= known.rows
        if forgotten:
            self.connection.execute(f"DELETE FROM files WHERE {CHOSEN}", {"manifests": chosen(forgotten)})

    def locations(
        self, io: FileIO, manifests: Sequence[ManifestFile], added_by: int | None, limit: int
    ) -> Sequence[str]:
        """Up to `limit` locations of live data files, of those that snapshot `added_by` added if it is given."""
        found: list[str] = []
        for manifest in manifests:
            if len(found) >= limit:
                break
            with TemporaryDirectory(dir=self._scratch) as folder:
                fetched = fetch(io, manifest, 0, Path(folder))
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

    def _recall(self, wanted: Mapping[ManifestKey, ManifestFile]) -> None:
        """Take what the cache has, some manifests at a time."""
        if self._cache is None:
            return
        parts: list[pa.Table] = []
        recalled: dict[ManifestKey, _Known] = {}
        for key in wanted:
            rows = self._cache.get(key)
            if rows is not None:
                recalled[key] = _Known(self._next_id, rows.num_rows)
                parts.append(rows.add_column(0, "manifest", pa.repeat(pa.scalar(self._next_id, pa.int32()), len(rows))))
                self._next_id += 1
        if parts:
            self.connection.register("recalled", pa.concat_tables(parts).combine_chunks())
            try:
                self.connection.execute("INSERT INTO files SELECT * FROM recalled")
            finally:
                self.connection.unregister("recalled")
        self._known.update(recalled)

    def _read(self, io: FileIO, manifests: Sequence[ManifestFile]) -> None:
        if not manifests:
            return
        first = self._next_id
        self._next_id += len(manifests)
        batches = list(_batches(manifests, first))
        known: dict[ManifestKey, _Known] = {}
        began = time.monotonic()
        try:
            with (
                ThreadPoolExecutor(min(_READERS, len(manifests))) as readers,
                ThreadPoolExecutor(min(_DECODERS, len(batches))) as decoders,
            ):
                for found in decoders.map(partial(self._read_batch, io, readers), batches):
                    known.update(found)
                    self._unsaved.extend(found.items())
                    if time.monotonic() - began > _LONG_SECONDS:
                        # A reading that is cut off at its deadline gets further the next time.
                        self.save()
        except BaseException:
            # What other batches inserted has no name.
            self._unsaved.clear()
            self.connection.execute("DELETE FROM files WHERE manifest >= $first", {"first": first})
            raise
        self._known.update(known)

    def _read_batch(self, io: FileIO, readers: Executor, batch: _Batch) -> Mapping[ManifestKey, _Known]:
        """In a thread of its own, with a cursor of its own: DuckDB decodes a file in one thread."""
        connection = self.connection.cursor()
        with TemporaryDirectory(dir=self._scratch) as folder:
            fetching = [
                readers.submit(fetch, io, manifest, number, Path(folder))
                for number, manifest in enumerate(batch.manifests)
            ]
            try:
                fetched = [reading.result() for reading in fetching]
            finally:
                # Of a batch that failed others are still being written, into a folder that is about to go.
                for reading in fetching:
                    reading.cancel()
                wait(fetching)
            alike: defaultdict[tuple[bytes, bool], list[Fetched]] = defaultdict(list)
            for each in fetched:
                alike[each.schema, each.manifest.content == ManifestContent.DELETES].append(each)
            known = {
                "first": batch.first,
                "specs": str([manifest.partition_spec_id or 0 for manifest in batch.manifests]),
                "sequences": str([manifest.sequence_number or 0 for manifest in batch.manifests]),
            }
            connection.begin()
            for (schema, deletes), group in alike.items():
                insert(connection, schema, group, known, deletes=deletes)
            connection.commit()
        return self._counted(connection, batch)

    def _counted(self, connection: duckdb.DuckDBPyConnection, batch: _Batch) -> Mapping[ManifestKey, _Known]:
        """How many rows each manifest has."""
        last = batch.first + len(batch.manifests) - 1
        counted = dict(
            connection.execute(
                "SELECT manifest, count(*) FROM files WHERE manifest BETWEEN $first AND $last GROUP BY ALL",
                {"first": batch.first, "last": last},
            ).fetchall()
        )
        return {
            ManifestKey.of(manifest): _Known(number, counted.get(number, 0))
            for number, manifest in enumerate(batch.manifests, batch.first)
        }


def _batches(manifests: Sequence[ManifestFile], first: int) -> Iterator[_Batch]:
    batch: list[ManifestFile] = []
    size = 0
    for manifest in manifests:
        if batch and (size + manifest.manifest_length > _BATCH_BYTES or len(batch) >= _BATCH_FILES):
            yield _Batch(first, batch)
            first += len(batch)
            batch, size = [], 0
        batch.append(manifest)
        size += manifest.manifest_length
    if batch:
        yield _Batch(first, batch)
