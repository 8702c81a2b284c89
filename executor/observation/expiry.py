"""What an expiry would take from a table as it is now: planned by the rules that an attempt follows, and not done."""

from __future__ import annotations

from datetime import UTC, datetime

from pyiceberg.table import Table as OpenTable

from executor.actions.errors import Refused
from executor.actions.expire_snapshots import plan_expiry
from executor.actions.table_metadata import TableMetadata
from executor.observation.access import loaded
from executor.observation.errors import NotFound
from executor.observation.evidence import same_table
from executor.observation.model import ExpiryPlan, PlanExpiry, SnapshotRef


def foresee(request: PlanExpiry, table: OpenTable) -> ExpiryPlan:
    """What would go and stay now. A refusal is an answer too. Raises `NotFound` for another table of the same name."""
    if not same_table(request.table, table):
        raise NotFound(f"table {request.table.qualified} is gone: another table has its name")
    metadata = TableMetadata.parse(table.metadata.model_dump_json())
    refs = tuple(SnapshotRef(ref.name, ref.snapshot, ref.is_branch) for ref in metadata.refs)
    try:
        plan = plan_expiry(metadata, request.action, now=datetime.now(UTC))
    except Refused as refused:
        return ExpiryPlan(loaded(table), refs=refs, refusal=str(refused))
    committed_at = {snapshot.id: snapshot.committed_at for snapshot in metadata.snapshots}
    return ExpiryPlan(
        loaded(table),
        expiring=tuple(plan.expiring),
        retained=tuple(plan.retained),
        newest_expiring=committed_at[plan.expiring[-1]] if plan.expiring else None,
        oldest_retained=committed_at[plan.retained[0]] if plan.retained else None,
        refs=refs,
    )
