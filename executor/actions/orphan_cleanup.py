"""Decides what a removal of orphan files may look at and take, and refuses what could cost live files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from executor.actions.errors import Refused
from executor.actions.file_paths import FilePath, parse
from executor.assignment import OrphanCleanup

MOST_PATHS: Final = 1_000_000
"""How many one operation takes; the oldest first, the rest is another operation's."""

_OTHER_FORMATS: Final = frozenset({"_delta_log", ".hoodie"})


def cut_off(action: OrphanCleanup, *, now: datetime) -> datetime:
    """Only a file that was last changed before this instant may go: a younger one may not be committed yet."""
    instant = min(action.older_than, action.floor)
    if instant >= now:
        raise Refused(
            f"files older than {instant.isoformat()} were to go, which by this executor's clock is not past yet: "
            "a writer may be about to commit them. Put the clock right, or raise olderThan"
        )
    return instant


def refuse_shared_files(properties: Mapping[str, str]) -> None:
    """Raise `Refused` where the table's owner says that its files may be another's."""
    if properties.get("gc.enabled", "true").strip().lower() != "true":
        raise Refused(
            "the table property gc.enabled is not true: its files may belong to other tables, so none may be removed"
        )


def table_folder(location: str) -> FilePath:
    """The table's location; raises `Refused` if what lies under it cannot be the table's alone."""
    folder = parse(location)
    if folder is None:
        raise Refused(f"the table's location {location!r} is not an absolute path without `.` and `..`")
    if folder.key == "/":
        raise Refused(f"the table's location {location!r} is the root of its storage: nothing is removed there")
    return folder


def wanted_folder(action: OrphanCleanup, table: FilePath) -> FilePath:
    """Where orphans are wanted: the table's location, or a folder in it."""
    if not action.location:
        return table
    folder = parse(action.location)
    if folder is None or (folder.key != table.key and not folder.is_under(table)):
        raise Refused(f"location {action.location!r} does not lie in the table's own location: unset it, or correct it")
    return folder


def is_hidden(name: str) -> bool:
    """As Iceberg and Hadoop have it. What is hidden belongs to whoever hid it, and never goes."""
    return name.startswith(("_", "."))


def refuse_other_format(name: str, path: str) -> None:
    """Raise `Refused` if this folder is the log of another table format, whose tables may use the same files."""
    if name in _OTHER_FORMATS:
        raise Refused(f"{path} is the log of a table of another format, which may use the same files")


def is_metadata(name: str) -> bool:
    """Whether a file of that name is the metadata of some version of some table."""
    return name.endswith((".metadata.json", ".metadata.json.gz"))


def exceeded(action: OrphanCleanup, *, files: int, size: int, listed: int) -> Iterator[str]:
    """The caps that so many orphans are beyond, with the figures."""
    if files > action.max_files:
        yield f"maxFiles is {action.max_files}: {files} files would go"
    if action.max_bytes is not None and size > action.max_bytes:
        yield f"maxBytes is {action.max_bytes}: {size} bytes would go"
    if files and files / listed > action.max_share_of_table:
        yield f"maxShareOfTable is {action.max_share_of_table:g}: {files} of {listed} files would go"
