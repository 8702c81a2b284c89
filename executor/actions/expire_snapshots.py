"""Decides which snapshots an expiry takes, and refuses what must never go.

The rules by age and count are those of Iceberg's `RemoveSnapshots`, restated here so that the exact ids are known, and
stored, before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from executor.actions.errors import Refused
from executor.actions.table_metadata import MAIN_BRANCH, Ref, Snapshot, TableMetadata, milliseconds
from executor.assignment import ExpireSnapshots

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_REF_AGE_MARGIN: Final = timedelta(minutes=5)
"""Iceberg judges a ref's age by its own clock, and later than we do."""
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """The ids that go and the ids that stay, each from the oldest to the newest."""

    expiring: Sequence[int]
    retained: Sequence[int]


def plan_expiry(metadata: TableMetadata, action: ExpireSnapshots, *, now: datetime) -> ExpiryPlan:
    """What the action takes from this version of the table; raises `Refused` for what must not be done."""
    _refuse_what_is_forbidden(metadata, action, now)
    snapshots = {snapshot.id: snapshot for snapshot in metadata.snapshots}
    if action.snapshot_ids:
        expiring = _exactly(metadata, action, snapshots, now)
    else:
        expiring = snapshots.keys() - _retained(metadata, snapshots, action.older_than, action.retain_last, now)
    _refuse_what_is_too_young([snapshots[one] for one in expiring], action)
    oldest_first = sorted(snapshots.values(), key=lambda snapshot: (snapshot.committed_at, snapshot.id))
    return ExpiryPlan(
        expiring=[snapshot.id for snapshot in oldest_first if snapshot.id in expiring],
        retained=[snapshot.id for snapshot in oldest_first if snapshot.id not in expiring],
    )


def _refuse_what_is_forbidden(metadata: TableMetadata, action: ExpireSnapshots, now: datetime) -> None:
    if action.retain_last < 1:
        raise Refused(f"retainLast is {action.retain_last}: at least 1 snapshot of each branch must be kept")
    if metadata.properties.get("gc.enabled", "true").lower() != "true":
        raise Refused(
            "the table property gc.enabled is not true: its files may belong to other tables, "
            "so no snapshot may be expired"
        )
    default_age = milliseconds(metadata.properties.get("history.expire.max-ref-age-ms"))
    for ref in metadata.refs:
        head = metadata.snapshot(ref.snapshot)
        kind = "branch" if ref.is_branch else "tag"
        if head is None:
            raise Refused(
                f"{kind} {ref.name!r} points at snapshot {ref.snapshot}, which is gone: drop the {kind} first"
            )
        max_age = ref.max_ref_age if ref.max_ref_age is not None else default_age
        if ref.name != MAIN_BRANCH and max_age is not None and now - head.committed_at >= max_age - _REF_AGE_MARGIN:
            raise Refused(
                f"{kind} {ref.name!r} is past its max-ref-age, so that any expiry would drop it: "
                f"drop the {kind} or raise its max-ref-age first"
            )


def _exactly(
    metadata: TableMetadata, action: ExpireSnapshots, snapshots: Mapping[int, Snapshot], now: datetime
) -> set[int]:
    asked = set(action.snapshot_ids)
    if unknown := sorted(asked - snapshots.keys()):
        raise Refused(f"expireSnapshotIds names {_shown(unknown)}, which the table does not have")
    for ref in metadata.refs:
        if ref.snapshot in asked:
            kind = "branch" if ref.is_branch else "tag"
            raise Refused(f"expireSnapshotIds names {ref.snapshot}, the snapshot of {kind} {ref.name!r}")
    # Iceberg applies a branch's own maximum age to every expiry, whatever it is asked for.
    forced = snapshots.keys() - _retained(metadata, snapshots, _BEGINNING, action.retain_last, now)
    if more := sorted(forced - asked):
        raise Refused(
            f"a branch's own max-snapshot-age would expire {_shown(more)} too, which expireSnapshotIds does not name"
        )
    return asked


def _retained(
    metadata: TableMetadata, snapshots: Mapping[int, Snapshot], older_than: datetime, retain_last: int, now: datetime
) -> set[int]:
    retained = {ref.snapshot for ref in metadata.refs}
    referenced = set(retained)
    for branch in (ref for ref in metadata.refs if ref.is_branch):
        ancestors = list(_ancestors(branch, snapshots))
        referenced.update(snapshot.id for snapshot in ancestors)
        retained.update(_retained_of(branch, ancestors, older_than, retain_last, now))
    retained.update(s.id for s in snapshots.values() if s.id not in referenced and s.committed_at >= older_than)
    return retained


def _retained_of(
    branch: Ref, ancestors: Sequence[Snapshot], older_than: datetime, retain_last: int, now: datetime
) -> Iterator[int]:
    """What a branch keeps: its own settings win over the action's."""
    keep_from = now - branch.max_snapshot_age if branch.max_snapshot_age is not None else older_than
    at_least = branch.min_snapshots_to_keep if branch.min_snapshots_to_keep is not None else retain_last
    for position, snapshot in enumerate(ancestors):
        if position >= at_least and snapshot.committed_at < keep_from:
            return
        yield snapshot.id


def _ancestors(branch: Ref, snapshots: Mapping[int, Snapshot]) -> Iterator[Snapshot]:
    snapshot = snapshots.get(branch.snapshot)
    while snapshot is not None:
        yield snapshot
        snapshot = snapshots.get(snapshot.parent) if snapshot.parent is not None else None


def _refuse_what_is_too_young(expiring: Sequence[Snapshot], action: ExpireSnapshots) -> None:
    young = sorted(snapshot.id for snapshot in expiring if snapshot.committed_at > action.floor)
    if young:
        raise Refused(
            f"{_shown(young)} would go, younger than this deployment's floor of {action.floor.isoformat()}: "
            "raise maxSnapshotAge, or the branch's own max-snapshot-age"
        )


def _shown(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"snapshot {', '.join(map(str, ids[:_SHOWN]))}{more}"
