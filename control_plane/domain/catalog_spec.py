"""What a caller may say of a catalog, and every rule for it that can be checked without reaching the catalog."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from control_plane.domain.catalog import Catalog, CatalogType
from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import CatalogName, is_clean

MAX_PROPERTIES: Final = 100
MAX_KEY: Final = 255
MAX_VALUE: Final = 4_000
MAX_URI: Final = 2_000
MAX_DESCRIPTION: Final = 2_000
MAX_CONCURRENCY: Final = 10_000

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_SECRET_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_JDBC: Final = "jdbc:"
# These have fields of their own, or would load code by name in an executor.
_RESERVED: Final = frozenset({"uri", "type", "warehouse", "catalog-impl", "py-catalog-impl", "py-io-impl"})
_SECRET_WORDS: Final = re.compile(
    r"token|credential|passw|secret|private|authorization|cookie|(?:access|account|api|shared)[-_.]?key|(?<![a-z])sas(?![a-z])"
)
# They speak of secrets and hold none.
_HARMLESS: Final = frozenset(
    {"token-refresh-enabled", "token-exchange-enabled", "token-expires-in-ms", "header.x-iceberg-access-delegation"}
)


@dataclass(frozen=True, slots=True)
class CatalogSpec:
    """What a caller says of a catalog. `type` None: not said."""

    name: CatalogName
    type: CatalogType | None
    uri: str
    warehouse: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    max_concurrent_operations: int = 0

    @classmethod
    def of(cls, catalog: Catalog) -> CatalogSpec:
        return cls(
            catalog.name,
            catalog.type,
            catalog.uri,
            catalog.warehouse,
            catalog.properties,
            catalog.secrets,
            catalog.description,
            catalog.max_concurrent_operations,
        )

    def checked_type(self) -> CatalogType:
        """The type, if every rule holds. InvalidArgument names each field that is wrong, by its JSON path."""
        violations = [FieldViolation(f"catalog.{path}", description) for path, description in self._broken()]
        if violations or self.type is None:
            raise InvalidArgument(violations)
        return self.type

    def _broken(self) -> Iterator[tuple[str, str]]:
        if not _NAME.fullmatch(self.name):
            rule = "1 to 63 of a-z, 0-9, _ and -, first and last a letter or digit"
            yield "name", f"{self.name[:80]!r} is no catalog name; write {rule}"
        if self.type is None:
            yield "type", "is required: REST or JDBC"
        else:
            yield from (("uri", wrong) for wrong in _broken_uri(self.uri, self.type))
        if len(self.warehouse) > MAX_URI or not is_clean(self.warehouse):
            yield "warehouse", f"has at most {MAX_URI} characters and no control characters"
        elif _split(self.warehouse) is None or "@" in (_split(self.warehouse) or urlsplit("")).netloc:
            yield "warehouse", "must be a location or a name, without user and password"
        if len(self.description) > MAX_DESCRIPTION:
            yield "description", f"has at most {MAX_DESCRIPTION} characters, this one {len(self.description)}"
        if not 0 <= self.max_concurrent_operations <= MAX_CONCURRENCY:
            yield "maxConcurrentOperations", f"is between 0 (no limit) and {MAX_CONCURRENCY}"
        for path, entries in (("properties", self.properties), ("secrets", self.secrets)):
            if len(entries) > MAX_PROPERTIES:
                yield path, f"has at most {MAX_PROPERTIES} entries, this one {len(entries)}"
        yield from self._broken_properties()
        yield from self._broken_secrets()

    def _broken_properties(self) -> Iterator[tuple[str, str]]:
        for key, value in self.properties.items():
            path = f'properties["{key[:MAX_KEY]}"]'
            yield from ((path, wrong) for wrong in _broken_key(key))
            if is_secret_key(key):
                yield path, "holds a secret; name the secret under `secrets`, executors find its value themselves"
            if len(value) > MAX_VALUE or not is_clean(value):
                yield path, f"has a value of at most {MAX_VALUE} characters and no control characters"
            elif (split := _split(value)) is not None and split.password:
                yield path, "has a value with user and password; name the secret under `secrets`"

    def _broken_secrets(self) -> Iterator[tuple[str, str]]:
        for key, name in self.secrets.items():
            path = f'secrets["{key[:MAX_KEY]}"]'
            yield from ((path, wrong) for wrong in _broken_key(key))
            if not _SECRET_NAME.fullmatch(name) or not name.strip("."):
                # What stands here may be the secret itself: it is not repeated.
                yield path, "is the NAME of a secret: 1 to 128 letters, digits, '.', '_' and '-'"
            if key in self.properties:
                yield path, "is a property as well; keep one of them"


def is_secret_key(key: str) -> bool:
    """Whether a property of this name holds a secret, as far as its name tells."""
    folded = key.lower()
    return folded not in _HARMLESS and _SECRET_WORDS.search(folded) is not None


def _broken_key(key: str) -> Iterator[str]:
    if not key or len(key) > MAX_KEY or not is_clean(key) or key != key.strip():
        yield f"needs a key of 1 to {MAX_KEY} characters, without white space around it and control characters"
    if key in _RESERVED:
        yield "cannot be set here: it has a field of its own, or loads code by its name"


def _broken_uri(uri: str, kind: CatalogType) -> Iterator[str]:
    if not uri:
        yield "is required"
        return
    if len(uri) > MAX_URI or not is_clean(uri) or " " in uri:
        yield f"has at most {MAX_URI} characters, no white space and no control characters"
        return
    is_jdbc = uri.startswith(_JDBC)
    split = _split(uri.removeprefix(_JDBC))
    schemes = ("postgresql",) if kind is CatalogType.JDBC else ("http", "https")
    if split is None or split.scheme not in schemes or is_jdbc != (kind is CatalogType.JDBC) or not split.hostname:
        wanted = "jdbc:postgresql://host:port/database" if kind is CatalogType.JDBC else "https://host:port/path"
        yield f"of a catalog of type {kind} looks like {wanted}"
        return
    if "@" in split.netloc:
        yield "must hold no user and password; name them under `properties` and `secrets`"
    if any(is_secret_key(key) or key.lower() == "user" for key, _ in parse_qsl(split.query, keep_blank_values=True)):
        yield "must hold no user and secret in its query; name them under `properties` and `secrets`"
    if kind is CatalogType.JDBC and len(split.path) < 2:
        yield "must name a database, as in jdbc:postgresql://host:port/database"
    if split.fragment:
        yield "must have no fragment"
    if _is_link_local(split.hostname or ""):
        yield "names a link-local address; machines keep their own credentials there, not catalogs"


def _split(text: str) -> SplitResult | None:
    """The parts of a URI; None for what is malformed."""
    try:
        split = urlsplit(text)
        split.port  # noqa: B018  # raises for a port that is none
    except ValueError:
        return None
    return split


def _is_link_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_link_local
