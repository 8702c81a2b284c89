"""Which tables a policy speaks of: `lake.sales.*`, `events`, `/lake\\.prod_.*/`, lists of these, and exclusions.

Every wildcard and every regular expression is matched by RE2, in time linear in the table's name, so no pattern that a
user writes can hold up the scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NewType, Protocol, Self

import re2

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import Part, TableName, is_clean, split_parts

MAX_PATTERN_LENGTH: Final = 256

Specificity = NewType("Specificity", int)
"""How closely a pattern names a table, 0 to 222; of two policies of one priority the higher governs."""

_ANY: Final = Part("*")
_CATALOG_WEIGHT: Final = 100
_NAMESPACE_WEIGHT: Final = 10

MAX_EXPRESSION_MEMORY: Final = 1024 * 1024
"""Bytes. A regular expression that takes more, as `\\pL{1000}`, is refused."""

_RE2_OPTIONS: Final = re2.Options()
_RE2_OPTIONS.max_mem = MAX_EXPRESSION_MEMORY
_RE2_OPTIONS.log_errors = False
_RE2_OPTIONS.never_capture = True
# A table's name may hold any character, so a wildcard must take any, a line break too.
_RE2_OPTIONS.dot_nl = True


class _Item(Protocol):
    """One entry of a pattern's list."""

    @property
    def specificity(self) -> Specificity: ...

    def matches(self, table: TableName) -> bool: ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern. A table matches if some inclusion matches it and no exclusion does."""

    text: str
    inclusions: tuple[_Item, ...]
    exclusions: tuple[_Item, ...]

    @classmethod
    def parse(cls, text: str, *, field: str = "tablePattern") -> Self:
        """The pattern that `text` writes; `field` is the path to blame when it writes none."""
        try:
            return cls._parse(text)
        except ValueError as error:
            raise InvalidArgument([FieldViolation(field, str(error))]) from error

    @classmethod
    def _parse(cls, text: str) -> Self:
        if len(text) > MAX_PATTERN_LENGTH:
            raise ValueError(f"a pattern has at most {MAX_PATTERN_LENGTH} characters, this one has {len(text)}")
        if not is_clean(text):
            raise ValueError("a pattern holds no control characters")
        inclusions: list[_Item] = []
        exclusions: list[_Item] = []
        for written in _split_list(text):
            excluded = written.startswith("!")
            item = _item(written[1:].strip() if excluded else written)
            (exclusions if excluded else inclusions).append(item)
        if not inclusions:
            raise ValueError("the pattern only excludes; name what it includes too, `*` for every table")
        return cls(text, tuple(inclusions), tuple(exclusions))

    def matches(self, table: TableName) -> bool:
        return self.specificity(table) is not None

    def specificity(self, table: TableName) -> Specificity | None:
        """How closely the pattern names this table: that of the closest inclusion. None if it does not match."""
        if any(item.matches(table) for item in self.exclusions):
            return None
        return max((item.specificity for item in self.inclusions if item.matches(table)), default=None)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class RegexItem:
    """One regular expression over the whole qualified name. It counts as one wildcard part in each place."""

    source: str

    specificity: Specificity = Specificity(_CATALOG_WEIGHT + _NAMESPACE_WEIGHT + 1)

    def matches(self, table: TableName) -> bool:
        return _full_match(self.source, str(table))


@dataclass(frozen=True, slots=True)
class GlobItem:
    """Dotted parts. None stands for a place that the pattern does not speak of; `deep` for a `**` at the end."""

    catalog: Part | None
    namespace: tuple[Part, ...] | None
    table: Part | None
    deep: bool = False

    @property
    def specificity(self) -> Specificity:
        return Specificity(
            _CATALOG_WEIGHT * _weight(self.catalog)
            + _NAMESPACE_WEIGHT * min((_weight(level) for level in self.namespace or ()), default=0)
            + _weight(self.table)
        )

    @property
    def has_partial_wildcards(self) -> bool:
        """Whether some part is neither exact nor any."""
        parts = (self.catalog, *(self.namespace or ()), self.table)
        return any(part not in (None, _ANY) and not is_exact(part) for part in parts)

    def matches(self, table: TableName) -> bool:
        return (
            _part_matches(self.catalog, table.catalog)
            and self._namespace_matches(table.namespace)
            and _part_matches(self.table, table.name)
        )

    def _namespace_matches(self, levels: tuple[str, ...]) -> bool:
        if self.namespace is None:
            return True
        if len(levels) < len(self.namespace) or (len(levels) > len(self.namespace) and not self.deep):
            return False
        return all(map(_part_matches, self.namespace, levels))


def _split_list(text: str) -> list[str]:
    """The entries of a comma-separated list. Commas inside quotes and inside `/…/` do not separate."""
    entries: list[str] = []
    position = 0
    while True:
        end = _entry_end(text, position)
        entry = text[position:end].strip()
        if not entry or entry == "!":
            raise ValueError(f"the list has an empty entry at character {position + 1}")
        entries.append(entry)
        if end == len(text):
            return entries
        position = end + 1


def _entry_end(text: str, start: int) -> int:
    """Where the entry that begins at `start` ends: at its comma, or at the end of the text."""
    while start < len(text) and text[start] in " !":
        start += 1
    if text[start : start + 1] == "/":
        start = _regex_end(text, start) + 1
    in_quotes = False
    for position in range(start, len(text)):
        if text[position] == '"':
            in_quotes = not in_quotes
        elif text[position] == "," and not in_quotes:
            return position
    return len(text)


def _regex_end(text: str, start: int) -> int:
    """The position of the slash that closes the one at `start`; a slash after a backslash does not."""
    position = start + 1
    while position < len(text) and text[position] != "/":
        position += 2 if text[position] == "\\" else 1
    if position >= len(text):
        raise ValueError(f"the regular expression that begins at character {start + 1} is not closed by a slash")
    return position


def _item(written: str) -> _Item:
    if written.startswith("/"):
        return _regex(written)
    if written.startswith("!"):
        raise ValueError(f"{written!r} is excluded twice; one `!` is enough")
    parts = split_parts(written)
    deep = parts[-1] == Part("**")
    for part in parts[:-1] if deep else parts:
        if not part.quoted and "**" in part.text:
            raise ValueError(f"in {written!r} `**` may only be the whole last part")
    if deep:
        if len(parts) == 1:
            raise ValueError("`**` needs a catalog before it, as in `lake.**`; `*` alone is every table")
        return GlobItem(parts[0], tuple(parts[1:-1]), None, deep=True)
    if len(parts) == 1:
        return GlobItem(None, None, parts[0])
    if len(parts) == 2:
        return GlobItem(None, (parts[0],), parts[1])
    return GlobItem(parts[0], tuple(parts[1:-1]), parts[-1])


def _regex(written: str) -> RegexItem:
    end = _regex_end(written, 0)
    source = written[1:end]
    if end != len(written) - 1:
        raise ValueError(f"{written!r} goes on after the closing slash; write `\\/` for a slash inside the expression")
    if not source:
        raise ValueError("`//` is an empty regular expression; `*` is every table")
    try:
        _compiled(source)
    except re2.error as error:
        raise ValueError(f"{written!r} is not in the syntax of RE2: {_reason(error)}") from error
    return RegexItem(source)


def _reason(error: re2.error) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def is_exact(part: Part | None) -> bool:
    """Whether the part names exactly one name."""
    return part is not None and (part.quoted or not ("*" in part.text or "?" in part.text))


def part_expression(part: Part | None, *, character: str = ".") -> str:
    """The part in the syntax of RE2: `*` is any run of characters, `?` any one; `character` is what a name holds."""
    if part is None:
        return f"{character}*"
    if part.quoted:
        return _escaped(part.text)
    return "".join({"*": f"{character}*", "?": character}.get(each) or _escaped(each) for each in part.text)


def _escaped(text: str) -> str:
    escaped: str = re2.escape(text)
    return escaped


def _weight(part: Part | None) -> int:
    if part is None or part == _ANY:
        return 0
    return 2 if is_exact(part) else 1


def _part_matches(part: Part | None, text: str) -> bool:
    if part is None or part == _ANY:
        return True
    return part.text == text if is_exact(part) else _full_match(part_expression(part), text)


def _full_match(source: str, text: str) -> bool:
    return _compiled(source).fullmatch(text) is not None


@lru_cache(maxsize=1_024)
def _compiled(source: str) -> Any:  # The library's compiled expressions have no public type.
    return re2.compile(source, _RE2_OPTIONS)
