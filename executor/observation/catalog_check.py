"""Tries a catalog step by step and says what worked, what did not, and what to do about it. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence

import pydantic
import requests
import sqlalchemy.exc
from pyiceberg import exceptions as iceberg
from pyiceberg.catalog import Catalog as OpenCatalog
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import text

from executor import assignment
from executor.observation.access import CatalogAccess, PreparedCatalog, describe
from executor.observation.errors import Invalid
from executor.observation.listing import list_tables
from executor.observation.model import CatalogChecks, Check, TableName

# One table that loads proves that metadata can be read; a few may be damaged or refused without the catalog being so.
_LOADED_AT_MOST = 3

_GRANT_HINT = (
    "grant the principal a role that may list and read tables (Polaris: a catalog role with CATALOG_MANAGE_CONTENT)"
)

_PATH_HINT = "correct the uri's path (Polaris /api/catalog, Nessie /iceberg, Lakekeeper /catalog, Gravitino /iceberg)"


def check_catalog(record: assignment.Catalog, access: CatalogAccess) -> CatalogChecks:
    """The steps in order, up to the first that failed."""
    try:
        prepared = access.prepare(record)
    except Invalid as failure:
        return CatalogChecks((Check("configured", False, str(failure), "correct the record or provide the secret"),))
    checks = [Check("configured", True, "properties and secrets are complete")]
    try:
        catalog = access.connect(prepared)
        if isinstance(catalog, SqlCatalog):
            with catalog.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
    except Exception as failure:
        access.forget(prepared)
        return CatalogChecks((*checks, *_refused(record, failure, prepared)))
    checks.append(Check("reachable", True, f"{record.uri} answers"))
    try:
        names = list_tables(catalog)
    except Exception as failure:
        return CatalogChecks((*checks, *_not_listable(record, failure, prepared)))
    checks.append(Check("authenticated", True, "the catalog accepts our credentials"))
    complete = "" if names.complete else "; some namespaces were refused to us"
    checks.append(
        Check("listable", names.complete, f"{len(names.names)} tables{complete}", "" if names.complete else _GRANT_HINT)
    )
    if names.names:
        checks.append(_loadable(catalog, names.names, prepared))
    if str(catalog.properties.get("s3.delete-enabled", "")).lower() == "false":
        checks.append(
            Check(
                "deletable",
                False,
                "the catalog tells its clients not to delete files (s3.delete-enabled=false)",
                "expired files would silently stay: set the property s3.delete-enabled=true on the record",
            )
        )
    return CatalogChecks(tuple(checks))


def _loadable(catalog: OpenCatalog, names: Sequence[TableName], prepared: PreparedCatalog) -> Check:
    said = ""
    for name in names[:_LOADED_AT_MOST]:
        try:
            table = catalog.load_table((*name.namespace, name.name))
            snapshot = table.current_snapshot()
            if snapshot is not None:
                # One small read: the storage is reachable with what the catalog gave us.
                snapshot.manifests(table.io)
        except Exception as failure:
            said = said or f"{'.'.join((*name.namespace, name.name))}: {describe(failure, prepared.hidden)}"
        else:
            return Check("loadable", True, f"{'.'.join((*name.namespace, name.name))} was loaded")
    return Check(
        "loadable", False, said, "check the storage's properties and credentials (s3.*), and the grants to read"
    )


def _refused(record: assignment.Catalog, failure: Exception, prepared: PreparedCatalog) -> Sequence[Check]:
    """The catalog could not be opened: was it not there, not what it should be, or did it refuse us?"""
    said = describe(failure, prepared.hidden)
    reached = Check("reachable", True, f"{record.uri} answers")
    match failure:
        case iceberg.UnauthorizedError():
            return reached, Check("authenticated", False, said, _unauthorized_hint(record, said))
        case iceberg.AuthorizationExpiredError():
            return reached, Check(
                "authenticated", False, said, "the token has expired: renew the secret, or use `credential`"
            )
        case iceberg.OAuthError():
            return reached, Check("authenticated", False, said, _oauth_hint(said))
        case iceberg.ForbiddenError():
            return reached, Check("authenticated", False, said, _GRANT_HINT)
        case iceberg.BadRequestError() if "invalid_scope" in said or "scope" in said.lower():
            return reached, Check("authenticated", False, said, _oauth_hint("invalid_scope"))
        case iceberg.BadRequestError() | iceberg.RESTError() if "warehouse" in said.lower():
            return reached, Check(
                "configured", False, said, "set the record's warehouse to a name that this server knows"
            )
        case sqlalchemy.exc.OperationalError() if "authentication failed" in said or "no password supplied" in said:
            return reached, Check("authenticated", False, said, "correct jdbc.user and the secret jdbc.password")
        case sqlalchemy.exc.OperationalError() if "does not exist" in said:
            return reached, Check("authenticated", False, said, "correct the user or the database in the record's uri")
        case iceberg.RESTError() if " 404" in said:
            return (Check("reachable", False, said, _PATH_HINT),)
        case iceberg.ServerError() | iceberg.ServiceUnavailableError() | iceberg.TooManyRequestsError():
            return (
                Check("reachable", False, said, "the server is there but cannot answer now: try again, or see its log"),
            )
        case requests.exceptions.JSONDecodeError() | pydantic.ValidationError():
            return (Check("reachable", False, "something that is no Iceberg REST catalog answers", "correct the uri"),)
        case requests.exceptions.SSLError():
            return (
                Check("reachable", False, said, "the server's certificate is not trusted here: install its authority"),
            )
        case _:
            return (
                Check("reachable", False, said, "check the uri, and that the catalog is reachable from this executor"),
            )


def _not_listable(record: assignment.Catalog, failure: Exception, prepared: PreparedCatalog) -> Sequence[Check]:
    said = describe(failure, prepared.hidden)
    accepted = Check("authenticated", True, "the catalog accepts our credentials")
    match failure:
        case iceberg.UnauthorizedError():
            return (Check("authenticated", False, said, _unauthorized_hint(record, said)),)
        case iceberg.AuthorizationExpiredError():
            return (
                Check("authenticated", False, said, "the token has expired: renew the secret, or use `credential`"),
            )
        case iceberg.ForbiddenError():
            return accepted, Check("listable", False, said, _GRANT_HINT)
        case sqlalchemy.exc.ProgrammingError() if "does not exist" in said:
            hint = "the writers' catalog creates iceberg_tables: check the database and currentSchema in the uri"
            return accepted, Check("listable", False, said, hint)
        case sqlalchemy.exc.ProgrammingError():
            return accepted, Check("listable", False, said, "grant the user SELECT on iceberg_tables")
        case _:
            return accepted, Check("listable", False, said, "see the catalog's log")


def _unauthorized_hint(record: assignment.Catalog, said: str) -> str:
    given = {*record.properties, *record.secrets}
    if not given & {"token", "credential", "rest.auth.type", "header.Authorization", "rest.sigv4-enabled"}:
        return "the server wants credentials: give the record the secret `credential` or `token`"
    if record.properties.get("rest.auth.type") == "oauth2" and not given & {"token", "credential"}:
        # pyiceberg then sends the words "Bearer None".
        return (
            "rest.auth.type=oauth2 without `credential` or `token` sends no usable token: give the record one of them"
        )
    if "RestError" in said:
        # No JSON error: the answer of a gateway, or of Polaris to a bad or expired bearer.
        return "401 without an explanation: the token is wrong or has expired; renew the secret"
    return "correct the secrets `credential` or `token`"


def _oauth_hint(said: str) -> str:
    if "scope" in said:
        return "the scope is refused: set the property scope (Polaris: PRINCIPAL_ROLE:ALL)"
    return "correct the secret `credential` (client id:client secret), and oauth2-server-uri"
