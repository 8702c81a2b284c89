"""Values that every resource has: times, words of enumerations, ids and table names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import CatalogName, TableName, quoted

MAX_NAME: Final = 255
MAX_IDS: Final = 1_000


def to_timestamp(time: datetime | None) -> Timestamp | None:
    """None stays unset."""
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def to_datetime(timestamp: Timestamp, *, field: str) -> datetime:
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument([FieldViolation(field, "is no time between the years 1 and 9999")]) from None


def to_enum(kind: Any, prefix: str, word: str | None) -> Any:
    """The value of the word, such as `OPERATION_STATE_` + QUEUED; the unspecified one for None and empty."""
    return kind.Value(prefix + (word or "UNSPECIFIED"))


def from_enum(kind: Any, prefix: str, value: int, *, field: str) -> str:
    """The word of a value that a caller sent. The unspecified one, and one that is not known here, are refused."""
    if value not in kind.values() or value == 0:
        known = ", ".join(name.removeprefix(prefix) for name in kind.keys()[1:])
        raise InvalidArgument([FieldViolation(field, f"must be one of {known}")])
    return str(kind.Name(value)).removeprefix(prefix)


def required(text: str, *, field: str) -> str:
    """A name or id that selects a resource; whether there is one of that name, the store says."""
    if not text:
        raise InvalidArgument([FieldViolation(field, "is required")])
    if len(text) > MAX_NAME:
        raise InvalidArgument([FieldViolation(field, f"has at most {MAX_NAME} characters, this one {len(text)}")])
    return text


def id_of(text: str, *, field: str) -> str:
    """A UUID in its written form."""
    try:
        return str(UUID(required(text, field=field)))
    except ValueError:
        raise InvalidArgument([FieldViolation(field, f"must be a UUID, is {text[:64]!r}")]) from None


def ids_of(texts: Iterable[str], *, field: str) -> tuple[str, ...]:
    ids = tuple(id_of(text, field=f"{field}[{index}]") for index, text in enumerate(texts))
    if len(ids) > MAX_IDS:
        raise InvalidArgument([FieldViolation(field, f"names at most {MAX_IDS} ids, not {len(ids)}")])
    return ids


def table_name(catalog: str, namespace: str, table: str) -> TableName:
    """The name that a request writes in three fields; the namespace is dotted, its parts quoted where they must be."""
    missing = [
        FieldViolation(field, "is required")
        for field, text in (("catalog", catalog), ("namespace", namespace), ("table", table))
        if not text
    ]
    if missing:
        raise InvalidArgument(missing)
    return TableName.parse(f"{quoted(catalog)}.{namespace}.{quoted(table)}", field="namespace")


def table_name_of_levels(catalog: str, levels: Iterable[str], table: str, *, field: str) -> TableName:
    try:
        return TableName(CatalogName(catalog), tuple(levels), table)
    except ValueError as error:
        raise InvalidArgument([FieldViolation(field, str(error))]) from error
