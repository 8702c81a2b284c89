"""What a table holds, and which of its snapshots an operation made: read by a client of the test's own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from executor.actions.table_metadata import EPOCH_KEY, OPERATION_KEY


@dataclass(frozen=True, slots=True)
class Content:
    """The rows of a table, whatever files they lie in."""

    rows: int
    checksum: str


def content(table: Table) -> Content:
    rows = table.refresh().scan().to_arrow().sort_by("id")
    digest = hashlib.sha256()
    for row in rows.to_pylist():
        digest.update(repr(row).encode())
    return Content(rows.num_rows, digest.hexdigest())


def stamped(table: Table, operation: str) -> Sequence[Snapshot]:
    """Every snapshot that this operation committed, whichever of its attempts it was."""
    return [snapshot for snapshot in table.refresh().snapshots() if _property(snapshot, OPERATION_KEY) == operation]


def epoch(snapshot: Snapshot) -> int:
    return int(_property(snapshot, EPOCH_KEY) or 0)


def data_files(table: Table) -> int:
    return len(list(table.refresh().scan().plan_files()))


def _property(snapshot: Snapshot, key: str) -> str | None:
    return None if snapshot.summary is None else snapshot.summary.additional_properties.get(key)
