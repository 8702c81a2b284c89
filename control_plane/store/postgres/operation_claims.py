"""Handing out: one statement that finds, locks and leases operations."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Final

from control_plane.domain import operation as life
from control_plane.domain.operation import FENCED_STATES
from control_plane.domain.rules import Rules
from control_plane.ports.operations import AGE_BASED, Claimed, ClaimRequest
from control_plane.store.fences import executor_capacity
from control_plane.store.postgres.catalogs import catalog_of
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_rows import operation_of

# Looked at in one claim; what lies behind is found by the next one, when these have been handed out or are busy.
_POOL_PER_SLOT: Final = 8
_POOL_MIN: Final = 64

_CLAIMABLE: Final = """
SELECT EXISTS (
    SELECT FROM operations
    WHERE state = 'QUEUED'
      AND (not_before IS NULL OR not_before <= clock_timestamp())
      AND queue_deadline > clock_timestamp()
)
"""

# `pool` looks without locks. `locked` takes fence and operation together and asks again what a rival may have changed
# meanwhile: a locked row is re-read before its WHERE is judged. Then the capacity rows are locked in key order, so
# caps are hard, and their rooms decide how many are granted. `moment` is read after every lock. What is granted is
# `decisions.claimed`, in SQL.
_CLAIM: Final = """
WITH me AS MATERIALIZED (
    SELECT id FROM executors WHERE id = $1 AND session = $2 AND NOT drained AND NOT leaving FOR SHARE
), pool AS MATERIALIZED (
    SELECT o.id, o.fence_key, o.catalog, o.solo, o.virtual_deadline
    FROM operations o JOIN fences f ON f.key = o.fence_key
    WHERE EXISTS (SELECT FROM me)
      AND o.state = 'QUEUED'
      AND f.holder IS NULL
      AND (o.not_before IS NULL OR o.not_before <= clock_timestamp())
      AND o.queue_deadline > clock_timestamp()
      AND o.cancel_request_time IS NULL
      AND o.type = ANY ($3)
      AND (cardinality($4::text[]) = 0 OR o.catalog = ANY ($4))
      AND NOT (o.avoid_executor IS NOT DISTINCT FROM $1 AND coalesce(o.avoid_until > clock_timestamp(), false))
      AND ($5 OR NOT o.solo)
      AND EXISTS (
        SELECT FROM policies p
        WHERE p.name = o.policy AND p.enabled AND (o.slot IS NULL OR o.policy_generation = p.generation)
      )
      AND NOT o.displaced
      AND NOT EXISTS (
        SELECT FROM tables t
        WHERE t.catalog = o.catalog AND t.fence_key = o.fence_key AND NOT t.maintenance_enabled
      )
      AND NOT EXISTS (
        SELECT FROM pauses p
        WHERE (p.until IS NULL OR p.until > clock_timestamp())
          AND CASE WHEN p.table_key IS NOT NULL THEN p.table_key = o.table_key
                   ELSE p.catalog IS NULL OR p.catalog = o.catalog END
      )
      AND NOT EXISTS (
        SELECT FROM operations e
        WHERE e.run_id = o.run_id AND e.type_order < o.type_order
          AND (e.state = ANY ($6)
               OR e.state = 'QUEUED' AND (e.not_before IS NULL OR e.not_before <= clock_timestamp()))
      )
      AND NOT EXISTS (
        SELECT FROM capacity c
        WHERE c.key = ANY ($7::text[] || ('catalog:' || o.catalog)) AND c.maximum > 0 AND c.in_use >= c.maximum
      )
    ORDER BY o.virtual_deadline, o.id
    LIMIT $8
), first_per_table AS (
    SELECT DISTINCT ON (fence_key) * FROM pool ORDER BY fence_key, virtual_deadline, id
), placed AS (
    SELECT t.id, t.solo,
           row_number() OVER (ORDER BY t.virtual_deadline, t.id) AS place,
           first_value(t.solo) OVER (ORDER BY t.virtual_deadline, t.id) AS solo_first,
           row_number() OVER (PARTITION BY t.catalog ORDER BY t.virtual_deadline, t.id) AS place_in_catalog,
           c.maximum - c.in_use AS room
    FROM first_per_table t
    LEFT JOIN capacity c ON c.key = 'catalog:' || t.catalog AND c.maximum > 0
), chosen AS MATERIALIZED (
    SELECT id FROM placed
    WHERE CASE WHEN solo_first THEN place = 1 ELSE NOT solo END
      AND (room IS NULL OR place_in_catalog <= room)
), locked AS MATERIALIZED (
    SELECT o.id, o.fence_key, o.catalog, o.virtual_deadline
    FROM chosen JOIN operations o ON o.id = chosen.id JOIN fences f ON f.key = o.fence_key
    WHERE o.state = ANY ($9)
      AND f.holder IS NULL
      AND o.cancel_request_time IS NULL
      AND (o.not_before IS NULL OR o.not_before <= clock_timestamp())
    ORDER BY o.virtual_deadline, o.id
    LIMIT $10
    FOR UPDATE OF f, o SKIP LOCKED
), caps AS MATERIALIZED (
    SELECT key, maximum, in_use FROM capacity
    WHERE EXISTS (SELECT FROM locked)
      AND key = ANY ($7::text[] || ARRAY(SELECT DISTINCT 'catalog:' || catalog FROM locked))
    ORDER BY key
    FOR UPDATE
), moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now, count(*) AS caps FROM caps
), within_catalog AS (
    SELECT l.*, row_number() OVER (ORDER BY l.virtual_deadline, l.id) AS place
    FROM (
        SELECT locked.*, row_number() OVER (PARTITION BY catalog ORDER BY virtual_deadline, id) AS place_in_catalog
        FROM locked
    ) l LEFT JOIN caps c ON c.key = 'catalog:' || l.catalog AND c.maximum > 0
    WHERE c.key IS NULL OR l.place_in_catalog <= c.maximum - c.in_use
), granted AS MATERIALIZED (
    SELECT id, fence_key, place,
           ARRAY(SELECT key FROM caps WHERE key = ANY ($7) OR key = 'catalog:' || g.catalog ORDER BY key) AS keys
    FROM within_catalog g
    WHERE place <= coalesce((SELECT min(maximum - in_use) FROM caps WHERE maximum > 0 AND key = ANY ($7)), $10)
), fenced AS (
    UPDATE fences f SET epoch = f.epoch + 1, holder = g.id
    FROM granted g
    WHERE f.key = g.fence_key
    RETURNING f.key, f.epoch
), leased AS (
    UPDATE operations o SET
        state = $11,
        state_reason = '',
        attempt = CASE WHEN o.redelivery THEN o.attempt ELSE o.attempt + 1 END,
        epoch = fenced.epoch,
        token = ($12::bytea[])[g.place],
        executor = $1,
        session = $2,
        engine = $13,
        ack_deadline = moment.now + $14,
        not_before = NULL,
        avoid_executor = NULL,
        avoid_until = NULL,
        document = o.document || '{"plan": null}',
        revision = o.revision + 1,
        update_time = moment.now,
        capacity_keys = g.keys,
        event_xid = greatest(o.event_xid, pg_current_xact_id())
    FROM granted g JOIN fenced ON fenced.key = g.fence_key, moment
    WHERE o.id = g.id
    RETURNING o.*
), counted AS (
    UPDATE capacity c SET in_use = c.in_use + taken.leases
    FROM (SELECT key, count(*) AS leases FROM leased, unnest(capacity_keys) AS key GROUP BY key) taken
    WHERE c.key = taken.key
), tried AS (
    INSERT INTO attempts (operation, epoch, start_time, document)
    SELECT id, epoch, update_time, jsonb_build_object('number', attempt, 'executor', executor) FROM leased
), noted AS (
    INSERT INTO events (xid, time, event, from_state, to_state, operation_id, type, catalog, table_key, policy,
                        trigger_id, run_id, operation)
    SELECT event_xid, update_time, $15, 'QUEUED', state, id, type, catalog, table_key, policy,
           trigger_id, run_id, to_jsonb(leased) - 'token'
    FROM leased
)
SELECT leased.*, to_jsonb(c) AS catalog_row
FROM leased JOIN catalogs c ON c.name = leased.catalog
ORDER BY virtual_deadline, id
"""


class OperationClaims:
    """Operations on their way to executors."""

    def __init__(self, database: Database, rules: Rules) -> None:
        self._database = database
        self._rules = rules

    async def claimable(self) -> bool:
        return bool(await self._database.fetchval(_CLAIMABLE))

    async def claim(self, request: ClaimRequest) -> Sequence[Claimed]:
        if request.slots < 1:
            return ()
        types = [kind for kind in request.operation_types if request.age_based or kind not in AGE_BASED]
        rows = await self._database.fetch(
            _CLAIM,
            request.executor,
            request.session,
            types,
            list(request.catalogs),
            request.alone,
            list(FENCED_STATES),
            list(executor_capacity(request.engine, request.labels)),
            max(request.slots * _POOL_PER_SLOT, _POOL_MIN),
            list(life.CLAIMED.sources),
            request.slots,
            life.CLAIMED.target,
            [secrets.token_bytes(16) for _ in range(request.slots)],
            request.engine,
            self._rules.ack_within,
            life.CLAIMED.event,
        )
        return [Claimed(operation_of(row), catalog_of(json.loads(row["catalog_row"]))) for row in rows]
