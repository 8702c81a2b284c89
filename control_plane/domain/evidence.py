"""What a table says about an attempt whose executor cannot be asked any more.

Data-file rewriting stamps every snapshot it commits with (operation id, epoch); expiry stored the snapshot ids that it
would remove before it began. An attempt that stored no plan never came to its first effect.
"""

from __future__ import annotations

from control_plane.domain.decisions import EvidenceFound
from control_plane.domain.errors import NotHandedOut
from control_plane.domain.identifiers import OperationType
from control_plane.domain.observation import Evidence
from control_plane.domain.operation import Effects, Operation, Outcome


def judge(operation: Operation, evidence: Evidence) -> EvidenceFound:
    """The effects of the operation's current attempt, by evidence that was read after its lock-delay."""
    if operation.table_uuid and evidence.table.uuid != operation.table_uuid:
        return EvidenceFound(
            Effects.UNKNOWN,
            Outcome.PARTIAL,
            detail="another table has the name now; what was done to the old one cannot be read",
        )
    match operation.type:
        case OperationType.REWRITE_DATA_FILES:
            return _stamps(operation, evidence)
        case OperationType.EXPIRE_SNAPSHOTS:
            return _expired(operation, evidence)
        case other:
            # No executor announces these, so none was ever handed out and lost.
            raise NotHandedOut(other)


def _stamps(operation: Operation, evidence: Evidence) -> EvidenceFound:
    ours = tuple(
        found.snapshot
        for found in evidence.snapshots
        if found.stamp.operation == operation.id and found.stamp.epoch == operation.epoch
    )
    if not ours:
        return EvidenceFound(Effects.NONE, Outcome.NO_CHANGE)
    allowed = operation.plan.max_commits if operation.plan else 1
    if len(ours) >= allowed:
        return EvidenceFound(Effects.COMMITTED, Outcome.COMPLETE, ours)
    detail = f"{len(ours)} of at most {allowed} commits are in the table"
    return EvidenceFound(Effects.PARTIAL, Outcome.PARTIAL, ours, detail)


def _expired(operation: Operation, evidence: Evidence) -> EvidenceFound:
    planned = set(operation.plan.expiring_snapshots) if operation.plan else set()
    left = planned & set(evidence.present)
    if left == planned:
        return EvidenceFound(Effects.NONE, Outcome.NO_CHANGE)
    if left:
        detail = f"{len(left)} of {len(planned)} planned snapshots are still in the table"
        return EvidenceFound(Effects.PARTIAL, Outcome.PARTIAL, detail=detail)
    return EvidenceFound(
        Effects.COMMITTED, Outcome.COMPLETE, detail="the snapshots are gone; files that only they reached may remain"
    )
