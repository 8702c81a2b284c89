"""Opens catalogs and loads tables with pyiceberg, and turns every way that can fail into one of our errors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pydantic
import requests
import sqlalchemy.exc
from pyiceberg import exceptions as iceberg
from pyiceberg.catalog import Catalog as OpenCatalog
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table as OpenTable

from executor import assignment
from executor.catalogs.properties import pyiceberg_properties
from executor.catalogs.secrets import resolve
from executor.errors import ConfigurationError
from executor.observation.errors import Invalid, NotFound, ObservationError, Unavailable
from executor.observation.model import LoadedTable

_KEPT_CATALOGS = 8
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True, repr=False)
class PreparedCatalog:
    """A catalog that can be opened. It holds secrets: it has no printable form."""

    name: str
    properties: dict[str, object]
    hidden: list[str]

    @property
    def key(self) -> tuple[str, str]:
        """Differs when any value does: a rotated secret opens the catalog anew."""
        return self.name, repr(sorted((name, repr(value)) for name, value in self.properties.items()))


class CatalogAccess:
    """Opens catalogs by their records, and keeps the last few open: a REST client holds a session and its token."""

    def __init__(self, *, environ: Mapping[str, str], secrets: Path | None) -> None:
        self._environ = environ
        self._secrets = secrets
        self._open: OrderedDict[tuple[str, str], OpenCatalog] = OrderedDict()

    @contextmanager
    def open(self, record: assignment.Catalog) -> Iterator[OpenCatalog]:
        """The catalog, open. Whatever is raised inside comes out as an `ObservationError`, with the secrets taken
        out."""
        prepared = self.prepare(record)
        try:
            yield self.connect(prepared)
        except ObservationError:
            raise
        except Exception as failure:
            self.forget(prepared)
            raise translate(failure, f"catalog {record.name!r}", prepared.hidden) from None

    def prepare(self, record: assignment.Catalog) -> PreparedCatalog:
        """Find the secrets and the properties; nothing is asked yet. Raises `Invalid`."""
        try:
            resolved = resolve(record, environ=self._environ, directory=self._secrets)
            properties = pyiceberg_properties(record, resolved)
        except ConfigurationError as failure:
            raise Invalid(str(failure)) from None
        return PreparedCatalog(record.name, properties, [resolved[key] for key in record.secrets])

    def connect(self, prepared: PreparedCatalog) -> OpenCatalog:
        """The open catalog of these properties. Raises whatever pyiceberg raises."""
        key = prepared.key
        if key not in self._open:
            # The only property that is no string is `auth`, a dict, which pyiceberg documents but does not declare.
            self._open[key] = load_catalog(prepared.name, **cast(dict[str, str], prepared.properties))
            while len(self._open) > _KEPT_CATALOGS:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]

    def forget(self, prepared: PreparedCatalog) -> None:
        """Open this catalog anew the next time."""
        self._open.pop(prepared.key, None)

    @contextmanager
    def table(self, table: assignment.Table) -> Iterator[OpenTable]:
        """The table under that name now; whether it is the one that was meant is the caller's question."""
        with self.open(table.catalog) as catalog:
            yield catalog.load_table((*table.namespace, table.name))


def loaded(table: OpenTable) -> LoadedTable:
    metadata = table.metadata
    *namespace, name = table.name()
    return LoadedTable(
        namespace=tuple(namespace),
        name=name,
        uuid=str(metadata.table_uuid),
        location=metadata.location,
        metadata_location=table.metadata_location,
        format_version=metadata.format_version,
        current_snapshot_id=metadata.current_snapshot_id,
        properties=dict(metadata.properties),
        last_updated=instant(metadata.last_updated_ms),
    )


def instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def translate(failure: Exception, what: str, hidden: list[str]) -> ObservationError:
    """The error of ours for a failure of pyiceberg, its transport or its storage."""
    said = describe(failure, hidden)
    match failure:
        case iceberg.NoSuchTableError() | iceberg.NoSuchNamespaceError() | iceberg.NoSuchIdentifierError():
            return NotFound(f"{what} has no such table: {said}")
        case FileNotFoundError():
            return Invalid(f"{what}: a file that the table's metadata names is gone: {said}")
        case (
            iceberg.UnauthorizedError()
            | iceberg.ForbiddenError()
            | iceberg.OAuthError()
            | iceberg.AuthorizationExpiredError()
        ):
            return Unavailable(f"{what} refused our credentials: {said}")
        case iceberg.BadRequestError() | iceberg.ValidationError() | pydantic.ValidationError() | ValueError():
            # requests' JSONDecodeError is a ValueError too: something that is not a catalog answered.
            return Invalid(f"{what} gave an answer that cannot be used: {said}")
        case iceberg.RESTError() | requests.RequestException() | sqlalchemy.exc.SQLAlchemyError() | OSError():
            return Unavailable(f"{what} cannot be asked now: {said}")
        case _:
            return ObservationError(f"{what}: unexpected {type(failure).__name__}: {said}")


def describe(failure: Exception, hidden: list[str]) -> str:
    """The first line of what was said, cut short, with every secret value replaced."""
    text = str(failure)
    if isinstance(failure, sqlalchemy.exc.DBAPIError):
        # The driver's own words; SQLAlchemy adds the statement and its parameters.
        text = str(failure.orig)
    for value in hidden:
        if value:
            text = text.replace(value, "***")
    lines = text.strip().splitlines()
    line = lines[0].strip() if lines else type(failure).__name__
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"
