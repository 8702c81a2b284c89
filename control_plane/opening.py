"""How the store that the settings name is opened, and brought to this version's schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import assert_never

from control_plane.config import StoreConfig, StoreType
from control_plane.domain.rules import Rules
from control_plane.ports.records import Clock, Store


@asynccontextmanager
async def open_store(config: StoreConfig, clock: Clock, *, rules: Rules) -> AsyncIterator[Store]:
    """The store, for as long as the context is open. Our own PostgreSQL is migrated first, another's only checked."""
    # Each branch imports what it needs: who uses a database of their own has no embedded one installed.
    match config.type:
        case StoreType.MEMORY:
            from control_plane.store.memory import MemoryStore

            yield MemoryStore(clock, rules=rules)
        case StoreType.EMBEDDED:
            from control_plane.store.postgres.embedded import embedded_postgres
            from control_plane.store.postgres.schema import migrate

            async with embedded_postgres(config.directory) as dsn:
                await migrate(dsn)
                async with _postgres(dsn, config, rules) as store:
                    yield store
        case StoreType.POSTGRES:
            async with _postgres(_dsn(config), config, rules) as store:
                yield store
        case other:
            assert_never(other)


async def migrate_store(config: StoreConfig) -> Sequence[str]:
    """The names of the migrations that were applied now. The memory store needs none."""
    from control_plane.store.postgres.schema import migrate

    match config.type:
        case StoreType.MEMORY:
            return ()
        case StoreType.EMBEDDED:
            from control_plane.store.postgres.embedded import embedded_postgres

            async with embedded_postgres(config.directory) as dsn:
                return await migrate(dsn)
        case StoreType.POSTGRES:
            return await migrate(_dsn(config))
        case other:
            assert_never(other)


@asynccontextmanager
async def _postgres(dsn: str, config: StoreConfig, rules: Rules) -> AsyncIterator[Store]:
    from control_plane.store.postgres.database import Connecting
    from control_plane.store.postgres.store import open_postgres_store

    connecting = Connecting(pool_size=config.max_connections, connect_within=config.connect_within)
    async with open_postgres_store(dsn, rules=rules, connecting=connecting) as store:
        yield store


def _dsn(config: StoreConfig) -> str:
    if config.dsn is None:
        raise ValueError("a store of the type postgres has a dsn")
    return config.dsn.get_secret_value()
