"""Reads a policy's row filter as conditions over a table's columns, every literal in the type of its column.

Only what an Iceberg scan can plan with is understood: comparisons of a column with a literal, IN, BETWEEN, IS NULL and
LIKE 'prefix%', joined by AND, OR and NOT.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Final
from uuid import UUID

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from executor.actions.errors import Refused

Value = bool | int | float | str
"""What Iceberg's `Literal` takes: dates, times, decimals and UUIDs are written as ISO strings."""

_DEEPEST: Final = 100
_UNDERSTOOD: Final = frozenset({"this", "expression", "expressions", "low", "high", "negate"})
_DECIMAL: Final = re.compile(r"decimal\(\d+, ?(?P<scale>\d+)\)")
_PREFIX: Final = re.compile(r"([^%_\\]+)%")


class Comparison(StrEnum):
    EQUAL = "equal"
    NOT_EQUAL = "notEqual"
    LESS = "lessThan"
    LESS_OR_EQUAL = "lessThanOrEqual"
    GREATER = "greaterThan"
    GREATER_OR_EQUAL = "greaterThanOrEqual"
    STARTS_WITH = "startsWith"


@dataclass(frozen=True, slots=True)
class Compare:
    column: str
    comparison: Comparison
    value: Value


@dataclass(frozen=True, slots=True)
class IsNull:
    column: str


@dataclass(frozen=True, slots=True)
class Not:
    condition: Condition


@dataclass(frozen=True, slots=True)
class And:
    left: Condition
    right: Condition


@dataclass(frozen=True, slots=True)
class Or:
    left: Condition
    right: Condition


@dataclass(frozen=True, slots=True)
class In:
    column: str
    values: Sequence[Value]


Condition = Compare | IsNull | Not | And | Or | In

_COMPARISONS: Final[Mapping[type[exp.Expr], tuple[Comparison, Comparison]]] = {
    # The second is the same comparison with its sides exchanged.
    exp.EQ: (Comparison.EQUAL, Comparison.EQUAL),
    exp.NEQ: (Comparison.NOT_EQUAL, Comparison.NOT_EQUAL),
    exp.LT: (Comparison.LESS, Comparison.GREATER),
    exp.LTE: (Comparison.LESS_OR_EQUAL, Comparison.GREATER_OR_EQUAL),
    exp.GT: (Comparison.GREATER, Comparison.LESS),
    exp.GTE: (Comparison.GREATER_OR_EQUAL, Comparison.LESS_OR_EQUAL),
}


def parse_filter(text: str, columns: Mapping[str, str]) -> Condition:
    """The filter over `columns` (full name -> Iceberg type). Raises `Refused` that says what is wrong with it."""
    try:
        tree = sqlglot.parse_one(text, dialect="spark", into=exp.Condition)
    except (SqlglotError, RecursionError):
        raise Refused("filter is no SQL condition; write one such as region = 'eu'") from None
    return _Reader(columns).condition(tree, 0)


class _Reader:
    def __init__(self, columns: Mapping[str, str]) -> None:
        # As in Spark, names are compared without regard to case.
        self._columns = {name.lower(): (name, kind) for name, kind in columns.items()}

    def condition(self, node: exp.Expr | None, depth: int) -> Condition:
        if depth > _DEEPEST:
            raise Refused(f"filter is nested more than {_DEEPEST} deep")
        read = self._read(node, depth)
        # The dialect writes NOT LIKE as a LIKE that is negated.
        return Not(read) if node is not None and node.args.get("negate") else read

    def _read(self, node: exp.Expr | None, depth: int) -> Condition:
        if node is not None and any(node.args.get(key) for key in node.args.keys() - _UNDERSTOOD):
            raise Refused(f"filter: {_shown(node)} is no condition that an Iceberg scan can plan with")
        match node:
            case exp.Paren():
                return self.condition(node.this, depth + 1)
            case exp.Not():
                return Not(self.condition(node.this, depth + 1))
            case exp.And() | exp.Or():
                # A chain of a thousand ANDs is deep in the tree, but not in meaning.
                return self._chain(node, depth)
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                return self._comparison(node)
            case exp.In():
                return self._in(node)
            case exp.Between():
                return self._between(node)
            case exp.Is() if isinstance(node.expression, exp.Null):
                return IsNull(self._column(node.this)[0])
            case exp.Like():
                return self._like(node)
            case _:
                raise Refused(f"filter: {_shown(node)} is no condition that an Iceberg scan can plan with")

    def _chain(self, node: exp.And | exp.Or, depth: int) -> Condition:
        join = And if isinstance(node, exp.And) else Or
        parts = [self.condition(part, depth + 1) for part in node.flatten()]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=False)
            parts = [join(left, right) for left, right in pairs] + (parts[-1:] if len(parts) % 2 else [])
        return parts[0]

    def _comparison(self, node: exp.Expr) -> Condition:
        as_written, exchanged = _COMPARISONS[type(node)]
        left, right = node.args["this"], node.args["expression"]
        if _name(left) is not None:
            column, kind = self._column(left)
            return Compare(column, as_written, _value(right, column, kind))
        column, kind = self._column(right)
        return Compare(column, exchanged, _value(left, column, kind))

    def _in(self, node: exp.In) -> Condition:
        column, kind = self._column(node.this)
        if not node.expressions:
            raise Refused(f"filter: in {_shown(node)} the list after IN must be literals, at least one")
        return In(column, [_value(literal, column, kind) for literal in node.expressions])

    def _between(self, node: exp.Between) -> Condition:
        column, kind = self._column(node.this)
        low, high = (_value(node.args[bound], column, kind) for bound in ("low", "high"))
        return And(Compare(column, Comparison.GREATER_OR_EQUAL, low), Compare(column, Comparison.LESS_OR_EQUAL, high))

    def _like(self, node: exp.Like) -> Condition:
        column, kind = self._column(node.this)
        pattern = node.expression
        prefix = _PREFIX.fullmatch(pattern.this) if isinstance(pattern, exp.Literal) and pattern.is_string else None
        if prefix is None or kind != "string":
            raise Refused(f"filter: in {_shown(node)} a string column and a prefix with one % at its end are needed")
        return Compare(column, Comparison.STARTS_WITH, prefix[1])

    def _column(self, node: exp.Expr | None) -> tuple[str, str]:
        name = _name(node)
        if name is None:
            raise Refused(f"filter: {_shown(node)} is no column name")
        try:
            return self._columns[name.lower()]
        except KeyError:
            raise Refused(f"filter: the table has no column {name!r} that can be compared") from None


