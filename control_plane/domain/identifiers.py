"""The names of things: ids that cannot be mixed up, operation types in the order of a run, qualified table names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType, Self

from control_plane.domain.errors import FieldViolation, InvalidArgument

PolicyName = NewType("PolicyName", str)
CatalogName = NewType("CatalogName", str)
TableUuid = NewType("TableUuid", str)
OperationId = NewType("OperationId", str)
TriggerId = NewType("TriggerId", str)
RunId = NewType("RunId", str)
SessionId = NewType("SessionId", str)
ExecutorId = NewType("ExecutorId", str)
ObservationId = NewType("ObservationId", str)
ReplicaId = NewType("ReplicaId", str)

MAX_PART_LENGTH: Final = 255
MAX_NAMESPACE_LEVELS: Final = 16
MAX_QUALIFIED_NAME_LENGTH: Final = 10_000
_UNCLEAN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Lane(StrEnum):
    """Operations of one lane take no room from those of the other."""

    DATA = "DATA"
    METADATA = "METADATA"


class OperationType(StrEnum):
    """The kinds of maintenance, in their order within a run: what rewrites comes before what removes."""

    REWRITE_DATA_FILES = "REWRITE_DATA_FILES"
    REWRITE_POSITION_DELETES = "REWRITE_POSITION_DELETES"
    REWRITE_MANIFESTS = "REWRITE_MANIFESTS"
    EXPIRE_SNAPSHOTS = "EXPIRE_SNAPSHOTS"
    ORPHAN_CLEANUP = "ORPHAN_CLEANUP"
    COMPUTE_STATISTICS = "COMPUTE_STATISTICS"

    @property
    def order(self) -> int:
        """The place of this type within a run, from 0."""
        return _ORDER[self]

    @property
    def lane(self) -> Lane:
        """Where it runs: what rewrites data is long, and what is short must not wait behind it."""
        return Lane.DATA if self in _REWRITES_DATA else Lane.METADATA


_REWRITES_DATA: Final = frozenset({OperationType.REWRITE_DATA_FILES, OperationType.REWRITE_POSITION_DELETES})
_ORDER: Final = {kind: place for place, kind in enumerate(OperationType)}


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A table's qualified name, `catalog.namespace.table`; the namespace has one or more levels.

    Written, a part that holds a dot, a double quote or white space at its ends stands in double quotes
    (`lake."a.b".t`), a quote inside it doubled.
    """

    catalog: CatalogName
    namespace: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        parts = self.parts
        if not self.namespace or not all(parts):
            raise ValueError(
                f"{parts!r} is no table name: it needs a catalog, a namespace level and a table, none of them empty"
            )
        if len(self.namespace) > MAX_NAMESPACE_LEVELS:
            raise ValueError(f"a namespace has at most {MAX_NAMESPACE_LEVELS} levels, not {len(self.namespace)}")
        for part in parts:
            if len(part) > MAX_PART_LENGTH:
                raise ValueError(f"a name has at most {MAX_PART_LENGTH} characters, {part[:32]!r}… has {len(part)}")
            if not is_clean(part):
                raise ValueError(f"a name holds no control characters, {part[:64]!r} does")

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.catalog, *self.namespace, self.name)

    @classmethod
    def parse(cls, text: str, *, field: str = "table") -> Self:
        """The name that `text` writes; `field` is the path to blame when it writes none."""
        try:
            if len(text) > MAX_QUALIFIED_NAME_LENGTH:
                raise ValueError(f"a table name has at most {MAX_QUALIFIED_NAME_LENGTH} characters, not {len(text)}")
            parts = [part.text for part in split_parts(text)]
            if len(parts) < 3:
                raise ValueError(f"{text!r} is no qualified table name; write catalog.namespace.table")
            return cls(CatalogName(parts[0]), tuple(parts[1:-1]), parts[-1])
        except ValueError as error:
            raise InvalidArgument([FieldViolation(field, str(error))]) from error

    def __str__(self) -> str:
        return ".".join(quoted(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a dotted name as it was written. A quoted part means itself: nothing in it is a wildcard."""

    text: str
    quoted: bool = False


def is_clean(text: str) -> bool:
    """Whether the text can stand in any log, query or message: no control characters, no lone surrogates."""
    return _UNCLEAN.search(text) is None


def quoted(part: str) -> str:
    """The part as it is written inside a dotted name."""
    if part and "." not in part and '"' not in part and part == part.strip():
        return part
    return '"' + part.replace('"', '""') + '"'


def split_parts(text: str) -> list[Part]:
    """The parts of a dotted name, quotes resolved. Empty parts and stray quotes raise a ValueError that says where."""
    parts: list[Part] = []
    position = 0
    while True:
        part, position = _part_at(text, position)
        if not part.text:
            raise ValueError(f"{text!r} has an empty part at its end or before character {position + 1}")
        parts.append(part)
        if position == len(text):
            return parts
        if text[position] != ".":
            raise ValueError(f"{text!r} needs a dot after the closing quote, at character {position + 1}")
        position += 1


def _part_at(text: str, start: int) -> tuple[Part, int]:
    """The part that begins at `start`, and the position after it."""
    if text[start : start + 1] != '"':
        end = text.find(".", start)
        end = len(text) if end < 0 else end
        part = text[start:end]
        if '"' in part:
            raise ValueError(f"{text!r} has a double quote inside a part; quote the whole part and double the quote")
        if part != part.strip():
            raise ValueError(f"{text!r} has white space around {part.strip()!r}; remove it, or quote the part")
        return Part(part), end
    pieces: list[str] = []
    position = start + 1
    while True:
        end = text.find('"', position)
        if end < 0:
            raise ValueError(f"{text!r} has an opening quote at character {start + 1} that is not closed")
        pieces.append(text[position:end])
        if text[end + 1 : end + 2] != '"':
            return Part("".join(pieces), quoted=True), end + 1
        pieces.append('"')
        position = end + 2
