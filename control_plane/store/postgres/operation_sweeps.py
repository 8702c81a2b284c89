"""What is due without anybody asking, by the database's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from control_plane.domain.identifiers import OperationId
from control_plane.ports.operations import Due
from control_plane.store.postgres.database import Database

# The clock is read by a subquery, once: a volatile function could not be looked up in an index.
# By reason: when an operation `o` is due, and since when.
_DUE: Final[Mapping[Due, tuple[str, str]]] = {
    Due.UNACKED: (
        "o.state = 'LEASED' AND o.ack_deadline <= (SELECT clock_timestamp())",
        "o.ack_deadline",
    ),
    Due.LAPSED: (
        "o.state = 'RUNNING' AND (o.lease_expire_time <= (SELECT clock_timestamp()) OR o.missed_renewals >= 2)",
        "o.lease_expire_time",
    ),
    Due.EVIDENCE: (
        """o.state = 'RECONCILING' AND o.evidence_not_before <= (SELECT clock_timestamp()) AND NOT EXISTS (
            SELECT FROM observations v
            WHERE v.operation = o.id AND v.kind = 'GATHER_EVIDENCE' AND v.lapse = o.lapse
              AND (v.state <> 'DONE' OR v.used_time IS NULL))""",
        "o.evidence_not_before",
    ),
    Due.RECONCILE_OVERDUE: (
        "o.state = 'RECONCILING' AND o.reconcile_deadline <= (SELECT clock_timestamp())",
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
        "o.state = 'VERIFYING' AND o.verify_deadline <= (SELECT clock_timestamp())",
        "o.verify_deadline",
    ),
    Due.EXPIRED: (
        "o.state IN ('QUEUED', 'HELD') AND o.queue_deadline <= (SELECT clock_timestamp())",
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
# Queues are long: their first rows tell whether anything is due, and one goes from one policy to the next.
_POLICIES: Final = """
WITH RECURSIVE unfinished (policy) AS (
    (SELECT policy FROM operations ORDER BY policy LIMIT 1)
    UNION ALL
    SELECT (SELECT o.policy FROM operations o WHERE o.policy > u.policy ORDER BY o.policy LIMIT 1)
    FROM unfinished u WHERE u.policy IS NOT NULL
), unwanted AS MATERIALIZED (
    SELECT u.policy FROM unfinished u
    WHERE u.policy IS NOT NULL AND NOT EXISTS (SELECT FROM policies p WHERE p.name = u.policy AND p.enabled)
)
"""
_FIRST_ROWS: Final[Mapping[Due, str]] = {
    Due.EXPIRED: """clock_timestamp() >= (
        SELECT o.queue_deadline FROM operations o WHERE o.state IN ('QUEUED', 'HELD')
        ORDER BY o.queue_deadline LIMIT 1)""",
    Due.WINDOW_OVER: """clock_timestamp() >= (
        SELECT o.cancel_at FROM operations o WHERE o.cancel_at IS NOT NULL AND o.cancel_request_time IS NULL
        ORDER BY o.cancel_at LIMIT 1)""",
    Due.WITHDRAWN: """EXISTS (
        SELECT FROM unwanted u, LATERAL (
            SELECT FROM operations o WHERE o.policy = u.policy AND o.state = 'QUEUED' LIMIT 1) waits)""",
}
_ANY: Final = f"{_POLICIES} SELECT " + ", ".join(
    f'{_FIRST_ROWS.get(reason, f"EXISTS (SELECT FROM operations o WHERE {condition})")} AS "{reason}"'
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
