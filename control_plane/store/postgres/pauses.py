"""Stop switches on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg

from control_plane.domain.pause import Pause
from control_plane.store.codec import dumped, loaded
from control_plane.store.postgres.database import Database

_SET: Final = """
INSERT INTO pauses (scope, catalog, table_key, until, document) VALUES ($1, $2, $3, $4, $5::jsonb)
ON CONFLICT (scope) DO UPDATE SET until = EXCLUDED.until, document = EXCLUDED.document
"""
_CLEAR: Final = "DELETE FROM pauses WHERE scope = $1 AND (until IS NULL OR until > clock_timestamp())"
IN_FORCE: Final = """
SELECT until, document FROM pauses WHERE until IS NULL OR until > clock_timestamp() ORDER BY scope
"""
_BESIDE: Final = frozenset({"until"})


class PostgresPauses:
    """The whole of `ports.records.PauseStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, pause: Pause) -> Pause:
        table = str(pause.table) if pause.table is not None else None
        document = dumped(pause, Pause, leave_out=_BESIDE)
        await self._database.execute(_SET, pause.scope, pause.catalog, table, pause.until, document)
        return pause

    async def clear(self, scope: str) -> bool:
        return await self._database.execute(_CLEAR, scope) > 0

    async def list(self) -> Sequence[Pause]:
        return [pause_of(row) for row in await self._database.fetch(IN_FORCE)]


def pause_of(row: Mapping[str, Any] | asyncpg.Record) -> Pause:
    return loaded(row["document"], Pause, until=row["until"])
