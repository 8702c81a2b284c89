"""Opens the catalogs of a catalog record in the driver's JVM, and the tables in them.

Iceberg's own catalog classes are used, not Spark's catalog plugins: Spark keeps a plugin for good under its name, shows
its settings (secrets among them) to every SQL statement, and a JDBC catalog's rows belong to the catalog's own name.
Iceberg's actions work on a loaded table and need no plugin.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from executor.actions.table_metadata import TableMetadata
from executor.assignment import Catalog, Table
from executor.catalogs.secrets import ResolvedProperties
from executor.engines.spark.jvm import JVM_ERRORS, JavaObject
from executor.engines.spark.session import Session
from executor.errors import ConfigurationError

Resolve = Callable[[Catalog], Mapping[str, str]]
"""The record's properties, its secrets in place of their names."""

_TYPES: Final = ("rest", "jdbc")

logger = structlog.get_logger(__name__)


class OpenTable:
    """A loaded table: Iceberg's object for the actions, and its metadata for our decisions."""

    def __init__(self, session: Session, java: JavaObject) -> None:
        self._session = session
        self.java = java
        self._read()

    def refresh(self) -> None:
        """Look at the catalog again."""
        self.java.refresh()
        self._read()

    def _read(self) -> None:
        current = self.java.operations().current()
        # One call for everything: a call per snapshot would cost a tenth of a millisecond each.
        self.metadata = TableMetadata.parse(self._session.java.org.apache.iceberg.TableMetadataParser.toJson(current))
        self.metadata_location: str = current.metadataFileLocation() or ""


@dataclass(frozen=True, slots=True)
class _OpenCatalog:
    record: Catalog
    properties: ResolvedProperties
    java: JavaObject


class Catalogs:
    """The catalogs that this driver has open, one a name. A changed record, or a changed secret, opens it anew."""

    def __init__(self, session: Session, resolve: Resolve) -> None:
        self._session = session
        self._resolve = resolve
        self._open: dict[str, _OpenCatalog] = {}
        self._lock = threading.Lock()

    def load(self, table: Table) -> OpenTable:
        """Load the table. Raises what the catalog raised, or `ConfigurationError`."""
        java = self._session.java
        identifier = java.org.apache.iceberg.catalog.TableIdentifier.of(
            self._session.strings([*table.namespace, table.name])
        )
        return OpenTable(self._session, self._catalog(table.catalog).loadTable(identifier))

    def close(self) -> None:
        with self._lock:
            for opened in self._open.values():
                _close(opened.java)
            self._open.clear()

    def _catalog(self, record: Catalog) -> JavaObject:
        properties = _properties(record, self._resolve(record))
        with self._lock:
            opened = self._open.get(record.name)
            if opened is not None and opened.record == record and opened.properties == properties:
                return opened.java
            # What another operation still has open is left to it: its tables keep their connections.
            catalog = self._build(record.name, properties)
            self._open[record.name] = _OpenCatalog(record=record, properties=properties, java=catalog)
        logger.info("catalog.opened", catalog=record.name, type=record.type, generation=record.generation)
        return catalog

    def _build(self, name: str, properties: Mapping[str, str]) -> JavaObject:
        java = self._session.java
        return java.org.apache.iceberg.CatalogUtil.buildIcebergCatalog(
            name, java.java.util.HashMap(dict(properties)), self._session.context._jsc.hadoopConfiguration()
        )


def _properties(record: Catalog, resolved: Mapping[str, str]) -> ResolvedProperties:
    if record.type not in _TYPES:
        raise ConfigurationError(
            f"catalog {record.name!r}: the Spark engine knows the types {', '.join(_TYPES)}, not {record.type!r}"
        )
    properties = ResolvedProperties({**resolved, "type": record.type, "uri": record.uri})
    if record.warehouse:
        properties["warehouse"] = record.warehouse
    if record.type == "jdbc":
        # A look at a catalog never creates its tables; nor is their schema migrated, unless the record says so.
        properties.setdefault("jdbc.init-catalog-tables", "false")
    else:
        # Floe's own reading is no use of the table that its owner wants reports of.
        properties.setdefault("rest-metrics-reporting-enabled", "false")
    return properties


def _close(catalog: JavaObject) -> None:
    with contextlib.suppress(*JVM_ERRORS):
        catalog.close()
