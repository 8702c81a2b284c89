"""What follows from the end of an operation, as parts of the statement that ends it: `store.feedback` in SQL."""

from __future__ import annotations

from typing import Final

from control_plane.store.feedback import BYTES, LAST_COUNTS, POLICY_CHANGED

# `written` is the operation as it ended.
FEED_BACK: Final = f"""
, ended AS (
    SELECT w.*, state IN ('SUCCEEDED', 'FAILED') AS counts, state = 'FAILED' AS failed,
           (document->>'start_time')::timestamptz AS start_time
    FROM written w
), remembered AS (
    INSERT INTO outcomes AS k (
        fence_key, type, last_success_time, last_finish_time, last_metadata_location, consecutive_failures,
        last_failure_time, last_failure_class, last_failure_generation, consecutive_no_change, finished, failed,
        mean_bytes, mean_seconds)
    SELECT e.fence_key, e.type,
           CASE WHEN e.state = 'SUCCEEDED' THEN e.finish_time END,
           e.finish_time,
           CASE WHEN e.counts THEN coalesce(
               nullif(e.document->'plan'->>'base_metadata_location', ''),
               (SELECT t.metadata_location FROM tables t WHERE t.catalog = e.catalog AND t.fence_key = e.fence_key),
               '') ELSE '' END,
           e.failed::int,
           CASE WHEN e.failed THEN e.finish_time END,
           CASE WHEN e.failed THEN e.document->'failure'->>'kind' END,
           CASE WHEN e.failed THEN e.policy_generation ELSE 0 END,
           (e.state = 'SUCCEEDED' AND e.document->>'outcome' = 'NO_CHANGE')::int,
           e.counts::int,
           e.failed::int,
           CASE WHEN e.state = 'SUCCEEDED' THEN (e.document->'metrics'->>'{BYTES}')::float8 END,
           CASE WHEN e.state = 'SUCCEEDED' THEN extract(epoch FROM e.finish_time - e.start_time)::float8 END
    FROM ended e
    ON CONFLICT (fence_key, type) DO UPDATE SET
        last_success_time = coalesce(EXCLUDED.last_success_time, k.last_success_time),
        last_finish_time = EXCLUDED.last_finish_time,
        last_metadata_location =
            CASE WHEN EXCLUDED.finished > 0 THEN EXCLUDED.last_metadata_location ELSE k.last_metadata_location END,
        consecutive_failures = CASE WHEN EXCLUDED.finished > EXCLUDED.failed THEN 0
                                    ELSE k.consecutive_failures + EXCLUDED.failed END,
        last_failure_time = coalesce(EXCLUDED.last_failure_time, k.last_failure_time),
        last_failure_class =
            CASE WHEN EXCLUDED.failed > 0 THEN EXCLUDED.last_failure_class ELSE k.last_failure_class END,
        last_failure_generation =
            CASE WHEN EXCLUDED.failed > 0 THEN EXCLUDED.last_failure_generation ELSE k.last_failure_generation END,
        consecutive_no_change = CASE WHEN EXCLUDED.finished = EXCLUDED.failed THEN k.consecutive_no_change
                                     WHEN EXCLUDED.consecutive_no_change > 0 THEN k.consecutive_no_change + 1
                                     ELSE 0 END,
        finished = k.finished + EXCLUDED.finished,
        failed = k.failed + EXCLUDED.failed,
        mean_bytes = coalesce(k.mean_bytes + {LAST_COUNTS} * (EXCLUDED.mean_bytes - k.mean_bytes),
                              EXCLUDED.mean_bytes, k.mean_bytes),
        mean_seconds = coalesce(k.mean_seconds + {LAST_COUNTS} * (EXCLUDED.mean_seconds - k.mean_seconds),
                                EXCLUDED.mean_seconds, k.mean_seconds)
), again AS (
    SELECT t.catalog, t.fence_key, t.type, t.mode, e.slot
    FROM ended e
    JOIN targets t ON (t.catalog, t.fence_key, t.type, t.mode) = (e.catalog, e.fence_key, e.type, 'ACTIVE')
    WHERE e.state = 'SKIPPED' AND e.state_reason = '{POLICY_CHANGED}' AND e.slot IS NOT NULL
      AND e.start_time IS NULL AND t.policy = e.policy
), waiting AS (
    SELECT t.catalog, t.fence_key, t.type, t.mode, t.slot FROM ended e JOIN targets t ON t.awaiting = e.id
    WHERE (t.catalog, t.fence_key, t.type, t.mode) NOT IN (SELECT catalog, fence_key, type, mode FROM again)
), woken AS (
    UPDATE targets t SET due = clock_timestamp(), slot = w.slot
    FROM (SELECT * FROM again UNION ALL SELECT * FROM waiting) w
    WHERE (t.catalog, t.fence_key, t.type, t.mode) = (w.catalog, w.fence_key, w.type, w.mode)
), uncharged AS (
    DELETE FROM charges c USING ended e WHERE c.operation = e.id AND e.start_time IS NULL
), corrected AS (
    UPDATE charges c SET
        bytes = coalesce((e.document->'metrics'->>'{BYTES}')::bigint,
                         CASE WHEN e.document->>'effects' = 'NONE' THEN 0 ELSE c.bytes END),
        engine_seconds = extract(epoch FROM e.finish_time - e.start_time)
    FROM ended e WHERE c.operation = e.id AND e.start_time IS NOT NULL
)
"""
