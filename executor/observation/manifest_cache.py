"""What was learnt from manifests, kept on disk: a worker that starts anew need not read them again.

One small file a manifest, written whole or not at all and checked when it is read, so that workers share the directory
without a lock and a damaged file costs one reading. Everything here may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa
from pyiceberg.manifest import ManifestFile

_FORMAT: Final = "floe-manifest-1"
_DIGEST_SIZE: Final = 16
_UNUSED_SECONDS: Final = 3600
"""How coarsely it is known when an entry was last used."""

ROWS: Final = pa.schema(
    [
        ("content", pa.uint8()),
        ("is_dv", pa.bool_()),
        ("spec", pa.int32()),
        ("partition", pa.uint64()),
        ("path", pa.uint64()),
        ("referenced", pa.uint64()),
        ("size", pa.int64()),
        ("records", pa.int64()),
        ("sequence", pa.int64()),
        ("location", pa.string()),
        ("format", pa.string()),
    ]
)
"""The columns of one live file; see `ManifestFiles`."""

# Hashes of values are DuckDB's, and only comparable among those of one version.
_KIND: Final = f"{_FORMAT} duckdb-{duckdb.__version__} {ROWS.to_string()}"


class ManifestKey(NamedTuple):
    """What tells a manifest from any other, also from one that has its path in another storage."""

    path: str
    length: int
    snapshot: int
    sequence: int

    @classmethod
    def of(cls, manifest: ManifestFile) -> ManifestKey:
        return cls(
            manifest.manifest_path,
            manifest.manifest_length,
            manifest.added_snapshot_id or 0,
            manifest.sequence_number or 0,
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    used: float
    size: int


class ManifestCache:
    """At most about `limit` bytes of a directory; the entries that were not used for longest go first.

    Nothing is raised for a disk that is full, slow or damaged: then there is no entry.
    """

    def __init__(self, directory: Path, *, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        # At once, with the first entry: workers may come and go before any of them has written much.
        self._written = limit

    def holds(self, key: ManifestKey) -> bool:
        """Whether there is an entry; whether it is whole shows when it is read."""
        return self._path(key).exists()

    def get(self, key: ManifestKey) -> pa.Table | None:
        """The live files of the manifest. An entry that is not exactly what was written is thrown away."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            rows = _rows(key, content)
            if rows is None:
                path.unlink()
            elif time.time() - path.stat().st_mtime > _UNUSED_SECONDS:
                os.utime(path)
        except OSError:
            return None
        return rows

    def put(self, key: ManifestKey, rows: pa.Table) -> None:
        content = _content(key, rows)
        if len(content) > self._limit // 4:
            return
        path = self._path(key)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
        with contextlib.suppress(OSError):
            try:
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                unfinished.write_bytes(content)
                unfinished.replace(path)
            except OSError:
                unfinished.unlink(missing_ok=True)
                raise
            self._written += len(content)
            if self._written >= self._limit // 64:
                self._written = 0
                self._shrink()

    def _shrink(self) -> None:
        """Back to three quarters: the rest is for what this and other workers write until the next time."""
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        total = sum(entry.size for entry in entries)
        if total <= self._limit * 3 // 4:
            return
        for entry in entries:
            if total <= self._limit * 3 // 4:
                return
            with contextlib.suppress(OSError):
                entry.path.unlink(missing_ok=True)
                total -= entry.size

    def _entries(self) -> Iterator[_Entry]:
        with os.scandir(self._directory) as files:
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    status = file.stat(follow_symlinks=False)
                    yield _Entry(Path(file.path), status.st_mtime, status.st_blocks * 512)

    def _path(self, key: ManifestKey) -> Path:
        return self._directory / sha256(f"{_KIND} {key}".encode()).hexdigest()


def _content(key: ManifestKey, rows: pa.Table) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, ROWS) as writer:
        writer.write_table(rows.cast(ROWS))
    payload: bytes = stream.getvalue().to_pybytes()
    return _digest(key, payload) + payload


def _rows(key: ManifestKey, content: bytes) -> pa.Table | None:
    digest, payload = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
    if digest != _digest(key, payload):
        return None
    return pa.ipc.open_stream(payload).read_all()


def _digest(key: ManifestKey, payload: bytes) -> bytes:
    """Of the key too: an entry under another one's name is none."""
    return blake2b(f"{_KIND} {key}".encode() + payload, digest_size=_DIGEST_SIZE).digest()
