"""DuckDB as the reader of Avro and Parquet: one connection a worker, offline, with its extension from the installed
wheel."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import duckdb

from executor.errors import ConfigurationError

_MAGIC = b"Obj\x01"


def connect(*, temporary: Path, memory_limit: str = "1GB") -> duckdb.DuckDBPyConnection:
    """An in-memory database that reads Avro and Parquet. Nothing is installed into a home directory, nothing is
    downloaded."""
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            # It would keep the content of every manifest, which is read once only.
            "enable_external_file_cache": "false",
            "memory_limit": memory_limit,
            "temp_directory": str(temporary),
            "threads": "1",
        }
    )
    # Loaded by its path: the wheel's own installer copies it into the user's home, where concurrent workers would
    # collide.
    path = str(_extension()).replace("'", "''")
    connection.execute(f"LOAD '{path}'")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _extension() -> Path:
    """The Avro extension in the wheel duckdb-extension-avro. DuckDB checks that it is signed and of its own version."""
    spec = importlib.util.find_spec("duckdb_extension_avro")
    if spec is None or spec.origin is None:
        raise ConfigurationError("reading manifests needs the package duckdb-extension-avro: install floe[executor]")
    path = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}" / "avro.duckdb_extension"
    if not path.exists():
        raise ConfigurationError(
            f"duckdb-extension-avro has no extension for DuckDB {duckdb.__version__}: install the same version of both"
        )
    return path


def header(content: bytes) -> Mapping[str, bytes]:
    """The metadata of an Avro object container file. Raises ValueError if it is none."""
    if content[:4] != _MAGIC:
        raise ValueError("not an Avro file")
    reader = _Reader(content, 4)
    found: dict[str, bytes] = {}
    while (entries := reader.long()) != 0:
        if entries < 0:  # A negative count is followed by the block's size in bytes.
            entries = -entries
            reader.long()
        for _ in range(entries):
            key = reader.bytes().decode()
            found[key] = reader.bytes()
    return found


def record_fields(schema: bytes) -> frozenset[str]:
    """The fields of a manifest entry's `data_file` record, as the file's writer declared them."""
    for field in json.loads(schema)["fields"]:
        if field["name"] == "data_file":
            record = field["type"]
            return frozenset(inner["name"] for inner in record["fields"])
    raise ValueError("not a manifest: its records have no data_file")


class _Reader:
    """The two Avro primitives that a file's header is made of."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content = content
        self._position = position

    def long(self) -> int:
        shift = value = 0
        while True:
            if self._position >= len(self._content) or shift > 63:
                raise ValueError("a damaged Avro header")
            byte = self._content[self._position]
            self._position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return (value >> 1) ^ -(value & 1)

    def bytes(self) -> bytes:
        length = self.long()
        end = self._position + length
        if length < 0 or end > len(self._content):
            raise ValueError("a damaged Avro header")
        found = self._content[self._position : end]
        self._position = end
        return found
