"""What executors say of their leases between the Ack and the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from control_plane.domain.identifiers import ExecutorId, OperationId, SessionId
from control_plane.domain.operation import LEASE_STATES, Lease, OperationState, Progress
from control_plane.domain.rules import Rules
from control_plane.ports.operations import Renewal
from control_plane.store.codec import dumped, loaded
from control_plane.store.postgres.database import Database

# Neither revision nor event: a renewal changes nothing that anybody waits for. Rows are locked in id order, and the
# time is read after that, so that a renewal which waited is not extended from before its turn.
_RENEW: Final = """
WITH me AS MATERIALIZED (
    SELECT id FROM executors WHERE session = $1 FOR SHARE
), listed AS (
    SELECT * FROM unnest($2::text[], $3::bigint[], $4::bytea[]) AS l (operation, epoch, token)
), mine AS MATERIALIZED (
    SELECT o.id, o.state, o.cancel_request_time IS NOT NULL AS cancelled, l.operation IS NOT NULL AS listed
    FROM operations o
    LEFT JOIN listed l ON l.operation = o.id AND l.epoch = o.epoch AND l.token = o.token
    WHERE o.executor = (SELECT id FROM me)
      AND o.state IN ('LEASED', 'RUNNING', 'RECONCILING')
      AND (l.operation IS NOT NULL OR $5 AND o.state = 'RUNNING')
    ORDER BY o.id
    FOR UPDATE OF o
), moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now, count(*) AS locked FROM mine
), renewed AS (
    UPDATE operations o SET
        lease_expire_time = CASE WHEN mine.listed THEN moment.now + $6 ELSE o.lease_expire_time END,
        missed_renewals = CASE WHEN mine.listed THEN 0 ELSE o.missed_renewals + 1 END
    FROM mine, moment
    WHERE o.id = mine.id AND mine.state = 'RUNNING'
)
SELECT id, state, cancelled FROM mine WHERE listed
"""

_PROGRESS: Final = "SELECT operation, time, document FROM progress WHERE operation = ANY ($1)"
_RECORD_PROGRESS: Final = """
INSERT INTO progress AS p (operation, time, document)
SELECT o.id, clock_timestamp(), l.document
FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::jsonb[]) AS l (operation, epoch, token, document)
JOIN operations o ON o.id = l.operation AND o.epoch = l.epoch AND o.token = l.token AND o.state = ANY ($5)
ORDER BY o.id
ON CONFLICT (operation) DO UPDATE SET time = EXCLUDED.time, document = EXCLUDED.document
"""
_CANCEL_REQUESTS: Final = """
SELECT id, epoch, token FROM operations
WHERE executor = ANY ($1) AND state IN ('LEASED', 'RUNNING', 'RECONCILING') AND cancel_request_time IS NOT NULL
ORDER BY id
"""


class OperationLeases:
    """Leases while they are held."""

    def __init__(self, database: Database, rules: Rules) -> None:
        self._database = database
        self._rules = rules

    async def renew(self, session: SessionId, leases: Sequence[Lease], *, heartbeat: bool) -> Renewal:
        rows = await self._database.fetch(_RENEW, session, *_columns(leases), heartbeat, self._rules.lease_ttl)
        states = {row["id"]: row["state"] for row in rows}
        lapsed = [lease for lease in leases if states.get(lease.operation) == OperationState.RECONCILING]
        lost = [lease for lease in leases if lease.operation not in states]
        gone = {*lapsed, *lost}
        return Renewal(
            renewed=[lease for lease in leases if lease not in gone],
            lapsed=lapsed,
            lost=lost,
            cancelled=[
                OperationId(row["id"])
                for row in rows
                if row["cancelled"] and row["state"] != OperationState.RECONCILING
            ],
        )

    async def progress(self, operations: Sequence[OperationId]) -> Mapping[OperationId, Progress]:
        rows = await self._database.fetch(_PROGRESS, list(operations))
        return {OperationId(row["operation"]): loaded(row["document"], Progress, time=row["time"]) for row in rows}

    async def record_progress(self, progress: Mapping[OperationId, Progress], *, leases: Sequence[Lease]) -> None:
        told = [lease for lease in leases if lease.operation in progress]
        if not told:
            return
        documents = [dumped(progress[lease.operation], Progress, leave_out=_STORED_TIME) for lease in told]
        await self._database.execute(_RECORD_PROGRESS, *_columns(told), documents, list(LEASE_STATES))

    async def cancel_requests(self, executors: Sequence[ExecutorId]) -> Sequence[Lease]:
        rows = await self._database.fetch(_CANCEL_REQUESTS, list(executors))
        return [Lease(OperationId(row["id"]), row["epoch"], row["token"]) for row in rows]


_STORED_TIME: Final = frozenset({"time"})


def _columns(leases: Sequence[Lease]) -> tuple[list[OperationId], list[int], list[bytes]]:
    return [lease.operation for lease in leases], [lease.epoch for lease in leases], [lease.token for lease in leases]
