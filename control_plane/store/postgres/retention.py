"""Keeping the database small: partitions made ahead of time, and what is past retention dropped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from control_plane.ports.operations import Retention
from control_plane.store.feedback import CHARGES_KEPT
from control_plane.store.postgres.database import Database

logger: Final = structlog.get_logger(__name__)

_LOCK: Final = 0x464C4F46  # One cleaner at a time; the others have nothing to do.
_TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock($1)"
_NOW: Final = "SELECT clock_timestamp()"
_MONTHS_AHEAD: Final = 2
_OLD_EXECUTORS: Final = timedelta(days=7)
_PARTITION: Final = re.compile(r".*_(\d{4})_(\d{2})")

_PARTITIONS: Final = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = to_regclass($1)"
# A cursor below what is dropped may have missed some of it.
_RAISE_FLOOR: Final = """
UPDATE store_identity SET events_from =
    greatest(events_from, (SELECT (max(xid::text::bigint) + 1)::text::xid8 FROM {table} WHERE time < $1))
"""
_OLD_ROWS: Final = (
    "DELETE FROM attempts a WHERE start_time < $1 AND NOT EXISTS (SELECT FROM operations o WHERE o.id = a.operation)",
    "DELETE FROM results r WHERE create_time < $1 AND NOT EXISTS (SELECT FROM operations o WHERE o.id = r.operation)",
)
_OLD_OBSERVATIONS: Final = "DELETE FROM observations WHERE state = 'DONE' AND finish_time < $1"
_OLD_REQUESTS: Final = "DELETE FROM requests WHERE create_time < $1"
_OLD_DECISIONS: Final = "DELETE FROM decisions WHERE time < $1"
_OLD_CHARGES: Final = "DELETE FROM charges WHERE time < $1"
_OLD_REPORTS: Final = """
DELETE FROM health_reports r WHERE time < $1 AND EXISTS (
    SELECT FROM health_reports n WHERE n.table_id = r.table_id AND n.id > r.id)
"""
_GONE_OUTCOMES: Final = """
DELETE FROM outcomes o WHERE last_finish_time < $1 AND NOT EXISTS (
    SELECT FROM tables t WHERE t.fence_key = o.fence_key)
"""
_OLD_PAUSES: Final = "DELETE FROM pauses WHERE until < $1"
_GONE_EXECUTORS: Final = """
DELETE FROM executors e WHERE last_heartbeat_time < $1 AND NOT EXISTS (
    SELECT FROM operations o WHERE o.executor = e.id AND o.state IN ('LEASED', 'RUNNING', 'RECONCILING'))
"""


@dataclass(frozen=True, slots=True)
class _Partitioned:
    """A table in monthly partitions by `key`, whose rows are over at `ended`."""

    name: str
    key: str
    ended: str


_HISTORY: Final = _Partitioned("operation_history", "create_time", "finish_time")
_EVENTS: Final = _Partitioned("events", "time", "time")


async def clean(database: Database, retention: Retention) -> int:
    """Rows and partitions dropped. Any replica may do it at any time."""
    async with database.transaction():
        if not await database.fetchval(_TRY_LOCK, _LOCK):
            return 0
        now: datetime = await database.fetchval(_NOW)
        operations = now - timedelta(days=retention.operations)
        dropped = await _clean_partitions(database, _HISTORY, now, operations)
        dropped += await _clean_partitions(database, _EVENTS, now, now - timedelta(days=retention.events))
        for statement in _OLD_ROWS:
            dropped += await database.execute(statement, operations)
        dropped += await database.execute(_OLD_OBSERVATIONS, now - timedelta(days=retention.observations))
        dropped += await database.execute(_OLD_REQUESTS, now - timedelta(days=retention.requests))
        dropped += await database.execute(_OLD_DECISIONS, now - timedelta(days=retention.decisions))
        dropped += await database.execute(_OLD_CHARGES, now - CHARGES_KEPT)
        dropped += await database.execute(_OLD_REPORTS, now - timedelta(days=retention.reports))
        dropped += await database.execute(_GONE_OUTCOMES, operations)
        dropped += await database.execute(_OLD_PAUSES, now)
        dropped += await database.execute(_GONE_EXECUTORS, now - _OLD_EXECUTORS)
    return dropped


async def _clean_partitions(database: Database, table: _Partitioned, now: datetime, cutoff: datetime) -> int:
    names = {row["name"] for row in await database.fetch(_PARTITIONS, table.name)}
    await _make_ahead(database, table, names, now)
    dropped = 0
    for name in sorted(names):
        match = _PARTITION.fullmatch(name)
        if match is None or _month_after(datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)) > cutoff:
            continue
        # What began in the month may have ended after it.
        if await database.fetchval(f"SELECT EXISTS (SELECT FROM {name} WHERE {table.ended} >= $1)", cutoff):
            continue
        if table is _EVENTS:
            await database.execute(_RAISE_FLOOR.format(table=name), cutoff)
        await database.execute(f"DROP TABLE {name}")
        logger.info("partition.dropped", name=name)
        dropped += 1
    if table is _EVENTS:
        await database.execute(_RAISE_FLOOR.format(table="events_default"), cutoff)
    return dropped + await database.execute(f"DELETE FROM {table.name}_default WHERE {table.ended} < $1", cutoff)


async def _make_ahead(database: Database, table: _Partitioned, names: set[str], now: datetime) -> None:
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(_MONTHS_AHEAD):
        month = _month_after(month)
        name, end = f"{table.name}_{month:%Y_%m}", _month_after(month)
        # Rows that came early stay in the default partition, and so does their month: they could not be moved unseen.
        early = f"SELECT EXISTS (SELECT FROM {table.name}_default WHERE {table.key} >= $1 AND {table.key} < $2)"
        if name in names or await database.fetchval(early, month, end):
            continue
        await database.execute(
            f"CREATE TABLE {name} PARTITION OF {table.name} "
            f"FOR VALUES FROM ('{month.isoformat()}') TO ('{end.isoformat()}')"
        )
        logger.info("partition.created", name=name)


def _month_after(month: datetime) -> datetime:
    return (month + timedelta(days=31)).replace(day=1)
