from __future__ import annotations

import pytest

from control_plane.domain.errors import InvalidArgument
from control_plane.domain.identifiers import TableName
from control_plane.domain.pattern import Pattern


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*", ["lake.sales.t", "lake.a.b.t"], []),
        ("lake.*.*", ["lake.sales.t"], ["lake.a.b.t", "sea.sales.t"]),
        ("lake.**", ["lake.sales.t", "lake.a.b.t"], ["sea.sales.t"]),
        ("lake.sales.*", ["lake.sales.t"], ["lake.sales.eu.t", "lake.salesx.t"]),
        ("lake.sales.**", ["lake.sales.t", "lake.sales.eu.t"], ["lake.salesx.t", "lake.eu.sales.t"]),
        ("lake.prod_*.events_?", ["lake.prod_.events_1"], ["lake.prod.events_1", "lake.prod_a.events_12"]),
        ("events", ["lake.sales.events", "sea.a.b.events"], ["lake.events.t", "lake.sales.Events"]),
        ("sales.events", ["lake.sales.events", "sea.sales.events"], ["lake.a.sales.events", "lake.sales.t"]),
        (r"/lake\.prod_\d+\..*/", ["lake.prod_1.t", "lake.prod_22.a.t"], ["lake.prod_.t", "a lake.prod_1.t"]),
        (r"/.*\/.*/", ["lake.a/b.t"], ["lake.a.t"]),
        ("/a|lake.s.t/", ["lake.s.t"], ["lake.s.tt"]),
        ("/(?i)LAKE.*/", ["lake.s.t"], ["sea.s.t"]),
        ('/lake\\."a\\.b"\\.t/', ['lake."a.b".t'], ["lake.a.b.t"]),
        ('lake."a.b".t', ['lake."a.b".t'], ["lake.a.b.t"]),
        ('lake.s."*"', ["lake.s.*"], ["lake.s.t"]),
        ('lake.s."**"', ["lake.s.**"], ["lake.s.t", "lake.s.a.t"]),
        ('lake."a,b".t, sea.s.t', ['lake."a,b".t', "sea.s.t"], ["lake.a.t"]),
        ("/lake\\..{1,3}\\.t/, x", ["lake.abc.t", "lake.s.x"], ["lake.abcd.t"]),
        ("lake.**,!lake.tmp.*", ["lake.sales.t"], ["lake.tmp.t"]),
        ("!lake.tmp.*,lake.**, ! /.*_old/", ["lake.sales.t"], ["lake.tmp.t", "lake.s.t_old"]),
        ("lake.a+b.t(1)", ["lake.a+b.t(1)"], ["lake.aab.t1"]),
        ("lake.a+*.t", ["lake.a+b.t"], ["lake.aab.t"]),
    ],
)
def test_a_pattern_matches_these_and_not_those(pattern: str, matching: list[str], other: list[str]) -> None:
    parsed = Pattern.parse(pattern)

    assert [name for name in matching if not parsed.matches(TableName.parse(name))] == []
    assert [name for name in other if parsed.matches(TableName.parse(name))] == []


@pytest.mark.parametrize(
    ("pattern", "specificity"),
    [
        ("*", 0),
        ("events", 2),
        ("event*", 1),
        ("sales.events", 22),
        ("*.events", 2),
        ("lake.**", 200),
        ("lake.*.*", 200),
        ("lake.sales.**", 220),
        ("lake.sales.*", 220),
        ("lake.sal*.*", 210),
        ("lake.sales.events", 222),
        ("l*.s*.e*", 111),
        ("/.*/", 111),
        ("/.*/, lake.sales.events", 222),
        ("*, events", 2),
        ("lake.**, other.sales.events", 200),
        ('lake.sales."events"', 222),
        ("lake.sales.events, !x", 222),
        ("lake.other.events", None),
        ("*, !events", None),
    ],
)
def test_specificity_is_that_of_the_closest_item_that_matches(pattern: str, specificity: int | None) -> None:
    assert Pattern.parse(pattern).specificity(TableName.parse("lake.sales.events")) == specificity


def test_a_namespace_counts_as_its_least_specific_level() -> None:
    table = TableName.parse("lake.sales.eu.events")

    assert Pattern.parse("lake.sales.eu.events").specificity(table) == 222
    assert Pattern.parse("lake.sales.e*.events").specificity(table) == 212
    assert Pattern.parse("lake.sales.*.events").specificity(table) == 202


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("", "empty entry"),
        ("a,,b", "empty entry"),
        ("a,", "empty entry"),
        ("a,!", "empty entry"),
        ("!a", "only excludes"),
        ("!!a", "excluded twice"),
        ("lake..t", "empty part"),
        ("lake.s.", "empty part"),
        ("**", "`**` needs a catalog"),
        ("**.t", "only be the whole last part"),
        ("lake.**.t", "only be the whole last part"),
        ("lake.s.ev**", "only be the whole last part"),
        ("/lake", "not closed by a slash"),
        ("//", "empty regular expression"),
        ("/a/b/", "goes on after the closing slash"),
        ("/a(/", "RE2"),
        ("/(?=a)/", "RE2"),
        (r"/(a)\1/", "RE2"),
        ('lake."s', "not closed"),
        ("lake.s .t", "white space"),
        ("lake.s.t\x07", "control characters"),
        ("x" * 257, "at most 256"),
    ],
)
def test_what_is_no_pattern_is_refused_and_says_why(pattern: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        Pattern.parse(pattern)

    (violation,) = refusal.value.violations
    assert violation.field == "tablePattern"
    assert complaint in violation.description


@pytest.mark.parametrize("pattern", ["/" + "(a*)*" * 40 + "b/", "lake.s." + "*a" * 100])
def test_no_pattern_backtracks(pattern: str) -> None:
    # A backtracking matcher would not end within the timeout of this test.
    table = TableName.parse("lake.s." + "a" * 250 + "c")

    assert not Pattern.parse(pattern).matches(table)
