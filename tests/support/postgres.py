"""A real PostgreSQL for the tests: one server for the whole run, started when first asked for, a database per test.

Set FLOE_TEST_POSTGRES to the DSN of a superuser to use a server that runs already; else the embedded one is started.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest_asyncio

from control_plane.store.postgres.embedded import embedded_postgres, erase_embedded_postgres

Migrate = Callable[[str], Awaitable[object]]


class PostgresServer:
    """The server of this test run. Databases are copies of a template, which is much faster than migrating each."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._templates: dict[Migrate, str] = {}
        self._created = 0

    @asynccontextmanager
    async def database(self, migrate: Migrate | None = None) -> AsyncIterator[str]:
        """A database of its own, gone afterwards; yields its DSN. `migrate` runs once per server, on the template."""
        template = "template0" if migrate is None else await self._template(migrate)
        name = self._name("test")
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self._of(name)
        finally:
            await self._drop(name)

    async def drop_templates(self) -> None:
        while self._templates:
            await self._drop(self._templates.popitem()[1])

    async def _template(self, migrate: Migrate) -> str:
        if migrate not in self._templates:
            name = self._name("template")
            await self._execute(f"CREATE DATABASE {name}")
            try:
                await migrate(self._of(name))
            except BaseException:
                await self._drop(name)
                raise
            self._templates[migrate] = name
        return self._templates[migrate]

    def _name(self, kind: str) -> str:
        # The pid keeps test runs apart that share one server.
        self._created += 1
        return f"floe_{kind}_{os.getpid()}_{self._created}"

    def _of(self, database: str) -> str:
        return urlunsplit(urlsplit(self._dsn)._replace(path=f"/{database}"))

    async def _drop(self, name: str) -> None:
        await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server() -> AsyncIterator[PostgresServer]:
    """The server of this test run."""
    if existing := os.environ.get("FLOE_TEST_POSTGRES"):
        server = PostgresServer(existing)
        yield server
        await server.drop_templates()
        return
    with tempfile.TemporaryDirectory(prefix="floe-test-") as folder:
        # Root runs the server as another user, who must be able to pass.
        os.chmod(folder, 0o711)
        directory = Path(folder) / "pg"
        async with embedded_postgres(directory) as dsn:
            yield PostgresServer(dsn)
        erase_embedded_postgres(directory)


@pytest_asyncio.fixture
async def empty_database(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The DSN of an empty database of this test's own."""
    async with postgres_server.database() as dsn:
        yield dsn
