"""A registered Iceberg catalog, and the tables that are known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import CatalogName, OperationId, TableName, TableUuid


class CatalogType(StrEnum):
    REST = "REST"
    JDBC = "JDBC"


@dataclass(frozen=True, slots=True)
class Catalog:
    """A registered catalog. It names secrets and holds none; `generation` rises when URI or warehouse change."""

    name: CatalogName
    type: CatalogType
    uri: str
    create_time: datetime
    update_time: datetime
    warehouse: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    max_concurrent_operations: int = 0
    generation: int = 1
    revision: int = 1
    """Rises with every change; the etag."""
    last_list_time: datetime | None = None
    last_list_error: str = ""
    list_begin_time: datetime | None = None
    """When the last complete listing began; a table that was seen later need not be in it."""
    earlier_list_begin_time: datetime | None = None
    """When the complete one before it began."""
    move_time: datetime | None = None
    """When its URI or warehouse changed last."""

    @property
    def is_moving(self) -> bool:
        """Whether its URI or warehouse changed and no complete listing has begun since."""
        return self.generation > 1 and self.list_begin_time is None

    def has_lost(self, table: Table) -> bool:
        """Whether nobody knows yet if the table is where the catalog is now: nothing is scheduled on it."""
        return self.is_moving and (self.move_time is None or table.last_seen_time <= self.move_time)


class TableState(StrEnum):
    PRESENT = "PRESENT"
    MISSING = "MISSING"
    REPLACED = "REPLACED"


@dataclass(frozen=True, slots=True)
class Table:
    """One Iceberg table as last seen: its identity is (catalog, UUID), its name an attribute.

    A table that a listing named and nobody loaded yet has no UUID; it is known by its name alone.
    """

    name: TableName
    uuid: TableUuid
    location: str
    first_seen_time: datetime
    last_seen_time: datetime
    metadata_location: str = ""
    format_version: int = 0
    state: TableState = TableState.PRESENT
    maintenance_enabled: bool = True
    """False: its property `floe.enabled` is false, and nothing starts on it."""
    health: HealthReport | None = None
    active_operation: OperationId | None = None
