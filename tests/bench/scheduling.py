"""The scheduler beside the least that deciding and storing costs, and its passes when nothing is due."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles
from typing import Any

import asyncpg
from cronsim import CronSim

from control_plane.app import spare_the_collector
from control_plane.clock import SystemClock
from control_plane.domain.discovery_rules import DiscoveryRules
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import ReplicaId
from control_plane.domain.rules import Rules
from control_plane.domain.scheduling import LEADER_TTL, Term
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.services.discovery import DiscoveryService
from control_plane.services.governing import GoverningPolicies
from control_plane.services.resolving import ResolvingService
from control_plane.services.scheduling import Scheduler
from control_plane.services.sightings import Sightings
from control_plane.store.postgres.schema import migrate
from control_plane.store.postgres.store import PostgresStore, open_postgres_store
from tests.bench import report
from tests.bench.planes import server
from tests.support import factories
from tests.support.postgres import PostgresServer

TARGETS = 100_000
CRON = "0 3 * * *"
_WRITTEN = ("operations", "events", "decisions")
IDLE_SIZES = (1_000, 10_000, 100_000)
IDLE_PASSES = 200
TICK = 0.05

_TABLES = """
INSERT INTO tables (catalog, namespace, name, uuid, table_key, location, metadata_location, format_version, state,
                    first_seen_time, last_seen_time, unresolved)
SELECT 'lake', ARRAY['ns' || n / 1000], 't' || n, gen_random_uuid()::text, 'lake.ns' || n / 1000 || '.t' || n,
       's3://bucket/lake/t' || n, 's3://bucket/lake/t' || n || '/metadata/v1.json', 2, 'PRESENT', now(), now(), true
FROM generate_series(1, $1::int) AS n
"""
_NOT_DUE = "UPDATE targets SET slot = clock_timestamp() + interval '1 day', due = clock_timestamp() + interval '1 day'"
_DUE = "UPDATE targets SET slot = $1::timestamptz, due = $1::timestamptz, since = $1::timestamptz - interval '1 day'"
_READ = """
SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables
"""


@dataclass
class Leader:
    """A leader of the bench's own process, stepped by it."""

    store: PostgresStore
    scheduler: Scheduler
    term: Term
    dsn: str

    async def drain(self) -> None:
        while not await self.scheduler.step(self.term):
            await self.keep()

    async def keep(self) -> None:
        """The term is for the length of the bench."""

    async def sql(self, statement: str, *values: object) -> object:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetchval(statement, *values, timeout=300)
        finally:
            await connection.close()


@asynccontextmanager
async def leader(postgres: PostgresServer, targets: int) -> AsyncIterator[Leader]:
    """A leader with so many tables, all of them resolved under one policy."""
    async with postgres.database() as dsn:
        await migrate(dsn)
        async with open_postgres_store(dsn, rules=Rules()) as store:
            await store.catalogs.create(factories.catalog())
            schedule: dict[str, Any] = {"rewriteDataFilesSchedule": {"cronExpression": CRON}}
            await store.policies.create(factories.policy(**schedule))
            clock = SystemClock()
            governing = GoverningPolicies(store, clock)
            discovery = DiscoveryService(
                store,
                clock,
                Sightings(store, governing),
                governing,
                rules=DiscoveryRules(),
                scheduling=SchedulingRules(),
            )
            scheduler = Scheduler(
                store,
                clock,
                governing,
                ResolvingService(store, governing, rules=SchedulingRules()),
                discovery,
                rules=SchedulingRules(),
                floors=Floors(),
            )
            term = await store.leadership.acquire(ReplicaId("bench"), ttl=LEADER_TTL * 1_000)
            assert term is not None
            made = Leader(store, scheduler, term, dsn)
            await made.sql(_TABLES, targets)
            begun = time.perf_counter()
            await made.drain()
            report.note(f"{targets:,} tables resolved in {time.perf_counter() - begun:.1f} s")
            await made.sql(_NOT_DUE)
            await made.sql("VACUUM ANALYZE")
            spare_the_collector()
            yield made


