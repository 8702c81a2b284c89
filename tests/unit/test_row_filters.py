from __future__ import annotations

import re

import pytest

from control_plane.domain.row_filter import MAX_FILTER_LENGTH, check_filter


@pytest.mark.parametrize(
    "text",
    [
        "region = 'eu'",
        "region <> 'eu'",
        "1 < amount",
        "amount >= -1.5 AND NOT (kind IN ('a', 'b') OR note IS NOT NULL)",
        "day BETWEEN DATE '2026-01-01' AND DATE '2026-01-31'",
        "at < TIMESTAMP '2026-01-31 12:00:00'",
        "`two words`.`select` = TRUE",
        "a.b.c.d.e.f = 1",
        "page LIKE 'web-%'",
        "page NOT LIKE 'web-%'",
        "id NOT IN (1, 2, 3)",
        "note = 'it\\'s (((( not nested'",
        "date > '2026-01-01'",
        " AND ".join(["a = 1"] * 1_000),
        "(" * 30 + "a = 1" + ")" * 30,
        "NOT " * 30 + "a = 1",
        "id IN (" + ", ".join(map(str, range(1_500))) + ")",
    ],
)
def test_what_an_iceberg_scan_can_plan_with_is_accepted(text: str) -> None:
    check_filter(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a = ", "no SQL expression"),
        ("a = 1 b", "no SQL expression"),
        ("a = 1; DROP TABLE t", "no SQL expression"),
        ("DROP TABLE t", "no SQL expression"),
        ("a = 'open", "no SQL expression"),
        ("TRUE", "no condition"),
        ("active", "no condition"),
        ("1 = 1", "a column"),
        ("a = b", "a column"),
        ("\"region\" = 'eu'", "backticks"),
        ("upper(a) = 'X'", "a column"),
        ("a = current_date()", "no literal"),
        ("a + 1 = 2", "a column"),
        ("-a = 1", "a column"),
        ("a[0] = 1", "a column"),
        ("a = 1 + 1", "no literal"),
        ("a = CAST('2026-01-01' AS DATE)", "no literal"),
        ("a = DATE '2026-02-30'", "no date"),
        ("a = NULL", "IS NULL"),
        ("a <=> 1", "no condition"),
        ("a IS TRUE", "only NULL"),
        ("a = 'it''s'", "side by side"),
        ("a IN ()", "at least one"),
        ("a IN (SELECT 1)", "must be literals"),
        ("a IN (1, b)", "no literal"),
        ("(a, b) IN ((1, 2))", "no column"),
        ("a = (SELECT max(x) FROM t)", "no literal"),
        ("EXISTS (SELECT 1)", "no condition"),
        ("a BETWEEN 1 AND b", "no literal"),
        ("a LIKE '%x'", "prefix"),
        ("a LIKE 'a_b%'", "prefix"),
        ("a LIKE 'abc'", "prefix"),
        ("a LIKE b", "prefix"),
        ("a LIKE 'b%' ESCAPE 'c'", "no condition"),
        ("a RLIKE 'x'", "no condition"),
        ("a = 1 -- because", "comment"),
        ("a = 1 /* because */", "comment"),
        (":p = 1", "a column"),
        ("${p} = 1", "a column"),
        ("t.* = 1", "a column"),
        ("(" * 31 + "a = 1" + ")" * 31, "parentheses"),
        ("NOT " * 31 + "a = 1", "nests NOT"),
        ("NOT " * 2_000 + "a = 1", "too deeply"),
        ("a = '" + "x" * MAX_FILTER_LENGTH + "'", "at most 10000"),
    ],
)
def test_anything_else_is_refused_and_says_why(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)) as refusal:
        check_filter(text)

    assert len(str(refusal.value)) < 500
