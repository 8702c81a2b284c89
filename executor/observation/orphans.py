"""Lists a table's orphan files: what lies under its location, is referenced by nothing of it, and is old enough.

First the storage is listed, then the table is read, so that what a writer commits in between is referenced by the time
it is asked for. A file stays if anything references its path, however it is spelled, and also if anything references a
file of the same name anywhere: names of data files are unique, so that it may be the same file by another way.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb
import pyarrow as pa
from pyiceberg.table import Table as OpenTable

from executor.actions.errors import Refused
from executor.actions.file_paths import FilePath, Prefixes, parse
from executor.actions.orphan_cleanup import (
    MOST_PATHS,
    cut_off,
    exceeded,
    is_metadata,
    refuse_shared_files,
    table_folder,
    wanted_folder,
)
from executor.assignment import OrphanCleanup, PrefixMismatchMode
from executor.catalogs.locations import same_location
from executor.observation.access import loaded
from executor.observation.avro import connect
from executor.observation.errors import NotFound
from executor.observation.evidence import same_table
from executor.observation.file_listing import files_under
from executor.observation.model import ListOrphans, OrphanPlan
from executor.observation.references import named_files, needed_files

_ROWS: Final = 10_000
_SAMPLE: Final = 100
_MOST_LISTED: Final = 20_000_000
_MEMORY: Final = "512MB"
_HEAD: Final = 64 * 1024
_TABLE_UUID: Final = re.compile(rb'(?<!\\)"table-uuid"\s*:\s*"([^"\\]+)"')
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_LISTED: Final = pa.schema(
    [
        ("path", pa.string()),
        ("key", pa.string()),
        ("name", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.int64()),
        ("wanted", pa.bool_()),
    ]
)
_REFERENCED: Final = pa.schema(
    [("key", pa.string()), ("name", pa.string()), ("needed", pa.bool_()), ("alien", pa.bool_())]
)


def list_orphans(request: ListOrphans, table: OpenTable, scratch: Path) -> OrphanPlan:
    """What may go now. A refusal is an answer too. Raises `NotFound` for another table of the same name."""
    if not same_table(request.table, table):
        raise NotFound(f"table {request.table.qualified} is gone: another table has its name")
    try:
        # A database of its own, that spills to the disk: a listing may be longer than the memory.
        with (
            TemporaryDirectory(dir=scratch) as folder,
            closing(connect(temporary=Path(folder), memory_limit=_MEMORY)) as connection,
        ):
            return _list(request, table, connection, Path(folder))
    except Refused as refused:
        return OrphanPlan(loaded(table), refusal=str(refused))


def _list(request: ListOrphans, table: OpenTable, connection: duckdb.DuckDBPyConnection, scratch: Path) -> OrphanPlan:
    action = request.action
    before = cut_off(action, now=datetime.now(UTC))
    refuse_shared_files(table.metadata.properties)
    location = table.metadata.location
    home = table_folder(location)
    _store_listed(connection, location, wanted_folder(action, home))
    # Only now: what is listed and not referenced was not committed while it was listed either.
    try:
        table.refresh()
    except ValueError as failure:
        # pyiceberg's way to say that the UUID is another one.
        raise NotFound(f"table {request.table.qualified} is gone: {failure}") from None
    if not same_location(location, table.metadata.location):
        raise Refused(f"the table has moved from {location} to {table.metadata.location} while it was listed")
    refuse_shared_files(table.metadata.properties)
    _store_referenced(connection, table, home, action, scratch)
    _refuse_doubtful_prefixes(connection, location, action)
    _refuse_other_tables(connection, table)
    return _plan(connection, table, action, before)


def _store_listed(connection: duckdb.DuckDBPyConnection, location: str, wanted: FilePath) -> None:
    """Files whose path is not understood are left out: they are nobody's orphans."""
    connection.execute(
        "CREATE TABLE listed (path VARCHAR, key VARCHAR, name VARCHAR, size BIGINT, modified BIGINT, wanted BOOLEAN)"
    )

    def rows() -> Iterator[dict[str, Any]]:
        for number, file in enumerate(files_under(location)):
            if number >= _MOST_LISTED:
                raise Refused(f"more than {_MOST_LISTED} files lie under {location}: name a folder of it as location")
            path = parse(file.path)
            if path is not None:
                yield {
                    "path": file.path,
                    "key": path.key,
                    "name": path.name,
                    "size": file.size,
                    "modified": file.modified,
                    "wanted": path.is_under(wanted),
                }

    _insert(connection, "listed", rows(), _LISTED)


def _store_referenced(
    connection: duckdb.DuckDBPyConnection, table: OpenTable, home: FilePath, action: OrphanCleanup, scratch: Path
) -> None:
    """Each reference by its path and by its name; `alien` if it has another scheme or authority than the table."""
    prefixes = Prefixes(action.equal_schemes, action.equal_authorities)
    connection.execute("CREATE TABLE referenced (key VARCHAR, name VARCHAR, needed BOOLEAN, alien BOOLEAN)")

    def needed() -> Iterator[dict[str, Any]]:
        for text in needed_files(table, connection, scratch):
            path = parse(text)
            if path is None:
                raise Refused(f"the table references {text[:500]!r}, which is no absolute path: it may be any file")
            yield {"key": path.key, "name": path.name, "needed": True, "alien": prefixes.differ(path, home)}

    def named() -> Iterator[dict[str, Any]]:
        for text in named_files(table):
            path = parse(text)
            if path is not None:
                yield {"key": path.key, "name": path.name, "needed": False, "alien": False}
        # Hadoop tables and their readers find the newest version by it, and nothing names it.
        hint = "version-hint.text"
        yield {"key": f"{home.key}/metadata/{hint}", "name": hint, "needed": False, "alien": False}

    _insert(connection, "referenced", needed(), _REFERENCED)
    _insert(connection, "referenced", named(), _REFERENCED)


