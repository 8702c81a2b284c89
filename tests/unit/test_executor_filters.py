from __future__ import annotations

import pytest

from executor.actions.errors import Refused
from executor.actions.filters import And, Compare, Comparison, Condition, In, IsNull, Not, Or, parse_filter

COLUMNS = {
    "id": "long",
    "Day": "date",
    "at": "timestamptz",
    "local": "timestamp",
    "price": "decimal(9, 2)",
    "ratio": "double",
    "kind": "string",
    "good": "boolean",
    "key": "uuid",
    "detail.level": "int",
    "raw": "binary",
}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("id = 1", Compare("id", Comparison.EQUAL, 1)),
        ("1 <= id", Compare("id", Comparison.GREATER_OR_EQUAL, 1)),
        ("id <> -1", Compare("id", Comparison.NOT_EQUAL, -1)),
        ("DAY = DATE '2026-01-31'", Compare("Day", Comparison.EQUAL, "2026-01-31")),
        (
            "at < TIMESTAMP '2026-01-31 01:00:00'",
            Compare("at", Comparison.LESS, "2026-01-31T01:00:00.000000+00:00"),
        ),
        ("at < '2026-01-31T01:00:00+02:00'", Compare("at", Comparison.LESS, "2026-01-30T23:00:00.000000+00:00")),
        ("local = '2026-01-31 01:00:00'", Compare("local", Comparison.EQUAL, "2026-01-31T01:00:00.000000")),
        ("price > 1", Compare("price", Comparison.GREATER, "1.00")),
        ("ratio = 1", Compare("ratio", Comparison.EQUAL, 1.0)),
        ("good = false", Compare("good", Comparison.EQUAL, False)),
        ("`detail`.level IN (1, 2)", In("detail.level", [1, 2])),
        ("kind IS NOT NULL", Not(IsNull("kind"))),
        ("kind LIKE 'ab%'", Compare("kind", Comparison.STARTS_WITH, "ab")),
        ("kind NOT LIKE 'ab%'", Not(Compare("kind", Comparison.STARTS_WITH, "ab"))),
        ("id NOT IN (1)", Not(In("id", [1]))),
        (
            "id NOT BETWEEN 1 AND 2",
            Not(And(Compare("id", Comparison.GREATER_OR_EQUAL, 1), Compare("id", Comparison.LESS_OR_EQUAL, 2))),
        ),
        (
            "(id = 1 OR id = 2) AND good = true",
            And(
                Or(Compare("id", Comparison.EQUAL, 1), Compare("id", Comparison.EQUAL, 2)),
                Compare("good", Comparison.EQUAL, True),
            ),
        ),
    ],
)
def test_a_condition_is_read_with_its_literals_in_the_columns_type(text: str, read: Condition) -> None:
    assert parse_filter(text, COLUMNS) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id =",
        "id",
        "nope = 1",
        "id = 'x'",
        "id = 1.5",
        "id = NULL",
        "id = id",
        "lower(kind) = 'x'",
        "kind = 5",
        "kind LIKE '%x'",
        "kind LIKE 'a%b%'",
        "kind LIKE ANY ('a%')",
        "kind <=> 'x'",
        "id BETWEEN SYMMETRIC 1 AND 2",
        "id IN (SELECT 1)",
        "id IN ()",
        "price = 1.234",
        "Day = TIMESTAMP '2026-01-31 01:00:00'",
        "local = '2026-01-31T01:00:00+02:00'",
        "raw = 'x'",
        "key = 'x'",
        "good = 1",
        "1 = 1",
    ],
)
def test_what_an_iceberg_scan_cannot_plan_with_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="filter"):
        parse_filter(text, COLUMNS)


def test_a_long_chain_is_read_as_a_shallow_tree() -> None:
    def depth(condition: Condition) -> int:
        return 1 + max(depth(condition.left), depth(condition.right)) if isinstance(condition, And) else 1

    assert depth(parse_filter(" AND ".join(f"id <> {each}" for each in range(500)), COLUMNS)) <= 10
