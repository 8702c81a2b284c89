"""Migrations go forward, once, and what was applied is never edited."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import asyncpg
import pytest

from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import OperationId
from control_plane.ports.operations import OperationFilter
from control_plane.store.codec import dumped
from control_plane.store.postgres.operation_rows import operation_json
from control_plane.store.postgres.schema import (
    COMPATIBLE_DOWN_TO,
    SCHEMA_VERSION,
    Migration,
    UnusableDatabase,
    migrate,
    migrations,
)
from control_plane.store.postgres.store import open_postgres_store
from tests.support import factories
from tests.support.factories import EVENTS
from tests.support.stores import RULES

EXTRA = Migration(SCHEMA_VERSION + 1, "9999_pre_extra.sql", "CREATE TABLE extra (id integer)")


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def fetchval(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def test_the_numbers_of_this_build_are_those_of_its_files() -> None:
    known = migrations()
    assert [migration.version for migration in known] == list(range(1, SCHEMA_VERSION + 1))
    assert 1 <= COMPATIBLE_DOWN_TO <= SCHEMA_VERSION


async def test_an_empty_database_is_migrated_once(empty_database: str) -> None:
    assert await migrate(empty_database) == [migration.name for migration in migrations()]
    assert await migrate(empty_database) == []
    async with open_postgres_store(empty_database, rules=RULES) as store:
        assert await store.schema_version() == SCHEMA_VERSION


async def test_concurrent_migrations_apply_each_file_once(empty_database: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database) for _ in range(4)))

    assert sorted(map(len, applied)) == [0, 0, 0, len(migrations())]


async def test_what_is_left_is_applied_to_what_is_there(database: str) -> None:
    assert await migrate(database, [*migrations(), EXTRA]) == [EXTRA.name]
    assert await fetchval(database, "SELECT count(*) FROM extra") == 0


async def test_a_migration_that_fails_leaves_nothing(database: str) -> None:
    broken = Migration(EXTRA.version, EXTRA.name, f"{EXTRA.sql}; SELECT nonsense")
    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrate(database, [*migrations(), broken])
    assert await migrate(database, [*migrations(), EXTRA]) == [EXTRA.name]


async def test_an_edited_migration_is_refused_by_name(database: str) -> None:
    first, *rest = migrations()
    edited = Migration(first.version, first.name, f"{first.sql}\n-- a thought")
    with pytest.raises(UnusableDatabase, match=f"{first.name}.*never"):
        await migrate(database, [edited, *rest])
    await execute(database, "UPDATE schema_migrations SET checksum = 'other' WHERE version = 1")
    with pytest.raises(UnusableDatabase, match=first.name):
        async with open_postgres_store(database, rules=RULES):
            pass


async def test_a_database_without_the_schema_names_the_command(empty_database: str) -> None:
    with pytest.raises(UnusableDatabase, match="floe-control-plane migrate"):
        async with open_postgres_store(empty_database, rules=RULES):
            pass


async def test_an_old_schema_names_the_command(database: str) -> None:
    await execute(database, f"DELETE FROM schema_migrations WHERE version = {SCHEMA_VERSION}")
    with pytest.raises(UnusableDatabase, match="floe-control-plane migrate"):
        async with open_postgres_store(database, rules=RULES):
            pass


async def test_a_newer_schema_is_used_as_long_as_it_serves_this_build(database: str) -> None:
    newer = f"INSERT INTO schema_migrations VALUES ({SCHEMA_VERSION + 1}, 'x', 'y', {SCHEMA_VERSION})"
    await execute(database, newer)
    async with open_postgres_store(database, rules=RULES) as store:
        assert await store.schema_version() == SCHEMA_VERSION + 1

    await execute(database, f"UPDATE schema_migrations SET compatible_down_to = {SCHEMA_VERSION + 1}")
    with pytest.raises(UnusableDatabase, match="upgrade this control plane"):
        async with open_postgres_store(database, rules=RULES):
            pass


async def test_a_database_has_one_identity(empty_database: str) -> None:
    await migrate(empty_database)
    assert await fetchval(empty_database, "SELECT store FROM store_identity") is not None
    with pytest.raises(asyncpg.UniqueViolationError):
        await execute(empty_database, "INSERT INTO store_identity DEFAULT VALUES")


async def test_what_was_kept_before_schedules_is_read_after_them(empty_database: str) -> None:
    first, *_ = migrations()
    await migrate(empty_database, [first])
    operation = factories.operation(policy_generation=7)
    row = {**json.loads(operation_json(operation)), "executor": None}
    del row["policy_generation"]
    row["document"]["policy_generation"] = 7
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute(
            "INSERT INTO catalogs VALUES ('lake', 1, 1, 0, now(), now(), NULL, '', $1)",
            json.dumps({"type": "REST", "uri": "http://127.0.0.1:8181"}),
        )
        columns = ", ".join(row)
        for table in ("operations", "operation_history"):
            await connection.execute(
                f"INSERT INTO {table} ({columns}) "
                f"SELECT {columns} FROM jsonb_populate_record(NULL::{table}, $1::jsonb)",
                json.dumps({**row, "id": row["id"] if table == "operations" else "older"}),
            )
        await connection.execute(
            "INSERT INTO events (time, event, to_state, operation_id, type, catalog, table_key, policy, trigger_id, "
            "run_id, operation) "
            "SELECT now(), 'queued', state, id, type, catalog, table_key, policy, trigger_id, run_id, "
            "to_jsonb(o) - 'token' FROM operations o"
        )
        await connection.execute(
            "INSERT INTO tables (catalog, namespace, name, uuid, table_key, location, metadata_location, "
            "format_version, state, first_seen_time, last_seen_time) "
            "VALUES ('lake', '{sales}', 'events', '', 'lake.sales.events', '', '', 2, 'PRESENT', now(), now())"
        )
        await connection.execute(
            "INSERT INTO health_reports (table_id, report) SELECT id, $1 FROM tables",
            dumped(factories.health_report("seen"), HealthReport),
        )
    finally:
        await connection.close()

    await migrate(empty_database)

    async with open_postgres_store(empty_database, rules=RULES) as store:
        assert await store.operations.get(operation.id) == operation
        assert (await store.operations.get(OperationId("older"))).policy_generation == 7
        start = await store.operations.cursor()
        told = await store.operations.events(replace(start, xid=0), OperationFilter(), limit=5)
        assert [event.operation.policy_generation for _, event in told.events] == [7]
        assert [report.error for report in (await store.tables.reports(EVENTS, after=None, limit=5)).reports] == [
            "seen"
        ]
        assert (await store.scheduling.counts())["unresolved"] == 1
