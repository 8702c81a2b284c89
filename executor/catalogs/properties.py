"""Turns a catalog record into the properties of pyiceberg's catalogs.

A record speaks the property names of Iceberg's Java catalogs, because every engine reads them; what pyiceberg names
differently is translated here. The catalog's own name is part of a JDBC catalog's rows
(`iceberg_tables.catalog_name`): both pyiceberg and the engines open it under `Catalog.name`, so a catalog must be
registered under the name by which its writers call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from executor.assignment import Catalog
from executor.errors import ConfigurationError

_CONNECT_TIMEOUT_SECONDS = "10"
_REST_AUTH_TYPE = "rest.auth.type"
# Any of these means: the caller has said how to authenticate.
_REST_CREDENTIALS = ("token", "credential", "rest.sigv4-enabled", "header.Authorization", "header.authorization")
_JDBC_PREFIX = "jdbc:postgresql:"
_JDBC_PARAMETERS = {
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "ApplicationName": "application_name",
    "connectTimeout": "connect_timeout",
}


def pyiceberg_properties(catalog: Catalog, resolved: Mapping[str, str], *, create: bool = False) -> dict[str, object]:
    """What `pyiceberg.catalog.load_catalog(catalog.name, **properties)` takes. `resolved` holds the secrets: never
    print the answer.

    `create` lets a JDBC catalog create its own tables in an empty database; a look at a catalog never does.
    """
    builders: dict[str, Callable[[], dict[str, object]]] = {
        "rest": lambda: _rest(catalog, resolved),
        "jdbc": lambda: _jdbc(catalog, resolved, create=create),
    }
    if catalog.type not in builders:
        raise ConfigurationError(
            f"catalog {catalog.name!r}: type {catalog.type!r} is not supported; there are {', '.join(sorted(builders))}"
        )
    properties = builders[catalog.type]()
    if catalog.warehouse:
        properties["warehouse"] = catalog.warehouse
    return properties


def _rest(catalog: Catalog, resolved: Mapping[str, str]) -> dict[str, object]:
    if urlsplit(catalog.uri).scheme not in ("http", "https"):
        raise ConfigurationError(f"catalog {catalog.name!r}: uri must begin with http:// or https://")
    kept = {key: value for key, value in resolved.items() if not key.startswith("rest.auth.")}
    return {**kept, "type": "rest", "uri": catalog.uri, **_rest_auth(catalog, resolved)}


def _rest_auth(catalog: Catalog, resolved: Mapping[str, str]) -> dict[str, object]:
    """pyiceberg without any setting sends `Authorization: Bearer None`, which strict servers refuse: then say `noop`
    aloud."""
    kind = resolved.get(_REST_AUTH_TYPE)
    if kind == "none" or (kind is None and not any(key in resolved for key in _REST_CREDENTIALS)):
        return {"auth": {"type": "noop"}}
    if kind == "basic":
        try:
            basic = {part: resolved[f"rest.auth.basic.{part}"] for part in ("username", "password")}
        except KeyError as missing:
            raise ConfigurationError(f"catalog {catalog.name!r}: basic authentication needs {missing}") from None
        return {"auth": {"type": "basic", "basic": basic}}
    if kind in (None, "oauth2", "sigv4"):
        return {}
    raise ConfigurationError(
        f"catalog {catalog.name!r}: {_REST_AUTH_TYPE} {kind!r} is not supported; there are none, basic, oauth2, sigv4"
    )


def _jdbc(catalog: Catalog, resolved: Mapping[str, str], *, create: bool) -> dict[str, object]:
    kept = {key: value for key, value in resolved.items() if not key.startswith("jdbc.")}
    return {
        **kept,
        "type": "sql",
        "uri": _sqlalchemy_uri(catalog, resolved),
        "pool_pre_ping": "true",
        "init_catalog_tables": "true" if create else "false",
    }


def _sqlalchemy_uri(catalog: Catalog, resolved: Mapping[str, str]) -> str:
    where = f"catalog {catalog.name!r}: uri"
    if not catalog.uri.startswith(_JDBC_PREFIX + "//"):
        raise ConfigurationError(f"{where} must look like jdbc:postgresql://host:port/database")
    parts = urlsplit(catalog.uri.removeprefix("jdbc:"))
    if parts.username or parts.password:
        raise ConfigurationError(f"{where} must hold no user; use the property jdbc.user and the secret jdbc.password")
    if not parts.hostname or len(parts.path) < 2:
        raise ConfigurationError(f"{where} must name a host and a database")
    query = {"connect_timeout": _CONNECT_TIMEOUT_SECONDS}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key in ("user", "password"):
            raise ConfigurationError(
                f"{where} must hold no {key}; use the property jdbc.user and the secret jdbc.password"
            )
        if key == "currentSchema":
            query["options"] = f"-csearch_path={value}"
        elif key in _JDBC_PARAMETERS:
            query[_JDBC_PARAMETERS[key]] = value
        else:
            raise ConfigurationError(f"{where} has an unsupported parameter {key!r}")
    user, password = resolved.get("jdbc.user"), resolved.get("jdbc.password")
    login = ""
    if user is not None:
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password is not None else "") + "@"
    return f"postgresql+psycopg2://{login}{parts.netloc}{parts.path}?{urlencode(query, quote_via=quote)}"
