"""Which key an operation's table is fenced under, and the keys of the capacity that its lease counts against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from control_plane.domain.identifiers import CatalogName
from control_plane.domain.operation import Operation


def fence_key(operation: Operation) -> str:
    """The table's UUID, so that a table registered in two catalogs has one fence; its name where it has no UUID."""
    return operation.table_uuid or str(operation.table)


def catalog_capacity(catalog: CatalogName) -> str:
    return f"catalog:{catalog}"


def executor_capacity(engine: str, labels: Mapping[str, str]) -> Sequence[str]:
    """Keys that every lease of such an executor counts against."""
    return (f"engine:{engine}", *(f"label:{key}={value}" for key, value in sorted(labels.items())))
