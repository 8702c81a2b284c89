"""Which rows a rewrite is about: a boolean expression in the part of Spark SQL that an Iceberg scan can plan with.

Allowed are comparisons of a column with a literal, IN, BETWEEN, IS [NOT] NULL and LIKE 'prefix%', joined by AND, OR,
NOT and parentheses. Literals are numbers, strings, TRUE, FALSE, DATE '2026-01-31' and TIMESTAMP '2026-01-31 00:00:00'.
Column names with special characters stand in backticks, fields of structs after a dot. Anything else (functions, casts,
subqueries, arithmetic, comparing two columns) cannot become an Iceberg expression and is refused when it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

MAX_FILTER_LENGTH: Final = 10_000
_MAX_NESTING: Final = 30
_PREFIX: Final = re.compile(r"[^%_\\]+%")
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`", re.DOTALL)
_SAMPLE: Final = 80


def check_filter(text: str) -> None:
    """Raise a ValueError that says what is wrong with the filter and what to write instead."""
    if not text.strip():
        raise ValueError("the filter is empty; leave it unset to take every row")
    if len(text) > MAX_FILTER_LENGTH:
        raise ValueError(f"a filter has at most {MAX_FILTER_LENGTH} characters, this one has {len(text)}")
    _check_nesting(text)
    # With a stack of its own: a chain of a thousand ANDs is as deep a tree, but not nested.
    pending = [(_parse(text), 0)]
    while pending:
        node, depth = pending.pop()
        depth += isinstance(node, exp.Not | exp.Paren)
        if depth > _MAX_NESTING:
            raise ValueError(f"the filter nests NOT and parentheses more than {_MAX_NESTING} deep")
        pending.extend((below, depth) for below in _check_node(node))


def _check_nesting(text: str) -> None:
    """Refuse what would take the parser, which descends for each parenthesis, too deep."""
    depth = 0
    for character in _QUOTED.sub("", text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth > _MAX_NESTING:
            raise ValueError(f"the filter nests parentheses more than {_MAX_NESTING} deep")


def _parse(text: str) -> exp.Expr:
    try:
        tree = sqlglot.parse_one(text, dialect="spark", into=exp.Condition)
    except SqlglotError as error:
        raise ValueError("the filter is no SQL expression; write one condition, such as region = 'eu'") from error
    except RecursionError as error:
        raise ValueError("the filter is nested too deeply") from error
    if not isinstance(tree, exp.Expr):
        raise ValueError("the filter is no SQL expression; write one condition, such as region = 'eu'")
    if any(node.comments for node in tree.walk()):
        raise ValueError("the filter holds a comment; a policy's description is the place for it")
    return tree


def _check_node(node: exp.Expr) -> Iterator[exp.Expr]:
    """Check one node of the tree and yield the conditions below it."""
    match node:
        case exp.And() | exp.Or():
            yield node.left
            yield node.right
        case exp.Not() | exp.Paren():
            yield node.this
        case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
            _check_comparison(node)
        case exp.In():
            _check_column(node.this)
            if not node.expressions or any(node.args.get(key) for key in ("query", "unnest", "field")):
                raise ValueError(f"in {_shown(node)} the list after IN must be literals, at least one")
            for literal in node.expressions:
                _check_literal(literal)
        case exp.Between():
            _check_column(node.this)
            _check_literal(node.args["low"])
            _check_literal(node.args["high"])
        case exp.Is():
            _check_column(node.this)
            if not isinstance(node.expression, exp.Null):
                raise ValueError(f"in {_shown(node)} only NULL may follow IS; compare with = instead")
        case exp.Like():
            _check_like(node)
        case _:
            raise ValueError(
                f"{_shown(node)} is no condition that an Iceberg scan can plan with; use comparisons, IN, BETWEEN, "
                "IS NULL and LIKE 'prefix%' of columns and literals, joined by AND, OR and NOT"
            )


def _check_comparison(node: exp.Expr) -> None:
    left, right = node.args["this"], node.args["expression"]
    column, literal = (left, right) if _is_column(left) else (right, left)
    if not _is_column(column) or _is_column(literal):
        raise ValueError(
            f"{_shown(node)} does not compare a column (bare or in backticks) with a literal (strings in quotes)"
        )
    _check_literal(literal)


def _check_like(node: exp.Like) -> None:
    _check_column(node.this)
    pattern = node.expression
    if not (isinstance(pattern, exp.Literal) and pattern.is_string and _PREFIX.fullmatch(pattern.this)):
        raise ValueError(f"in {_shown(node)} the pattern must be a prefix and one % at its end, such as 'web-%'")


def _check_column(node: exp.Expr) -> None:
    if not _is_column(node):
        raise ValueError(f"{_shown(node)} is no column name")


def _is_column(node: exp.Expr) -> bool:
    while isinstance(node, exp.Dot):
        if not isinstance(node.expression, exp.Identifier):
            return False
        node = node.this
    return isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier)


def _check_literal(node: exp.Expr) -> None:
    number = node.this if isinstance(node, exp.Neg) else node
    if isinstance(number, exp.Literal) and (not number.is_string or number is node):
        return
    if isinstance(node, exp.Boolean) or _is_time(node):
        return
    if isinstance(node, exp.Null):
        raise ValueError("nothing compares with NULL; write IS NULL or IS NOT NULL")
    if isinstance(node, exp.Concat):
        raise ValueError(f"in {_shown(node)} two strings stand side by side; write a quote inside a string as \\'")
    raise ValueError(
        f"{_shown(node)} is no literal; allowed are numbers, strings, TRUE, FALSE, DATE '2026-01-31' and "
        "TIMESTAMP '2026-01-31 00:00:00'"
    )


def _is_time(node: exp.Expr) -> bool:
    """Whether the node is a DATE or TIMESTAMP literal; one that names no day or instant is refused at once."""
    # The dialect reads `DATE '…'` as Cast and `CAST('…' AS DATE)` as its subclass TryCast.
    if type(node) is not exp.Cast or not (isinstance(node.this, exp.Literal) and node.this.is_string):
        return False
    read = {
        exp.DType.DATE: date.fromisoformat,
        exp.DType.TIMESTAMP: datetime.fromisoformat,
        exp.DType.TIMESTAMPTZ: datetime.fromisoformat,
        exp.DType.TIMESTAMPNTZ: datetime.fromisoformat,
    }.get(node.to.this)
    if read is None:
        return False
    try:
        read(node.this.this)
    except ValueError as error:
        raise ValueError(
            f"{_shown(node.this)} is no date or time; write it as 2026-01-31 or 2026-01-31 00:00:00"
        ) from error
    return True


def _shown(node: exp.Expr) -> str:
    try:
        text = node.sql(dialect="spark")
    except RecursionError:
        return "the filter"
    return text if len(text) <= _SAMPLE else text[:_SAMPLE] + "…"
