"""The parts of Iceberg's table metadata file that maintenance decides by."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from executor.assignment import Stamp

OPERATION_KEY: Final = "floe.operation-id"
EPOCH_KEY: Final = "floe.epoch"
POLICY_KEY: Final = "floe.policy"
MAIN_BRANCH: Final = "main"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST: Final = timedelta(days=365_000)
"""Iceberg says "for ever" with the greatest long of milliseconds, which no timedelta can hold."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: int
    parent: int | None
    committed_at: datetime
    summary: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch or a tag. None: it has no setting of its own."""

    name: str
    snapshot: int
    is_branch: bool
    min_snapshots_to_keep: int | None = None
    max_snapshot_age: timedelta | None = None
    max_ref_age: timedelta | None = None


@dataclass(frozen=True, slots=True)
class PartitionField:
    field_id: int
    source_id: int
    transform: str


@dataclass(frozen=True, slots=True)
class TableMetadata:
    """One version of a table, as its metadata file has it."""

    uuid: str
    location: str
    current_snapshot: int | None = None
    snapshots: Sequence[Snapshot] = ()
    refs: Sequence[Ref] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    """Full name of every primitive column of the current schema -> its type, e.g. `decimal(9, 2)`."""
    partition_specs: Mapping[int, Sequence[PartitionField]] = field(default_factory=dict)

    def snapshot(self, snapshot_id: int | None) -> Snapshot | None:
        return next((snapshot for snapshot in self.snapshots if snapshot.id == snapshot_id), None)

    def ref(self, name: str) -> Ref | None:
        return next((ref for ref in self.refs if ref.name == name), None)

    def head(self, branch: str | None) -> Snapshot | None:
        """The newest snapshot of the branch; of main when none is named."""
        if branch is None or branch == MAIN_BRANCH:
            return self.snapshot(self.current_snapshot)
        ref = self.ref(branch)
        return self.snapshot(ref.snapshot) if ref is not None and ref.is_branch else None

    def stamped(self, stamps: Collection[Stamp]) -> Sequence[Snapshot]:
        """All snapshots, of any branch, that one of these attempts committed; the oldest first."""
        wanted = {(stamp.operation, str(stamp.epoch)) for stamp in stamps}
        return sorted(
            (s for s in self.snapshots if (s.summary.get(OPERATION_KEY), s.summary.get(EPOCH_KEY)) in wanted),
            key=lambda snapshot: snapshot.committed_at,
        )

    @classmethod
    def parse(cls, text: str) -> TableMetadata:
        """Read what Iceberg's `TableMetadataParser` writes."""
        document = json.loads(text)
        current = document.get("current-snapshot-id")
        return cls(
            uuid=document.get("table-uuid", ""),
            location=document["location"],
            # Older writers say -1 for "none".
            current_snapshot=None if current in (None, -1) else current,
            snapshots=[_snapshot(entry) for entry in document.get("snapshots", ())],
            refs=[_ref(name, entry) for name, entry in document.get("refs", {}).items()],
            properties=document.get("properties", {}),
            columns=dict(_columns(_current_schema(document)["fields"], "")),
            partition_specs={
                spec["spec-id"]: [_partition_field(entry) for entry in spec["fields"]]
                for spec in document.get("partition-specs", ())
            },
        )


def _snapshot(entry: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        id=entry["snapshot-id"],
        parent=entry.get("parent-snapshot-id"),
        committed_at=_EPOCH + timedelta(milliseconds=entry["timestamp-ms"]),
        summary=entry.get("summary", {}),
    )


def _ref(name: str, entry: Mapping[str, Any]) -> Ref:
    return Ref(
        name=name,
        snapshot=entry["snapshot-id"],
        is_branch=entry["type"] == "branch",
        min_snapshots_to_keep=entry.get("min-snapshots-to-keep"),
        max_snapshot_age=milliseconds(entry.get("max-snapshot-age-ms")),
        max_ref_age=milliseconds(entry.get("max-ref-age-ms")),
    )


def milliseconds(value: int | str | None) -> timedelta | None:
    """A duration that Iceberg keeps in milliseconds."""
    return None if value is None else timedelta(milliseconds=min(int(value), _LONGEST // timedelta(milliseconds=1)))


def _partition_field(entry: Mapping[str, Any]) -> PartitionField:
    return PartitionField(field_id=entry["field-id"], source_id=entry["source-id"], transform=entry["transform"])


def _current_schema(document: Mapping[str, Any]) -> Mapping[str, Any]:
    for schema in document.get("schemas", ()):
        if schema["schema-id"] == document["current-schema-id"]:
            found: Mapping[str, Any] = schema
            return found
    first_version: Mapping[str, Any] = document["schema"]
    return first_version


def _columns(fields: Sequence[Mapping[str, Any]], prefix: str) -> Iterator[tuple[str, str]]:
    for entry in fields:
        kind = entry["type"]
        if isinstance(kind, str):
            yield prefix + entry["name"], kind
        elif kind["type"] == "struct":
            yield from _columns(kind["fields"], f"{prefix}{entry['name']}.")
