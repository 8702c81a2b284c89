"""The index of policies against trying every one of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.identifiers import CatalogName, OperationType, TableName
from control_plane.domain.pattern import Pattern
from control_plane.domain.policy import Policy, PolicySpec
from control_plane.domain.policy_index import PolicyIndex, Reach, coarse
from control_plane.domain.resolution import resolve
from control_plane.domain.scheduling import PolicyMode

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

names = st.text(alphabet='ab."é*', min_size=1, max_size=2)
tables = st.builds(TableName, st.builds(CatalogName, names), st.lists(names, min_size=1, max_size=3).map(tuple), names)
parts = st.one_of(
    st.sampled_from(["*", "a", "b", "a*", "?", "*b", "a?"]),
    names.map(lambda name: '"' + name.replace('"', '""') + '"'),
)
dotted = st.lists(parts, min_size=1, max_size=4).map(".".join)
deep = st.lists(parts, min_size=1, max_size=3).map(lambda written: ".".join([*written, "**"]))
regexes = st.sampled_from(["/.*/", "/a\\..*/", "/.*\\.b/", "/[ab]\\.[ab]\\.[ab]/", '/"a\\..*/', "/(?i)A\\..*é/"])
items = st.one_of(dotted, deep, regexes)
patterns = st.builds(
    lambda some, others: ", ".join([*some, *(f"!{other}" for other in others)]),
    st.lists(items, min_size=1, max_size=3),
    st.lists(items, max_size=1),
)
documents = st.fixed_dictionaries(
    {"tablePattern": patterns},
    optional={
        "priority": st.integers(-1, 1),
        "enabled": st.booleans(),
        "mode": st.sampled_from(PolicyMode),
        "rewriteDataFiles": st.just({}),
        "expireSnapshots": st.just({}),
    },
)


def policy(name: str, document: dict[str, Any], *, created: int = 0) -> Policy:
    spec = PolicySpec.stored({"name": name} | document)
    time = EPOCH + timedelta(seconds=created)
    return Policy(spec, generation=1, etag="e", create_time=time, update_time=time)


policies = st.lists(st.tuples(documents, st.integers(0, 2)), max_size=8).map(
    lambda drawn: [policy(f"p{n}", document, created=created) for n, (document, created) in enumerate(drawn)]
)


@given(policies, st.lists(tables, min_size=1, max_size=5))
def test_the_index_says_what_trying_every_policy_says(policies: list[Policy], tables: list[TableName]) -> None:
    index = PolicyIndex(policies)

    for table in tables:
        assert index.candidates(table) == [each for each in policies if each.spec.pattern.matches(table)]
        for mode in PolicyMode:
            found = index.resolve_all(table, mode)
            for kind in OperationType:
                expected = resolve(policies, table, kind, mode=mode)
                assert index.resolve(table, kind, mode) == expected
                assert found[kind] == expected


@given(patterns, tables)
def test_no_table_outside_its_reaches_matches_a_pattern(pattern: str, table: TableName) -> None:
    parsed = Pattern.parse(pattern)
    here = Reach(table.catalog, table.namespace)

    if parsed.matches(table):
        assert any(reach.covers(here) for reach in coarse(parsed))


@pytest.mark.parametrize(
    ("pattern", "reaches"),
    [
        ("*", [Reach(None, None)]),
        ("events", [Reach(None, None)]),
        ("sales.events", [Reach(None, ("sales",))]),
        ("lake.**", [Reach(CatalogName("lake"), None)]),
        ("lake.sales.**", [Reach(CatalogName("lake"), ("sales",))]),
        ("lake.eu.*.orders", [Reach(CatalogName("lake"), ("eu",))]),
        ("lake.eu.sales.orders", [Reach(CatalogName("lake"), ("eu", "sales"))]),
        ("lake.e*.sales.orders", [Reach(CatalogName("lake"), None)]),
        ('"a.b".c.d, la*.c.d', [Reach(None, ("c",))]),
        (
            "lake.sales.a, lake.sales.b, sea.**",
            [Reach(CatalogName("lake"), ("sales",)), Reach(CatalogName("sea"), None)],
        ),
        ("lake.**, lake.sales.a", [Reach(CatalogName("lake"), None)]),
        ("/lake\\..*/, lake.sales.a", [Reach(None, None)]),
        ("lake.**, !lake.tmp.*", [Reach(CatalogName("lake"), None)]),
    ],
)
def test_a_pattern_reaches_no_further_than_the_parts_that_it_names(pattern: str, reaches: list[Reach]) -> None:
    assert coarse(Pattern.parse(pattern)) == reaches


def test_the_largest_expressions_that_are_accepted_fit_into_their_automata() -> None:
    large = [policy(f"l{n}", {"tablePattern": f"/.{{{1_000 - n}}}|.{{{n}}}/"}) for n in range(100)]
    name = "x" * (77 - len("lake.sales."))

    found = PolicyIndex(large).candidates(TableName.parse(f"lake.sales.{name}"))

    assert [each.name for each in found] == ["l77"]
