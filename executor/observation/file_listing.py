"""Lists the files of a folder, one folder after another, so that a listing of any length takes little memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from executor.actions.errors import Refused
from executor.actions.orphan_cleanup import is_hidden, refuse_other_format
from executor.catalogs.locations import local_path


@dataclass(frozen=True, slots=True)
class ListedFile:
    path: str
    size: int
    modified: int
    """Microseconds since 1970."""


def files_under(location: str) -> Iterator[ListedFile]:
    """Every plain file at any depth. Links are not followed, other file systems are not entered, and what is hidden is
    left out; what vanishes meanwhile is not there.

    Raises `Refused` for a storage that cannot be listed here, and for the log of another table format; OSError for a
    folder that cannot be read: what it holds might forbid the removal.
    """
    root = local_path(location)
    if root is None:
        raise Refused(f"this executor lists local storage only: {location} cannot be searched for orphan files yet")
    try:
        device = os.stat(root).st_dev
    except FileNotFoundError:
        return
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                found = _looked_at(entry, device, waiting)
                if found is not None:
                    yield found


def _looked_at(entry: os.DirEntry[str], device: int, waiting: list[str]) -> ListedFile | None:
    """The entry, if it is a file; a folder is put to those that wait."""
    if entry.is_dir(follow_symlinks=False):
        refuse_other_format(entry.name, entry.path)
    if is_hidden(entry.name) or entry.is_symlink():
        return None
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    if entry.is_dir(follow_symlinks=False):
        if status.st_dev == device:
            waiting.append(entry.path)
        return None
    if not entry.is_file(follow_symlinks=False):
        return None
    return ListedFile(entry.path, status.st_size, status.st_mtime_ns // 1000)
