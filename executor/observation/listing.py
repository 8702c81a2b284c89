"""Lists the tables of a catalog, at any depth of namespaces."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import ForbiddenError, NoSuchNamespaceError
from sqlalchemy import select

from executor.observation.model import TableName, TableNames


def list_tables(catalog: Catalog) -> TableNames:
    """Every table that we may see. Not complete if a namespace was refused to us or vanished while it was read."""
    names: set[TableName] = set()
    complete = True
    waiting: list[tuple[str, ...]] = [tuple(namespace) for namespace in catalog.list_namespaces()]
    seen = set(waiting)
    while waiting:
        namespace = waiting.pop()
        try:
            names.update(
                TableName(tuple(identifier[:-1]), identifier[-1]) for identifier in catalog.list_tables(namespace)
            )
        except (NoSuchNamespaceError, ForbiddenError):
            complete = False
            continue
        try:
            children = _children(catalog, namespace)
        except ForbiddenError:
            complete = False
            continue
        waiting.extend(child for child in children if child not in seen)
        seen.update(children)
    return TableNames(sorted(names), complete, _metadata_locations(catalog, names))


def _metadata_locations(catalog: Catalog, names: Collection[TableName]) -> Mapping[TableName, str]:
    """Where the metadata of these tables stands now, where one question tells it for all."""
    if not isinstance(catalog, SqlCatalog):
        return {}
    statement = select(IcebergTables.table_namespace, IcebergTables.table_name, IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == catalog.name
    )
    with catalog.engine.connect() as connection:
        found = {
            TableName(Catalog.identifier_to_tuple(namespace), name): location
            for namespace, name, location in connection.execute(statement)
            if location
        }
    return {name: found[name] for name in names if name in found}


def _children(catalog: Catalog, namespace: tuple[str, ...]) -> Sequence[tuple[str, ...]]:
    """The namespaces directly below. A server without nested namespaces says not found, or answers with its top
    level."""
    try:
        found = catalog.list_namespaces(namespace)
    except NoSuchNamespaceError:
        return []
    below = [tuple(child) for child in found]
    return [child for child in below if len(child) > len(namespace) and child[: len(namespace)] == namespace]