def _refuse_doubtful_prefixes(connection: duckdb.DuckDBPyConnection, location: str, action: OrphanCleanup) -> None:
    """Raise `Refused` if what is listed and what is referenced may be the same files, spelled in two ways."""
    (alien, example) = _one(
        connection, "SELECT count(*), min(path) FROM listed SEMI JOIN (FROM referenced WHERE alien) USING (key)"
    )
    if alien and action.prefix_mismatch_mode is PrefixMismatchMode.ERROR:
        raise Refused(
            f"{alien} files are referenced with another scheme or authority than that of {location}, such as "
            f"{example}: name what means the same in equalSchemes and equalAuthorities"
        )
    (listed,) = _one(connection, "SELECT count(*) FROM listed")
    (found,) = _one(connection, "SELECT count(*) FROM listed SEMI JOIN (FROM referenced WHERE needed) USING (key)")
    if listed and not found:
        raise Refused(
            f"{listed} files lie under {location}, and none of them is one that the table references: "
            "its files may be spelled in a way that is not understood"
        )


def _refuse_other_tables(connection: duckdb.DuckDBPyConnection, table: OpenTable) -> None:
    """Raise `Refused` if the metadata of another table lies under the location: then its files do so too."""
    own = parse(table.metadata_location)
    uuid = str(table.metadata.table_uuid).lower()
    files = connection.cursor().execute(
        "SELECT path FROM listed ANTI JOIN referenced USING (key) WHERE contains(name, '.metadata.json') ORDER BY path"
    )
    unreadable: list[str] = []
    while rows := files.fetchmany(_ROWS):
        for (path,) in rows:
            found = parse(path)
            if found is None or not is_metadata(found.name):
                continue
            if own is None or found.parent != own.parent:
                raise Refused(f"another table's metadata lies under this table's location: {path}")
            uuids = _uuids(Path(path))
            if uuids is None:
                unreadable.append(path)
            elif uuids != {uuid}:
                said = ", ".join(sorted(uuids)) or "no UUID"
                raise Refused(f"{path} is the metadata of another table ({said}) under this table's location")
    for path in unreadable:
        connection.execute("DELETE FROM listed WHERE path = $path", {"path": path})


def _uuids(path: Path) -> set[str] | None:
    """The table UUIDs that a metadata file names; None for a file that is damaged, or gone."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            content = gzip.decompress(head + file.read()) if head[:2] == b"\x1f\x8b" else head
            if not (found := _TABLE_UUID.findall(content)):
                content += file.read()
                found = _TABLE_UUID.findall(content)
        if not found:
            json.loads(content)
    except (OSError, EOFError, ValueError):
        return None
    return {each.decode(errors="replace").lower() for each in found}


def _plan(
    connection: duckdb.DuckDBPyConnection, table: OpenTable, action: OrphanCleanup, before: datetime
) -> OrphanPlan:
    connection.execute(
        """
        CREATE TABLE unreferenced AS
        SELECT path, size, modified FROM listed
            ANTI JOIN referenced AS by_path ON listed.key = by_path.key
            ANTI JOIN referenced AS by_name ON listed.name = by_name.name
        WHERE wanted
        """
    )
    limit = (before - _EPOCH) // timedelta(microseconds=1)
    (listed, listed_size) = _one(connection, "SELECT count(*), coalesce(sum(size), 0) FROM listed")
    (young,) = _one(connection, f"SELECT count(*) FROM unreferenced WHERE modified >= {limit}")
    (total, total_size) = _one(
        connection, f"SELECT count(*), coalesce(sum(size), 0) FROM unreferenced WHERE modified < {limit}"
    )
    digest, files, size = sha256(), 0, 0
    sample: list[str] = []
    oldest = newest = None
    rows = connection.cursor().execute(
        f"SELECT path, size, modified FROM unreferenced WHERE modified < {limit}"
        f" ORDER BY modified, path LIMIT {MOST_PATHS}"
    )
    while batch := rows.fetchmany(_ROWS):
        for path, bytes_, modified in batch:
            digest.update(json.dumps([path, bytes_, modified]).encode() + b"\n")
            files, size = files + 1, size + bytes_
            oldest = modified if oldest is None else oldest
            newest = modified
            if len(sample) < _SAMPLE:
                sample.append(path)
    return OrphanPlan(
        loaded(table),
        files=files,
        size=size,
        remaining=int(total) - files,
        oldest=_instant(oldest),
        newest=_instant(newest),
        listed_files=int(listed),
        listed_size=int(listed_size),
        young=int(young),
        sample=tuple(sample),
        digest=digest.hexdigest() if files else "",
        exceeded=tuple(exceeded(action, files=int(total), size=int(total_size), listed=int(listed))),
    )


def _insert(
    connection: duckdb.DuckDBPyConnection, target: str, rows: Iterable[dict[str, Any]], schema: pa.Schema
) -> None:
    """`target` is a name of ours."""
    remaining = iter(rows)
    while batch := list(islice(remaining, _ROWS)):
        connection.register("batch", pa.Table.from_pylist(batch, schema))
        try:
            connection.execute(f"INSERT INTO {target} SELECT * FROM batch")
        finally:
            connection.unregister("batch")


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def _one(connection: duckdb.DuckDBPyConnection, statement: str) -> Sequence[Any]:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return tuple(row)
