"""Pages and cursors on the wire: opaque, URL-safe, and bound to the query that they came from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.ports.operations import Cursor

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1_000
# What a client takes by default is 4 MiB; a page that would be larger ends early.
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024

_DIGEST_BYTES: Final = 12
_MAX_TOKEN: Final = 16_384

Row = TypeVar("Row")
Answer = TypeVar("Answer", bound=Message)
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page is asked for. `after` is the key of the last row of the page before; None on the first."""

    query: bytes
    size: int
    after: Key | None

    @classmethod
    def of(cls, request: Any, *, parts: int = 1) -> Paging:
        """Read from a list request whose keys have so many parts."""
        if request.page_size < 0:
            raise InvalidArgument([FieldViolation("pageSize", f"must not be negative, is {request.page_size}")])
        query = _query(request)
        after = _read_token(request.page_token, query, parts) if request.page_token else None
        return cls(query, min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), after)

    @property
    def limit(self) -> int:
        """How many rows to read: one more than are shown, which tells whether there is a next page."""
        return self.size + 1

    def cut(
        self, rows: Sequence[Row], convert: Callable[[Row], Answer], key: Callable[[Row], Key]
    ) -> tuple[list[Answer], str]:
        """The page's messages and the token of the next page, empty if this is the last."""
        shown: list[Answer] = []
        size = 0
        for row in rows[: self.size]:
            message = convert(row)
            size += message.ByteSize()
            if shown and size > MAX_PAGE_BYTES:
                break
            shown.append(message)
        if len(shown) == len(rows):
            return shown, ""
        return shown, self.token(key(rows[len(shown) - 1]))

    def token(self, key: Key) -> str:
        """The token of the page after the row with this key."""
        return _token(self.query, key)


def write_cursor(cursor: Cursor) -> str:
    return _encode(json.dumps([cursor.store, cursor.xid, cursor.sequence], separators=(",", ":")).encode())


def read_cursor(text: str) -> Cursor | None:
    """None for an empty one. Raises InvalidArgument for what never was a cursor of Floe."""
    if not text:
        return None
    match _json(_decode(text)):
        case [str(store), int(xid), int(sequence)]:
            return Cursor(store, xid, sequence)
    raise InvalidArgument(
        [FieldViolation("cursor", "is no watch cursor; take it from a list or from an earlier event")]
    )


def _query(request: Any) -> bytes:
    """What the request asks for apart from the page."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.page_size = 0
    bare.page_token = ""
    named = request.DESCRIPTOR.full_name.encode() + b"\0" + bare.SerializeToString(deterministic=True)
    return hashlib.sha256(named).digest()[:_DIGEST_BYTES]


def _token(query: bytes, key: Key) -> str:
    return _encode(query + json.dumps(key, separators=(",", ":")).encode())


def _read_token(token: str, query: bytes, parts: int) -> Key:
    decoded = _decode(token)
    if decoded is not None:
        key = _json(decoded[_DIGEST_BYTES:])
        if isinstance(key, list) and len(key) == parts and all(isinstance(part, str) for part in key):
            if decoded[:_DIGEST_BYTES] == query:
                return tuple(key)
            raise InvalidArgument(
                [FieldViolation("pageToken", "belongs to another query; repeat the arguments that it came with")]
            )
    raise InvalidArgument([FieldViolation("pageToken", "is no page token; take it from the answer before")])


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    if len(text) > _MAX_TOKEN:
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def _json(raw: bytes | None) -> Any:
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
