"""The schema's version, its forward-only migrations, and what a database must be like to be used."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from control_plane.store.postgres.database import open_connection, translated

if TYPE_CHECKING:
    from control_plane.store.postgres.database import Connection, PooledConnection

logger: Final = structlog.get_logger(__name__)

# What this code needs, and the oldest code that the schema of its newest migration still serves.
SCHEMA_VERSION: Final = 6
COMPATIBLE_DOWN_TO: Final = 2

MIN_SERVER_VERSION: Final = 14
_LOCK: Final = 0x464C4F45  # "FLOE": one migration at a time, whoever runs it.
_LOCK_TIMEOUT: Final = "30s"
_TIMEOUT: Final = timedelta(minutes=10)
_FILE_NAME: Final = re.compile(r"(\d{4})_(?:pre|post)_[a-z0-9_]+\.sql")

_CREATE_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    compatible_down_to integer NOT NULL,
    time timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_LEDGER_EXISTS: Final = "SELECT to_regclass('schema_migrations') IS NOT NULL"
_LEDGER: Final = "SELECT version, name, checksum, compatible_down_to FROM schema_migrations ORDER BY version"
_RECORD: Final = "INSERT INTO schema_migrations (version, name, checksum, compatible_down_to) VALUES ($1, $2, $3, $4)"


class UnusableDatabase(Exception):
    """The database answers, but must not be used as it is. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered SQL file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> Sequence[Migration]:
    """The migrations that this build knows, in order."""
    found = []
    for file in resources.files("control_plane.store.postgres.migrations").iterdir():
        if match := _FILE_NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), file.name, file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


async def migrate(dsn: str, known: Sequence[Migration] | None = None) -> Sequence[str]:
    """Bring the database to this build's schema; the names of the migrations that were applied now, in order.

    Any number of callers may do it at once: the second waits, and finds nothing left. All of it or nothing is applied.
    """
    known = migrations() if known is None else known
    with translated():
        connection = await open_connection(dsn, deadline=_TIMEOUT)
        try:
            await check_server(connection)
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                await connection.execute(_CREATE_LEDGER)
                return await _apply(connection, known)
        finally:
            await connection.close()


async def check_server(connection: Connection | PooledConnection) -> None:
    """Raises UnusableDatabase for a server that is too old, or that forgets what it confirmed."""
    if connection.get_server_version().major < MIN_SERVER_VERSION:
        raise UnusableDatabase(
            f"the database runs PostgreSQL {connection.get_server_version().major}; "
            f"Floe needs {MIN_SERVER_VERSION} or newer"
        )
    if await connection.fetchval("SHOW fsync") != "on":
        raise UnusableDatabase(
            "the database runs with fsync=off and would lose confirmed work in a crash; turn fsync on and restart it"
        )


async def check_schema(connection: Connection | PooledConnection) -> int:
    """The version of the schema. Raises UnusableDatabase if this build cannot work with it."""
    if not await connection.fetchval(_LEDGER_EXISTS):
        raise UnusableDatabase("the database has no Floe schema; run `floe-control-plane migrate`")
    ledger = await connection.fetch(_LEDGER)
    _check_unedited(ledger, migrations())
    version = max((row["version"] for row in ledger), default=0)
    if version < SCHEMA_VERSION:
        raise UnusableDatabase(
            f"the database's schema is at version {version}, this build needs {SCHEMA_VERSION}; "
            "run `floe-control-plane migrate`"
        )
    oldest = max(row["compatible_down_to"] for row in ledger)
    if oldest > SCHEMA_VERSION:
        raise UnusableDatabase(
            f"the database's schema at version {version} serves builds from schema {oldest} on, this one is at "
            f"{SCHEMA_VERSION}; upgrade this control plane"
        )
    return int(version)


async def _apply(connection: Connection, known: Sequence[Migration]) -> Sequence[str]:
    ledger = await connection.fetch(_LEDGER)
    _check_unedited(ledger, known)
    done = {row["version"] for row in ledger}
    applied = []
    for migration in known:
        if migration.version in done:
            continue
        try:
            await connection.execute(migration.sql)
        except asyncpg.LockNotAvailableError as error:
            raise UnusableDatabase(
                f"{migration.name} waited too long for a lock that another session holds; try again when it is quiet"
            ) from error
        await connection.execute(_RECORD, migration.version, migration.name, migration.checksum, COMPATIBLE_DOWN_TO)
        logger.info("migration.applied", name=migration.name)
        applied.append(migration.name)
    return applied


def _check_unedited(ledger: Sequence[asyncpg.Record], known: Sequence[Migration]) -> None:
    by_version = {migration.version: migration for migration in known}
    for row in ledger:
        migration = by_version.get(row["version"])
        if migration is not None and (migration.name, migration.checksum) != (row["name"], row["checksum"]):
            raise UnusableDatabase(
                f"{migration.name} is not what was applied to this database as {row['name']}: a migration is never "
                "edited once released; restore the file, and put the change into a new one"
            )
