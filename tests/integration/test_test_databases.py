"""Each test gets a database of its own, copied from a template that was migrated once."""

from __future__ import annotations

import asyncpg

from tests.support.postgres import PostgresServer


async def test_a_database_starts_as_the_template_was_migrated_and_changes_alone(
    postgres_server: PostgresServer,
) -> None:
    migrated = 0

    async def migrate(dsn: str) -> None:
        nonlocal migrated
        migrated += 1
        await _execute(dsn, "CREATE TABLE made (n int)")

    async with postgres_server.database(migrate) as first, postgres_server.database(migrate) as second:
        await _execute(first, "INSERT INTO made VALUES (1)")
        rows = [await _count(first), await _count(second)]

    assert rows == [1, 0]
    assert migrated == 1


async def test_an_empty_database_is_empty(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()

    assert tables == 0


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _count(dsn: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT count(*) FROM made")
    finally:
        await connection.close()