def _name(node: exp.Expr | None) -> str | None:
    if isinstance(node, exp.Column):
        return ".".join(part.name for part in node.parts)
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        outer = _name(node.this)
        return None if outer is None else f"{outer}.{node.expression.name}"
    return None


def _value(node: exp.Expr | None, column: str, kind: str) -> Value:
    """The literal as a value of the column's type."""
    text, quoted = _literal(node)
    try:
        if isinstance(text, bool):
            if kind != "boolean":
                raise ValueError
            return text
        convert = _from_string(kind) if quoted else _from_number(kind)
        return convert(text)
    except (ValueError, InvalidOperation, OverflowError):
        raise Refused(f"filter: {_shown(node)} is no value for column {column!r} of type {kind}") from None


def _literal(node: exp.Expr | None) -> tuple[str | bool, bool]:
    """The text of a literal, and whether it was a string (or a date or time, which is written as one)."""
    if isinstance(node, exp.Boolean):
        return bool(node.this), False
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return f"-{node.this.this}", False
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.this.is_string:
        return str(node.this.this), True
    if isinstance(node, exp.Literal):
        return str(node.this), bool(node.is_string)
    raise Refused(f"filter: {_shown(node)} is no literal; IS NULL is the test for NULL")


def _from_number(kind: str) -> Callable[[str], Value]:
    if kind in ("int", "long"):
        return int
    if kind in ("float", "double"):
        return float
    if scaled := _DECIMAL.fullmatch(kind):
        return lambda text: _decimal(text, int(scaled["scale"]))
    raise ValueError(kind)


def _from_string(kind: str) -> Callable[[str], Value]:
    by_type: Mapping[str, Callable[[str], Value]] = {
        "string": str,
        "uuid": lambda text: str(UUID(text)),
        "date": lambda text: date.fromisoformat(text).isoformat(),
        "time": lambda text: time.fromisoformat(text).isoformat(timespec="microseconds"),
        "timestamp": _timestamp,
        "timestamp_ns": _timestamp,
        "timestamptz": _instant,
        "timestamptz_ns": _instant,
    }
    if scaled := _DECIMAL.fullmatch(kind):
        return lambda text: _decimal(text, int(scaled["scale"]))
    if kind not in by_type:
        raise ValueError(kind)
    return by_type[kind]


def _decimal(text: str, scale: int) -> str:
    number = Decimal(text)
    scaled = number.quantize(Decimal(1).scaleb(-scale))
    if scaled != number:
        # Iceberg compares decimals of one scale only.
        raise ValueError
    return format(scaled, "f")


def _timestamp(text: str) -> str:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is not None:
        raise ValueError
    return instant.isoformat(timespec="microseconds")


def _instant(text: str) -> str:
    """A literal without an offset is UTC, as in the session."""
    instant = datetime.fromisoformat(text)
    aware = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return aware.isoformat(timespec="microseconds")


def _shown(node: exp.Expr | None) -> str:
    text = node.sql(dialect="spark") if node is not None else "it"
    return text if len(text) <= 80 else text[:80] + "…"
