"""What is due without anybody asking, by the database's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from control_plane.domain.identifiers import OperationId
from control_plane.ports.operations import Due
from control_plane.store.postgres.database import Database

# By reason: when an operation `o` is due, and since when.
_DUE: Final[Mapping[Due, tuple[str, str]]] = {
    Due.UNACKED: (
        "o.state = 'LEASED' AND o.ack_deadline <= clock_timestamp()",
        "o.ack_deadline",
    ),
    Due.LAPSED: (
        "o.state = 'RUNNING' AND (o.lease_expire_time <= clock_timestamp() OR o.missed_renewals >= 2)",
        "o.lease_expire_time",
    ),
    Due.EVIDENCE: (
        """o.state = 'RECONCILING' AND o.evidence_not_before <= clock_timestamp() AND NOT EXISTS (
            SELECT FROM observations v
            WHERE v.operation = o.id AND v.kind = 'GATHER_EVIDENCE' AND v.lapse = o.lapse
              AND (v.state <> 'DONE' OR v.used_time IS NULL))""",
        "o.evidence_not_before",
    ),
    Due.RECONCILE_OVERDUE: (
        "o.state = 'RECONCILING' AND o.reconcile_deadline <= clock_timestamp()",
        "o.reconcile_deadline",
    ),
    Due.VERIFY: (
        """o.state = 'VERIFYING' AND NOT EXISTS (
            SELECT FROM observations v
            WHERE v.operation = o.id AND v.kind = 'VERIFY_OPERATION' AND v.lapse = o.attempt
              AND (v.state <> 'DONE' OR v.used_time IS NULL))""",
        "o.verify_deadline",
    ),
    Due.VERIFY_OVERDUE: (
        "o.state = 'VERIFYING' AND o.verify_deadline <= clock_timestamp()",
        "o.verify_deadline",
    ),
    Due.EXPIRED: (
        "o.state IN ('QUEUED', 'HELD') AND o.queue_deadline <= clock_timestamp()",
        "o.queue_deadline",
    ),
    Due.WITHDRAWN: (
        """o.state = 'QUEUED' AND NOT EXISTS (
            SELECT FROM policies p WHERE p.name = o.policy AND p.enabled)""",
        "o.virtual_deadline",
    ),
    Due.WINDOW_OVER: (
        "o.cancel_at <= (SELECT clock_timestamp()) AND o.cancel_request_time IS NULL",
        "o.cancel_at",
    ),
    Due.POLICY_CHANGED: (
        """o.state = 'QUEUED' AND o.displaced AND EXISTS (
            SELECT FROM policies p WHERE p.name = o.policy AND p.enabled)""",
        "o.virtual_deadline",
    ),
}

STILL_DUE: Final = {
    reason: f"SELECT true FROM operations o WHERE o.id = $1 AND {condition}" for reason, (condition, _) in _DUE.items()
}
_LIST: Final = {
    reason: f"SELECT o.id FROM operations o WHERE {condition} ORDER BY {since}, o.id LIMIT $1"
    for reason, (condition, since) in _DUE.items()
}
# Few policies have long queues: from one policy of the queue to the next, instead of over all that waits.
_QUEUED_POLICIES: Final = """
WITH RECURSIVE queued (policy) AS (
    (SELECT policy FROM operations WHERE state = 'QUEUED' ORDER BY policy LIMIT 1)
    UNION ALL
    SELECT (
        SELECT o.policy FROM operations o WHERE o.state = 'QUEUED' AND o.policy > q.policy ORDER BY o.policy LIMIT 1)
    FROM queued q WHERE q.policy IS NOT NULL
)
"""
_WITHDRAWN: Final = """
EXISTS (SELECT FROM queued q
        WHERE q.policy IS NOT NULL AND NOT EXISTS (SELECT FROM policies p WHERE p.name = q.policy AND p.enabled))
"""
_ANY: Final = f"{_QUEUED_POLICIES} SELECT " + ", ".join(
    f'{_WITHDRAWN if reason is Due.WITHDRAWN else f"EXISTS (SELECT FROM operations o WHERE {condition})"} AS "{reason}"'
    for reason, (condition, _) in _DUE.items()
)


class OperationSweeps:
    """Operations for which time has run out or an observation is wanted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, reason: Due, *, limit: int) -> Sequence[OperationId]:
        return [OperationId(row["id"]) for row in await self._database.fetch(_LIST[reason], limit)]

    async def due_now(self) -> frozenset[Due]:
        row = await self._database.fetchrow(_ANY)
        return frozenset(reason for reason in Due if row is not None and row[reason.value])
