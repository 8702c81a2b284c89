"""Observations on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from control_plane.domain.identifiers import ObservationId, SessionId
from control_plane.domain.observation import (
    Answer,
    Observation,
    ObservationKind,
    ObservationRequest,
    ObservationState,
)
from control_plane.ports.records import ObservationClaim
from control_plane.store.answers import HAND_OUT_GRACE, dumped_answer, loaded_answer, timed_out
from control_plane.store.codec import dumped, loaded
from control_plane.store.postgres.database import Database

# An open one is returned as it is: setting a column to its own value is how ON CONFLICT gives the row back.
_OPEN: Final = """
INSERT INTO observations AS v (id, kind, target, catalog, operation, lapse, state, create_time, deadline, timeout,
                               not_before, traceparent, request)
SELECT $1, $2, $3, $4, $5, $6, 'OPEN', now, now + $7, $8, $9, $10, $11::jsonb FROM clock_timestamp() AS now
ON CONFLICT (kind, target) WHERE state <> 'DONE' DO UPDATE SET kind = v.kind
RETURNING *
"""
_GET: Final = "SELECT * FROM observations WHERE id = $1"
_DUE: Final = """
state = 'OPEN' AND deadline > clock_timestamp() AND (not_before IS NULL OR not_before <= clock_timestamp())
"""
_CLAIMABLE: Final = f"SELECT EXISTS (SELECT FROM observations WHERE {_DUE})"
_CLAIM: Final = f"""
WITH me AS MATERIALIZED (
    SELECT id FROM executors WHERE id = $1 AND session = $2 FOR SHARE
), locked AS MATERIALIZED (
    SELECT id FROM observations
    WHERE EXISTS (SELECT FROM me) AND {_DUE}
      AND kind = ANY ($3) AND (cardinality($4::text[]) = 0 OR catalog = ANY ($4))
    ORDER BY create_time, id
    LIMIT $5
    FOR UPDATE SKIP LOCKED
), moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now, count(*) AS locked FROM locked
), given AS (
    UPDATE observations v SET
        state = 'LEASED', epoch = v.epoch + 1, executor = $1, session = $2, begin_time = moment.now,
        lease_expire_time = moment.now + v.timeout + $6
    FROM locked, moment
    WHERE v.id = locked.id
    RETURNING v.*
)
SELECT * FROM given ORDER BY create_time, id
"""
# The epoch is the fence; the session must be its executor's current one, whichever it was handed out to.
_ANSWER: Final = """
UPDATE observations v SET state = 'DONE', answer = $4::jsonb, finish_time = clock_timestamp(), lease_expire_time = NULL
WHERE id = $1 AND state <> 'DONE' AND epoch = $2
  AND EXISTS (SELECT FROM executors e WHERE e.id = v.executor AND e.session = $3)
RETURNING *
"""
_OVERDUE: Final = """
SELECT id, epoch FROM observations WHERE state <> 'DONE' AND deadline <= clock_timestamp()
ORDER BY id FOR UPDATE SKIP LOCKED
"""
_GIVE_UP: Final = """
UPDATE observations SET state = 'DONE', answer = $2::jsonb, finish_time = clock_timestamp(), lease_expire_time = NULL
WHERE id = $1 AND state <> 'DONE'
RETURNING *
"""
# Its executor's session ended: the answer was lost with it, unless it comes over the next one, for which it has $1.
_LAPSED: Final = """
v.state = 'LEASED' AND (
    v.lease_expire_time <= clock_timestamp()
    OR v.begin_time + $1 <= clock_timestamp()
       AND NOT EXISTS (SELECT FROM executors e WHERE e.id = v.executor AND e.session = v.session)
)
"""
_SWEEP_NEEDED: Final = f"""
SELECT EXISTS (SELECT FROM observations WHERE state <> 'DONE' AND deadline <= clock_timestamp()) AS overdue,
       EXISTS (SELECT FROM observations v WHERE {_LAPSED}) AS lapsed
