"""Reads from a table what an attempt left in it: its stamped snapshots, and which of its planned expirations
happened."""

from __future__ import annotations

from datetime import UTC, datetime

from pyiceberg.table import Table as OpenTable
from pyiceberg.table.snapshots import Snapshot

from executor import assignment
from executor.assignment import OperationId, Stamp
from executor.catalogs.locations import same_location
from executor.observation.access import CatalogAccess, loaded
from executor.observation.errors import NotFound
from executor.observation.model import Evidence, GatherEvidence, Identity, StampedSnapshot

OPERATION_PROPERTY = "floe.operation-id"
EPOCH_PROPERTY = "floe.epoch"


def gather(request: GatherEvidence, access: CatalogAccess) -> Evidence:
    """What the current metadata says. It is read after `started_at`, so it shows every commit answered before."""
    started_at = datetime.now(UTC)
    try:
        with access.table(request.table) as table:
            if not same_table(request.table, table):
                return Evidence(Identity.REPLACED, started_at, table=loaded(table))
            wanted = set(request.stamps)
            ids = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
            return Evidence(
                identity=Identity.SAME,
                started_at=started_at,
                table=loaded(table),
                snapshots=tuple(
                    StampedSnapshot(snapshot.snapshot_id, stamp)
                    for snapshot in table.metadata.snapshots
                    if (stamp := stamp_of(snapshot)) in wanted and stamp is not None
                ),
                present=tuple(each for each in request.expiring_snapshots if each in ids),
                gone=tuple(each for each in request.expiring_snapshots if each not in ids),
            )
    except NotFound:
        return Evidence(Identity.NOT_FOUND, started_at)


def same_table(meant: assignment.Table, table: OpenTable) -> bool:
    """Whether this is the table that was meant; what the record does not know is not compared."""
    return (not meant.uuid or meant.uuid.lower() == str(table.metadata.table_uuid).lower()) and (
        not meant.location or same_location(meant.location, table.metadata.location)
    )


def stamp_of(snapshot: Snapshot) -> Stamp | None:
    """The stamp in a snapshot's summary, if one of our attempts made it."""
    if snapshot.summary is None:
        return None
    operation, epoch = snapshot.summary[OPERATION_PROPERTY], snapshot.summary[EPOCH_PROPERTY]
    if operation is None or epoch is None or not str(epoch).isdecimal():
        return None
    return Stamp(OperationId(str(operation)), int(epoch))
