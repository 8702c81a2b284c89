"""Operations in numbers."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from control_plane.domain.identifiers import OperationType
from control_plane.domain.operation import FailureClass, OperationState, VerificationVerdict
from control_plane.ports.operations import Figures, OperationFilter, OperationStats, Rates
from control_plane.store.feedback import BYTES
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_filters import Conditions, add_filter

_SAMPLE: Final = 100
_SECONDS: Final = "extract(epoch FROM finish_time - (document->>'start_time')::timestamptz)::float8"
# Once over everything and once for each type: `type` is null in the row over everything.
_STATS: Final = """
WITH chosen AS MATERIALIZED (
    SELECT type, type_order, state, document->'metrics' AS metrics,
           CASE WHEN state IN ('SUCCEEDED', 'FAILED') THEN {seconds} END AS seconds,
           CASE WHEN state = 'FAILED' THEN document->'failure'->>'kind' END AS failure,
           document->'verification'->>'verdict' AS verdict
    FROM (
        SELECT type, type_order, state, finish_time, document FROM operations WHERE {where}
        UNION ALL
        SELECT type, type_order, state, finish_time, document FROM operation_history WHERE {where}
    ) both_sides
), states AS (
    SELECT type, jsonb_object_agg(state, operations) AS states FROM (
        SELECT type, state, count(*) AS operations FROM chosen GROUP BY GROUPING SETS ((type, state), (state))
    ) counted GROUP BY type
), metrics AS (
    SELECT type, jsonb_object_agg(key, total) AS metrics FROM (
        SELECT type, key, sum(value::bigint) AS total FROM chosen, jsonb_each_text(metrics)
        GROUP BY GROUPING SETS ((type, key), (key))
    ) summed GROUP BY type
), failures AS (
    SELECT type, jsonb_object_agg(failure, operations) AS failures FROM (
        SELECT type, failure, count(*) AS operations FROM chosen WHERE failure IS NOT NULL
        GROUP BY GROUPING SETS ((type, failure), (failure))
    ) counted GROUP BY type
), verdicts AS (
    SELECT type, jsonb_object_agg(verdict, operations) AS verdicts FROM (
        SELECT type, verdict, count(*) AS operations FROM chosen WHERE verdict IS NOT NULL
        GROUP BY GROUPING SETS ((type, verdict), (verdict))
    ) counted GROUP BY type
), durations AS (
    SELECT type, min(type_order) AS type_order,
           percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) AS seconds
    FROM chosen GROUP BY GROUPING SETS ((type), ())
)
SELECT d.type, s.states, m.metrics, f.failures, v.verdicts, d.seconds
FROM durations d
LEFT JOIN states s ON s.type IS NOT DISTINCT FROM d.type
LEFT JOIN metrics m ON m.type IS NOT DISTINCT FROM d.type
LEFT JOIN failures f ON f.type IS NOT DISTINCT FROM d.type
LEFT JOIN verdicts v ON v.type IS NOT DISTINCT FROM d.type
ORDER BY d.type IS NULL, d.type_order
"""
_RATES: Final = """
SELECT count(*) AS operations,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds_per_operation,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / bytes) FILTER (WHERE bytes > 0) AS seconds_per_byte
FROM (
    SELECT {seconds} AS seconds, (document->'metrics'->>'{bytes}')::float8 AS bytes
    FROM operation_history
    WHERE state = 'SUCCEEDED' AND document->>'start_time' IS NOT NULL AND {where}
    ORDER BY create_time DESC, id DESC
    LIMIT $1
) last
"""


class OperationNumbers:
    """What operations came to and how long they took."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stats(self, where: OperationFilter, *, since: datetime) -> OperationStats:
        conditions = Conditions()
        conditions.add("create_time >= {}", since)
        add_filter(conditions, where, state="state", operation="id")
        statement = _STATS.format(where=conditions.sql, seconds=_SECONDS)
        rows = await self._database.fetch(statement, *conditions.values)
        figures = {row["type"]: _figures(row) for row in rows}
        overall = figures.pop(None)
        return OperationStats(overall, {OperationType(kind): figure for kind, figure in figures.items()})

    async def rates(self, *, table_key: str | None, type: OperationType, engine: str | None) -> Rates:
        conditions = Conditions(_SAMPLE)
        conditions.add("type = {}", type)
        if table_key is not None:
            conditions.add("fence_key = {}", table_key)
        if engine is not None:
            conditions.add("engine = {}", engine)
        statement = _RATES.format(where=conditions.sql, seconds=_SECONDS, bytes=BYTES)
        row = await self._database.fetchrow(statement, *conditions.values)
        assert row is not None, "an aggregate has one row"
        return Rates(row["operations"], row["seconds_per_operation"], row["seconds_per_byte"])


def _figures(row: asyncpg.Record) -> Figures:
    median, p95 = row["seconds"] or (None, None)
    return Figures(
        {OperationState(state): count for state, count in json.loads(row["states"] or "{}").items()},
        timedelta(seconds=median) if median is not None else None,
        timedelta(seconds=p95) if p95 is not None else None,
        {name: int(total) for name, total in json.loads(row["metrics"] or "{}").items()},
        {FailureClass(kind): count for kind, count in json.loads(row["failures"] or "{}").items()},
        {VerificationVerdict(verdict): count for verdict, count in json.loads(row["verdicts"] or "{}").items()},
    )