"""
_REOPEN: Final = f"""
WITH lapsed AS (
    SELECT v.id FROM observations v WHERE {_LAPSED} AND v.deadline > clock_timestamp()
    ORDER BY v.id FOR UPDATE SKIP LOCKED
)
UPDATE observations v SET state = 'OPEN', session = NULL, lease_expire_time = NULL, begin_time = NULL
FROM lapsed WHERE v.id = lapsed.id
"""
_ANSWERED: Final = """
SELECT * FROM observations WHERE state = 'DONE' AND used_time IS NULL AND kind = ANY ($1)
ORDER BY finish_time, id LIMIT $2
"""
_UNANSWERED: Final = "SELECT count(*) FROM observations WHERE state <> 'DONE' AND kind = $1"
_USED: Final = "UPDATE observations SET used_time = clock_timestamp() WHERE id = $1 AND used_time IS NULL"

_COLUMNS: Final = (
    "id",
    "create_time",
    "deadline",
    "timeout",
    "state",
    "epoch",
    "executor",
    "session",
    "lease_expire_time",
    "begin_time",
    "not_before",
    "traceparent",
    "finish_time",
)


class PostgresObservations:
    """The whole of `ports.records.ObservationStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(
        self,
        request: ObservationRequest,
        *,
        within: timedelta,
        timeout: timedelta,  # noqa: ASYNC109  # how long an executor may take, not this call
        not_before: datetime | None = None,
        traceparent: str = "",
    ) -> Observation:
        row = await self._database.fetchrow(
            _OPEN,
            str(uuid.uuid4()),
            request.kind,
            request.target,
            request.catalog,
            request.operation,
            request.lapse,
            within,
            timeout,
            not_before,
            traceparent,
            dumped(request, ObservationRequest),
        )
        assert row is not None, "inserted, or found by the conflict"
        return _observation(row)

    async def get(self, observation: ObservationId) -> Observation | None:
        row = await self._database.fetchrow(_GET, observation)
        return None if row is None else _observation(row)

    async def claimable(self) -> bool:
        return bool(await self._database.fetchval(_CLAIMABLE))

    async def claim(self, claim: ObservationClaim) -> Sequence[Observation]:
        rows = await self._database.fetch(
            _CLAIM,
            claim.executor,
            claim.session,
            list(claim.kinds),
            list(claim.catalogs),
            claim.slots,
            HAND_OUT_GRACE,
        )
        return [_observation(row) for row in rows]

    async def answer(
        self, observation: ObservationId, *, epoch: int, session: SessionId, answer: Answer
    ) -> Observation | None:
        row = await self._database.fetchrow(_ANSWER, observation, epoch, session, dumped_answer(answer))
        return None if row is None else _observation(row)

    async def sweep(self) -> Sequence[Observation]:
        needed = await self._database.fetchrow(_SWEEP_NEEDED, HAND_OUT_GRACE)
        if needed is None or not (needed["overdue"] or needed["lapsed"]):
            return ()
        done = []
        async with self._database.transaction():
            for row in await self._database.fetch(_OVERDUE):
                answer = dumped_answer(timed_out(row["epoch"]))
                if (ended := await self._database.fetchrow(_GIVE_UP, row["id"], answer)) is not None:
                    done.append(_observation(ended))
            await self._database.execute(_REOPEN, HAND_OUT_GRACE)
        return done

    async def answered(self, kinds: Sequence[ObservationKind], *, limit: int) -> Sequence[Observation]:
        return [_observation(row) for row in await self._database.fetch(_ANSWERED, list(kinds), limit)]

    async def unanswered(self, kind: ObservationKind) -> int:
        return int(await self._database.fetchval(_UNANSWERED, kind))

    async def used(self, observation: ObservationId) -> bool:
        return bool(await self._database.execute(_USED, observation))


def _observation(row: asyncpg.Record) -> Observation:
    columns = {name: row[name] for name in _COLUMNS} | {"state": ObservationState(row["state"])}
    answer = None if row["answer"] is None else loaded_answer(row["answer"])
    return Observation(request=loaded(row["request"], ObservationRequest), answer=answer, **columns)