async def tick_idle() -> bool:
    """Statements, rows read and time of a pass with nothing due, at 1,000, 10,000 and 100,000 targets."""
    statements, rows, times = [], [], []
    async with server() as (postgres, _):
        for size in IDLE_SIZES:
            async with leader(postgres, size) as led:
                await led.scheduler.step(led.term)
                database = led.store.database
                before, read = database.statements, await _rows(led)
                passes = []
                for _ in range(IDLE_PASSES):
                    begun = time.perf_counter()
                    await led.scheduler.step(led.term)
                    passes.append(time.perf_counter() - begun)
                statements.append((database.statements - before) / IDLE_PASSES)
                rows.append((await _rows(led) - read) / IDLE_PASSES)
                times.append(median(passes))
                report.note(
                    f"{size:,} targets: {statements[-1]:g} statements, {rows[-1]:.1f} rows read, {report.shown(passes)}"
                )
    met = [
        report.at_most("tick_idle_statements", max(statements) / min(statements), 1),
        report.at_most("tick_idle_rows", max(rows) / max(min(rows), 1), 1.05),
        report.at_most("tick_idle_time", times[-1] / times[0], 1.5),
    ]
    return all(met)


async def _rows(led: Leader) -> int:
    """Rows that were read, as the database counts them. A session reports when it is told to, else when it likes."""
    for _ in range(3):
        await led.store.database.fetchval("SELECT pg_stat_force_next_flush()")
    await led.store.database.fetchval("SELECT 1")
    return int(str(await led.sql(_READ)))


async def slots_due() -> bool:
    """100,000 slots due at one instant, decided and enqueued, beside cron alone and one insert of as many rows."""
    async with server() as (postgres, _), leader(postgres, TARGETS) as led:
        slot = await _make_due(led)
        memory = _memory()
        begun = time.perf_counter()
        await led.drain()
        ours = time.perf_counter() - begun
        grown = _memory() - memory
        fired = await led.sql("SELECT count(*) FROM operations WHERE slot = $1", slot)
        assert fired == TARGETS, f"{fired} of {TARGETS} fired"
        cron = _bare_cron()
        insert = await _bare_insert(led.dsn)
    report.note(f"ours {ours:.1f} s; cron alone {cron:.1f} s, one insert {insert:.1f} s; +{grown / 1024:.0f} MiB")
    return report.at_most("slots_due", ours / (cron + insert), 3)


async def _make_due(led: Leader) -> datetime:
    """Let the last slot of every target be due."""
    now = datetime.now(UTC)
    slot = now.replace(hour=3, minute=0, second=0, microsecond=0)
    slot = slot if slot < now else slot - timedelta(days=1)
    await led.sql(_DUE, slot)
    await led.sql("VACUUM ANALYZE targets")
    return slot


def _bare_cron() -> float:
    """How long it takes to ask for so many next slots, and nothing else."""
    now = datetime.now(UTC)
    begun = time.perf_counter()
    for _ in range(TARGETS):
        next(CronSim(CRON, now))
    return time.perf_counter() - begun


async def _bare_insert(dsn: str) -> float:
    """How long it takes to copy the same rows into tables of the same columns and indexes, all at once."""
    connection = await asyncpg.connect(dsn)
    rows: dict[str, list[asyncpg.Record]] = {}
    for table in _WRITTEN:
        await connection.execute(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)")
        rows[table] = await connection.fetch(f"SELECT * FROM {table}", timeout=300)
    begun = time.perf_counter()
    async with connection.transaction():
        for table in _WRITTEN:
            columns, records = list(rows[table][0].keys()), map(tuple, rows[table])
            await connection.copy_records_to_table(f"bare_{table}", records=records, columns=columns, timeout=300)
    took = time.perf_counter() - begun
    await connection.close()
    return took


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def loop_gap() -> bool:
    """How late others get their turn in a control plane that decides 100,000 slots, beside one that does nothing."""
    async with server() as (postgres, _), leader(postgres, TARGETS) as led:
        idle = await _gaps(lambda: asyncio.sleep(20))
        await _make_due(led)
        busy = await _gaps(led.drain)
    report.note(f"p99 of a {TICK * 1e3:g} ms ticker: idle {idle * 1e3:.1f} ms, deciding {busy * 1e3:.1f} ms")
    return report.at_most("loop_gap", busy / idle, 1.3)


async def _gaps(work: Callable[[], Awaitable[object]]) -> float:
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    ticking = asyncio.ensure_future(tick())
    await work()
    ticking.cancel()
    return quantiles(gaps, n=100)[98]
