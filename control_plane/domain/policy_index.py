"""Which of many policies match a table, without trying each of them.

A pattern's item is found by the parts that it names exactly: items that name the same places share one dictionary, so a
table asks each dictionary once. Items with wildcards inside a part, and regular expressions, are matched all at once by
one RE2 automaton. What is found is then matched by its whole pattern: the index only spares the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

import re2

from control_plane.domain.identifiers import CatalogName, OperationType, TableName
from control_plane.domain.pattern import MAX_EXPRESSION_MEMORY, GlobItem, Pattern, RegexItem, is_exact, part_expression
from control_plane.domain.policy import Policy
from control_plane.domain.resolution import Resolution, resolve
from control_plane.domain.scheduling import PolicyMode

# Between the levels of a namespace, and around the namespace. No name holds control characters.
_LEVEL: Final = "\x1f"
_END: Final = "\x1e"
_CHARACTER: Final = f"[^{_LEVEL}{_END}]"
_DEEPER: Final = f"(?:{_LEVEL}{_CHARACTER}*)*"

# So many expressions share an automaton: as many as surely fit into its memory, each with the most that one may take.
_IN_A_SET: Final = 32
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True
_OPTIONS.dot_nl = True
_OPTIONS.max_mem = (_IN_A_SET + 1) * MAX_EXPRESSION_MEMORY

_Placed = tuple[str, int]
"""An expression, and the place of its policy."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the tables lie that an item of a pattern may match. None and no levels: anywhere."""

    catalog: CatalogName | None
    namespace: tuple[str, ...] | None

    def holds(self, table: TableName) -> bool:
        return self.covers(Reach(table.catalog, table.namespace))

    def covers(self, other: Reach) -> bool:
        levels = self.namespace or ()
        return self.catalog in (None, other.catalog) and (other.namespace or ())[: len(levels)] == levels


def coarse(pattern: Pattern) -> Sequence[Reach]:
    """The catalogs and the leading namespace levels outside which no table matches; none lies within another."""
    reaches = dict.fromkeys(_reach(item) for item in pattern.inclusions)
    return [one for one in reaches if not any(other != one and other.covers(one) for other in reaches)]


class PolicyIndex:
    """Policies by the tables that they match, enabled or not. Equal in result to trying every one."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._policies = tuple(policies)
        self._by_parts: dict[_Shape, dict[tuple[str, ...], list[int]]] = {}
        globs: list[_Placed] = []
        regexes: list[_Placed] = []
        for place, policy in enumerate(self._policies):
            for item in policy.spec.pattern.inclusions:
                match item:
                    case RegexItem():
                        regexes.append((item.source, place))
                    case GlobItem() if item.has_partial_wildcards:
                        globs.append((_expression(item), place))
                    case GlobItem():
                        shape, key = _shape(item)
                        self._by_parts.setdefault(shape, defaultdict(list))[key].append(place)
        self._globs = _sets(globs)
        self._regexes = _sets(regexes)

    def candidates(self, table: TableName) -> Sequence[Policy]:
        """The policies that match the table, in the order in which they were given."""
        places: set[int] = set()
        for shape, places_by_key in self._by_parts.items():
            if (key := shape.key(table)) is not None and (found := places_by_key.get(key)) is not None:
                places.update(found)
        joined, written = _joined(table), str(table)
        for globs in self._globs:
            places.update(globs.matching(joined))
        for regexes in self._regexes:
            places.update(regexes.matching(written))
        matching = (self._policies[place] for place in sorted(places))
        return [policy for policy in matching if policy.spec.pattern.matches(table)]

    def resolve(
        self, table: TableName, operation_type: OperationType, mode: PolicyMode = PolicyMode.ACTIVE
    ) -> Resolution:
        """What `resolution.resolve` says of all the policies."""
        return resolve(self.candidates(table), table, operation_type, mode=mode)

    def resolve_all(self, table: TableName, mode: PolicyMode = PolicyMode.ACTIVE) -> Mapping[OperationType, Resolution]:
        """The same for every operation type, the table's policies looked up once."""
        candidates = self.candidates(table)
        return {kind: resolve(candidates, table, kind, mode=mode) for kind in OperationType}


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which places of a table's name an item names exactly; `levels` None: of a namespace it says nothing."""

    catalog: bool
    levels: tuple[bool, ...] | None
    table: bool
    deep: bool

    def key(self, table: TableName) -> tuple[str, ...] | None:
        """The parts of the name in these places; None if it has not the depth."""
        parts = [str(table.catalog)] if self.catalog else []
        if self.levels is not None:
            depth = len(self.levels)
            if len(table.namespace) < depth or (len(table.namespace) > depth and not self.deep):
                return None
            parts.extend(level for level, exact in zip(table.namespace, self.levels, strict=False) if exact)
        if self.table:
            parts.append(table.name)
        return tuple(parts)


class _Set:
    """Expressions that one automaton matches at once."""

    def __init__(self, expressions: Sequence[_Placed]) -> None:
        self._places = [place for _, place in expressions]
        self._set = re2.Set.FullMatchSet(_OPTIONS)
        for source, _ in expressions:
            self._set.Add(source)
        # RE2 answers "none" when its memory does not suffice. This one always matches: without it nothing was matched.
        self._always: int = self._set.Add(".*")
        self._set.Compile()

    def matching(self, text: str) -> Iterable[int]:
        """The places of the expressions that match; of all, where memory does not suffice to tell."""
        found: list[int] = self._set.Match(text)
        if self._always not in found:
            return self._places
        return [self._places[index] for index in found if index != self._always]


def _sets(expressions: Sequence[_Placed]) -> Sequence[_Set]:
    return [_Set(expressions[start : start + _IN_A_SET]) for start in range(0, len(expressions), _IN_A_SET)]


def _shape(item: GlobItem) -> tuple[_Shape, tuple[str, ...]]:
    """The shape of an item whose parts are exact or any, and the parts that it names."""
    levels = None if item.namespace is None else tuple(map(is_exact, item.namespace))
    parts = (item.catalog, *(item.namespace or ()), item.table)
    key = tuple(part.text for part in parts if part is not None and is_exact(part))
    return _Shape(is_exact(item.catalog), levels, is_exact(item.table), item.deep), key


def _expression(item: GlobItem) -> str:
    """The item as an expression over `_joined` names."""
    catalog, table = (part_expression(part, character=_CHARACTER) for part in (item.catalog, item.table))
    levels = [part_expression(level, character=_CHARACTER) for level in item.namespace or ()]
    namespace = _LEVEL.join(levels or [part_expression(None, character=_CHARACTER)])
    return f"{catalog}{_END}{namespace}{_DEEPER if item.deep or not levels else ''}{_END}{table}"


def _joined(table: TableName) -> str:
    return f"{table.catalog}{_END}{_LEVEL.join(table.namespace)}{_END}{table.name}"


def _reach(item: object) -> Reach:
    if not isinstance(item, GlobItem):
        return Reach(None, None)
    exact = tuple(level.text for level in takewhile(is_exact, item.namespace or ()))
    catalog = CatalogName(item.catalog.text) if item.catalog is not None and is_exact(item.catalog) else None
    return Reach(catalog, exact or None)
