"""Reading events: complete, however late a transaction commits, and in order for each operation."""

from __future__ import annotations

import json
from typing import Final

from control_plane.domain.errors import CursorExpired
from control_plane.domain.operation import OperationState
from control_plane.ports.operations import Cursor, Events, OperationEvent, OperationFilter
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_filters import Conditions, add_filter
from control_plane.store.postgres.operation_rows import operation_of

_CURSOR: Final = """
SELECT store::text, pg_snapshot_xmin(pg_current_snapshot())::text AS xmin FROM store_identity
"""
# What may be read now: below the oldest transaction that still runs, since that one may add events there when it
# commits. A cursor beyond every transaction so far was given by this database before it was set back.
_HORIZON: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin,
       $1::text = store::text AND $2::text::xid8 >= events_from
       AND $2::text::xid8 <= pg_snapshot_xmax(pg_current_snapshot()) AS valid
FROM store_identity
"""
_EVENTS: Final = """
SELECT sequence, xid::text, time, event, from_state, to_state, operation::text FROM events
WHERE (xid, sequence) > ($1::text::xid8, $2) AND xid < $3::text::xid8 AND {where}
-- The column, not the text of it that is selected under the same name.
ORDER BY events.xid, events.sequence
LIMIT $4
"""


class OperationEvents:
    """The append-only table of events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def cursor(self) -> Cursor:
        row = await self._database.fetchrow(_CURSOR)
        assert row is not None, "the first migration inserts the row"
        return Cursor(row["store"], int(row["xmin"]), 0)

    async def events(self, after: Cursor, where: OperationFilter, *, limit: int) -> Events:
        # The horizon is taken first: whatever commits in between is above it, or was visible to both statements.
        horizon = await self._database.fetchrow(_HORIZON, after.store, str(after.xid))
        if horizon is None or not horizon["valid"]:
            raise CursorExpired
        conditions = Conditions(str(after.xid), after.sequence, horizon["xmin"], limit)
        add_filter(conditions, where, state="to_state", operation="operation_id")
        rows = await self._database.fetch(_EVENTS.format(where=conditions.sql), *conditions.values)
        events = [
            (
                Cursor(after.store, int(row["xid"]), row["sequence"]),
                OperationEvent(
                    row["sequence"],
                    row["event"],
                    row["time"],
                    OperationState(row["from_state"]) if row["from_state"] is not None else None,
                    OperationState(row["to_state"]),
                    operation_of(json.loads(row["operation"])),
                ),
            )
            for row in rows
        ]
        if len(events) == limit:
            return Events(events, events[-1][0])
        settled = Cursor(after.store, int(horizon["xmin"]), 0)
        return Events(events, max(after, settled, key=lambda cursor: (cursor.xid, cursor.sequence)))
