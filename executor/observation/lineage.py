"""The versions of a table's metadata, newest first, as far back as its metadata log and the storage still hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table as OpenTable
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

_MOST_VERSIONS = 100


@dataclass(frozen=True, slots=True)
class Change:
    """One commit, as the metadata before and after it."""

    before: TableMetadata
    after: TableMetadata


class MetadataHistory:
    """Reads versions one by one, back from the current one, and keeps them while one verification goes on."""

    def __init__(self, table: OpenTable) -> None:
        self._io = table.io
        self._locations = [entry.metadata_file for entry in reversed(table.metadata.metadata_log)][:_MOST_VERSIONS]
        self._versions: list[TableMetadata] = [table.metadata]

    def introduction(self, holds: Callable[[TableMetadata], bool]) -> Change | None:
        """The commit after which `holds` was true for the first time and from then on; None if the log does not reach
        back to it."""
        for number in range(len(self._locations) + 1):
            after = self._version(number)
            if after is None or not holds(after):
                return None
            before = self._version(number + 1)
            if before is None:
                return None
            if not holds(before):
                return Change(before, after)
        return None

    def last_with(self, holds: Callable[[TableMetadata], bool]) -> TableMetadata | None:
        """The newest version for which `holds` is true."""
        for number in range(len(self._locations) + 1):
            version = self._version(number)
            if version is None:
                return None
            if holds(version):
                return version
        return None

    def reaches(self, metadata_location: str) -> bool:
        """Whether the log goes back to that version, so that what is not found since then never was."""
        return metadata_location in self._locations

    def _version(self, number: int) -> TableMetadata | None:
        while len(self._versions) <= number:
            position = len(self._versions) - 1
            if position >= len(self._locations):
                return None
            try:
                self._versions.append(FromInputFile.table_metadata(self._io.new_input(self._locations[position])))
            except (OSError, ValueError):
                # Old metadata files may be deleted after a commit: what cannot be read is not judged.
                return None
        return self._versions[number]


def descends(snapshots: Sequence[Snapshot], snapshot: int | None, ancestor: int) -> bool | None:
    """Whether `ancestor` is `snapshot` or in its history; None if the history is broken off by an expired snapshot."""
    parents = {each.snapshot_id: each.parent_snapshot_id for each in snapshots}
    # A history cannot be longer than its snapshots: damaged metadata must not make us go round for ever.
    for _ in range(len(parents) + 1):
        if snapshot is None:
            return False
        if snapshot == ancestor:
            return True
        if snapshot not in parents:
            return None
        snapshot = parents[snapshot]
    return False
