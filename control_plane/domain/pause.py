"""Stop switches: nothing new starts in a paused scope; what runs goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.identifiers import CatalogName, TableName


@dataclass(frozen=True, slots=True)
class Pause:
    """One stop switch. Neither catalog nor table: the whole deployment. Ends by itself at `until`, if that is set."""

    reason: str
    paused_by: str
    pause_time: datetime
    catalog: CatalogName | None = None
    table: TableName | None = None
    until: datetime | None = None

    @property
    def scope(self) -> str:
        """The key of its scope, one pause per scope."""
        if self.table is not None:
            return f"table {self.table}"
        return f"catalog {self.catalog}" if self.catalog is not None else "deployment"

    def holds(self, table: TableName, now: datetime) -> bool:
        """Whether operations of `table` may not start at `now`."""
        if self.until is not None and self.until <= now:
            return False
        if self.table is not None:
            return self.table == table
        return self.catalog is None or self.catalog == table.catalog
