"""Changes of one operation: a decision under its row lock, and everything that follows from it in the same step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from control_plane.domain.errors import CatalogNotFound, OperationNotFound
from control_plane.domain.identifiers import OperationId, SessionId
from control_plane.domain.operation import Attempt, Change, Lease, Operation, OperationState, Result
from control_plane.domain.rules import Rules
from control_plane.ports.operations import Decide, Due, Reported, Verdict
from control_plane.store.changes import Effect, accepts_result, effect_of, is_current, stale_lease
from control_plane.store.codec import dumped
from control_plane.store.fences import fence_key
from control_plane.store.postgres.database import Database, missing_key
from control_plane.store.postgres.feedback import FEED_BACK
from control_plane.store.postgres.operation_blockers import blockers_from, surroundings
from control_plane.store.postgres.operation_rows import COLUMNS, operation_json, operation_of, operations_json
from control_plane.store.postgres.operation_sweeps import STILL_DUE
from control_plane.store.results import result_digest

_ALL: Final = ", ".join(COLUMNS)
_NEW: Final = ", ".join(f"new.{column}" for column in COLUMNS)
_EVENT_COLUMNS: Final = (
    "xid, time, event, from_state, to_state, operation_id, type, catalog, table_key, policy, trigger_id, run_id, "
    "operation"
)

_AROUND_NEW: Final = surroundings(
    fences="ARRAY(SELECT fence_key FROM new)",
    runs="ARRAY(SELECT run_id FROM new)",
    policies="ARRAY(SELECT policy FROM new)",
)
# Fences are made in key order, so that two callers that share tables wait for each other instead of locking up.
ADD_OPERATIONS: Final = f"""
WITH new AS MATERIALIZED (
    SELECT added.*, given FROM jsonb_array_elements($1::jsonb) AS given,
        LATERAL jsonb_populate_record(NULL::operations, given) AS added
), fenced AS (
    INSERT INTO fences (key) SELECT DISTINCT fence_key FROM new ORDER BY fence_key ON CONFLICT DO NOTHING
), added AS (
    INSERT INTO operations ({_ALL}) SELECT {_NEW} FROM new RETURNING *
), noted AS (
    INSERT INTO events ({_EVENT_COLUMNS})
    SELECT pg_current_xact_id(), clock_timestamp(), 'queued', NULL, state, id, type, catalog, table_key, policy,
           trigger_id, run_id, given - 'token'
    FROM new
)
"""
# Budgets count what people ask for too; what it costs is known when it ends.
_ENQUEUE: Final = f"""
{ADD_OPERATIONS}
, charged AS (
    INSERT INTO charges (operation, policy, fence_key, time, bytes, engine_seconds)
    SELECT id, policy, fence_key, clock_timestamp(), 0, 0 FROM added
)
{_AROUND_NEW}"""

# The time is read once the lock is held: a caller that waited for it judges by the time of its turn.
_LOCK: Final = """
WITH locked AS MATERIALIZED (SELECT * FROM operations WHERE id = $1 FOR UPDATE)
SELECT locked.*, clock_timestamp() AS now FROM locked
"""
_LOCK_FINISHED: Final = """
WITH locked AS MATERIALIZED (SELECT * FROM operation_history WHERE id = $1 FOR UPDATE)
SELECT locked.*, clock_timestamp() AS now FROM locked
"""
# FOR SHARE: an executor that attaches anew waits for this transaction, or this one sees its new session.
_SESSION_IS_CURRENT: Final = "SELECT true FROM executors WHERE id = $1 AND session = $2 FOR SHARE"

_FOLLOWS: Final = f"""
, fenced AS (
    UPDATE fences f SET epoch = f.epoch + $5::int, holder = CASE WHEN $6 THEN NULL ELSE f.holder END
    FROM written w WHERE f.key = w.fence_key AND f.holder = w.id AND ($5::int > 0 OR $6)
    RETURNING f.key
), freed AS MATERIALIZED (
    SELECT key FROM capacity
    -- Fences before capacity, as in a claim: what counts the fences waits for them.
    WHERE key = ANY ($7::text[]) AND EXISTS (SELECT FROM written) AND (SELECT count(*) FROM fenced) >= 0
    ORDER BY key FOR UPDATE
), counted AS (
    UPDATE capacity c SET in_use = c.in_use - 1 FROM freed WHERE c.key = freed.key
), tried AS (
    INSERT INTO attempts AS a (operation, epoch, start_time, finish_time, document)
    SELECT w.id, $8, $9, $10, $11::jsonb FROM written w WHERE $11::text IS NOT NULL
    ON CONFLICT (operation, epoch) DO UPDATE SET finish_time = EXCLUDED.finish_time, document = EXCLUDED.document
), noted AS (
    INSERT INTO events ({_EVENT_COLUMNS})
    SELECT w.event_xid, w.update_time, $12, $13, w.state, w.id, w.type, w.catalog, w.table_key, w.policy, w.trigger_id,
           w.run_id, to_jsonb(w) - 'token'
    FROM written w WHERE $12 <> ''
)
"""
_WRITE: Final = f"""
WITH new AS MATERIALIZED (
    SELECT * FROM jsonb_populate_record(NULL::operations, $2::jsonb)
), written AS (
    UPDATE operations o SET
        ({_ALL}) = ROW ({_NEW}),
        capacity_keys = CASE WHEN cardinality($7::text[]) > 0 THEN '{{}}' ELSE o.capacity_keys END,
        event_xid = greatest(o.event_xid, pg_current_xact_id())
    FROM new
    WHERE o.id = $1 AND o.state = ANY ($3) AND o.revision = $4
    RETURNING o.*
){_FOLLOWS}
SELECT count(*) FROM written
"""
# The end: from the small table of what is unfinished to history.
_FINISH: Final = f"""
WITH new AS MATERIALIZED (
    SELECT * FROM jsonb_populate_record(NULL::operations, $2::jsonb)
), gone AS (
    DELETE FROM operations o WHERE o.id = $1 AND o.state = ANY ($3) AND o.revision = $4 RETURNING o.event_xid
), written AS (
    INSERT INTO operation_history ({_ALL}, event_xid)
    SELECT {_NEW}, greatest(gone.event_xid, pg_current_xact_id()) FROM new, gone
    RETURNING *
), silent AS (
    DELETE FROM progress p USING gone WHERE p.operation = $1
){_FOLLOWS}{FEED_BACK}
SELECT count(*) FROM written
"""
# What is learnt of an operation after its end; its state is final.
_AMEND: Final = f"""
WITH new AS MATERIALIZED (
    SELECT * FROM jsonb_populate_record(NULL::operations, $2::jsonb)
), written AS (
    UPDATE operation_history o SET
        ({_ALL}) = ROW ({_NEW}), event_xid = greatest(o.event_xid, pg_current_xact_id())
    FROM new
    WHERE o.id = $1 AND o.create_time = new.create_time AND o.state = ANY ($3) AND o.revision = $4
    RETURNING o.*
){_FOLLOWS}
SELECT count(*) FROM written
"""

_RESULTS: Final = "SELECT digest, verdict FROM results WHERE operation = $1 AND epoch = $2 AND token = $3"
_KEEP_RESULT: Final = """
INSERT INTO results (operation, epoch, token, digest, verdict, reason, payload)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb)
ON CONFLICT (operation, epoch, token, digest) DO NOTHING
"""


class OperationChanges:
    """Operations as they are added and changed."""

    def __init__(self, database: Database, rules: Rules) -> None:
        self._database = database
        self._rules = rules

    async def enqueue(self, operations: Sequence[Operation]) -> Mapping[OperationId, Sequence[str]]:
        if not operations:
            return {}
        rows = operations_json(operations)
        try:
            found = await self._database.fetchrow(_ENQUEUE, rows)
        except asyncpg.ForeignKeyViolationError as error:
            # The catalog was deleted between its lookup and this statement.
            raise CatalogNotFound(missing_key(error)) from error
        return blockers_from(found, operations)

    async def change(
        self,
        operation: OperationId,
        decide: Decide,
        *,
        lease: Lease | None = None,
        session: SessionId | None = None,
        due: Due | None = None,
    ) -> Operation | None:
        async with self._database.transaction():
            row = await self._lock(operation)
            current, now = operation_of(row), row["now"]
            if lease is not None and not is_current(lease, current):
                return None
            if session is not None and not await self._database.fetchval(
                _SESSION_IS_CURRENT, current.executor, session
            ):
                return None
            if due is not None and not await self._database.fetchval(STILL_DUE[due], operation):
                return None
            change = decide(current, now)
            return None if change is None else await self._store(row, current, change, now)

    async def report(self, lease: Lease, result: Result, decide: Decide) -> Reported:
        digest = result_digest(result)
        async with self._database.transaction():
            row = await self._lock(lease.operation)
            current, now = operation_of(row), row["now"]
            verdict, reason, after = Verdict.REJECTED, "", current
            stored = await self._database.fetch(_RESULTS, lease.operation, lease.epoch, lease.token)
            accepted = [row["digest"] for row in stored if row["verdict"] == Verdict.ACCEPTED]
            if accepted:
                if accepted[0] == digest:
                    return Reported(Verdict.REPEATED, current)
                reason = "another result of this lease was accepted before"
            elif not accepts_result(lease, current):
                reason = stale_lease(lease, current)
            else:
                change = decide(current, now)
                if change is None:
                    reason = "nothing follows from it any more"
                else:
                    after = await self._store(row, current, change, now)
                    verdict = Verdict.ACCEPTED
            payload = dumped(result, Result)
            await self._database.execute(
                _KEEP_RESULT, lease.operation, lease.epoch, lease.token, digest, verdict, reason, payload
            )
            return Reported(verdict, after, reason)

    async def _lock(self, operation: OperationId) -> asyncpg.Record:
        row = await self._database.fetchrow(_LOCK, operation) or await self._database.fetchrow(
            _LOCK_FINISHED, operation
        )
        if row is None:
            raise OperationNotFound(operation)
        return row

    async def _store(self, row: asyncpg.Record, current: Operation, change: Change, now: datetime) -> Operation:
        effect = effect_of(current, change, now)
        if effect is None:
            return current
        statement = _AMEND if current.is_terminal else _FINISH if effect.operation.is_terminal else _WRITE
        written = await self._database.fetchval(statement, *_values(current, effect, change, row["capacity_keys"]))
        if written != 1:
            raise ValueError(_broken_guard(current, change))
        return effect.operation


def _values(current: Operation, effect: Effect, change: Change, capacity_keys: Sequence[str]) -> tuple[object, ...]:
    attempt = change.attempt
    kept = frozenset({"epoch", "start_time", "finish_time"})
    return (
        current.id,
        operation_json(effect.operation),
        list(effect.sources),
        current.revision,
        1 if effect.leaves_lease else 0,
        effect.opens_fence,
        list(capacity_keys) if effect.leaves_lease else [],
        attempt.epoch if attempt else 0,
        attempt.start_time if attempt else effect.operation.create_time,
        attempt.finish_time if attempt else None,
        dumped(attempt, Attempt, leave_out=kept) if attempt else None,
        effect.event,
        current.state,
    )


def _broken_guard(current: Operation, change: Change) -> str:
    edge = change.edge
    sources = sorted(edge.sources) if edge is not None else [OperationState(current.state)]
    return (
        f"operation {current.id} in {fence_key(current)} is {current.state}; "
        f"{edge.event if edge else 'a note'} is only allowed in {', '.join(sources)}"
    )
