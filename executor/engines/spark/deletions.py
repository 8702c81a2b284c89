"""The files that an expiry has to delete: kept on disk until they are gone, so that a later attempt can finish."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from executor.assignment import OperationId

_KEPT_FOR: Final = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class UnreachableFile:
    kind: str
    """As Iceberg's `FileInfo` says it, e.g. DATA or `Manifest List`."""
    path: str


@dataclass(frozen=True, slots=True)
class DeletionList:
    """One operation's list: a header line, then one line a file."""

    path: Path
    table_uuid: str
    expired: Sequence[int]

    def batches(self, size: int) -> Iterator[Sequence[UnreachableFile]]:
        """The files that no recorded batch has covered. One that was not recorded comes again, which is harmless."""
        with self.path.open(encoding="utf-8") as lines:
            next(lines)
            for _ in islice(lines, self._done()):
                pass
            while batch := [UnreachableFile(*json.loads(line)) for line in islice(lines, size)]:
                yield batch

    def record(self, files: int) -> None:
        """So many more files, in the list's order, have been deleted."""
        _write(self._mark, [str(self._done() + files)])

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        return self.path.with_suffix(".done")

    def _done(self) -> int:
        return int(self._mark.read_text()) if self._mark.is_file() else 0


class Deletions:
    """The lists of one state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def prepare(self) -> None:
        """Make the directory, and forget lists that nobody has come back for."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self._directory.iterdir():
            if path.stat().st_mtime < time.time() - _KEPT_FOR:
                path.unlink(missing_ok=True)

    def write(
        self, operation: OperationId, *, table_uuid: str, expired: Sequence[int], files: Iterable[UnreachableFile]
    ) -> DeletionList:
        """Make the list durable; it is there as a whole or not at all."""
        header = json.dumps({"table_uuid": table_uuid, "expired": list(expired)})
        entries = (json.dumps([file.kind, file.path]) for file in files)
        path = self._path(operation)
        _write(path, (line for lines in ([header], entries) for line in lines))
        return DeletionList(path=path, table_uuid=table_uuid, expired=tuple(expired))

    def find(self, operation: OperationId) -> DeletionList | None:
        """The list that an earlier attempt of the operation left behind."""
        path = self._path(operation)
        if not path.is_file():
            return None
        with path.open(encoding="utf-8") as lines:
            header: Mapping[str, object] = json.loads(next(lines))
        expired = header["expired"]
        assert isinstance(expired, list)
        return DeletionList(path=path, table_uuid=str(header["table_uuid"]), expired=tuple(expired))

    def _path(self, operation: OperationId) -> Path:
        safe = "".join(character if character.isalnum() or character in "-_" else "_" for character in operation)
        return self._directory / f"{safe}.files"


def _write(path: Path, lines: Iterable[str]) -> None:
    new = path.with_suffix(path.suffix + ".new")
    with new.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
