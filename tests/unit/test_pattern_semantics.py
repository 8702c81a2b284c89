"""docs/semantics.md sections 1 and 2, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.domain.errors import InvalidArgument
from control_plane.domain.identifiers import OperationType, TableName
from control_plane.domain.pattern import Pattern
from control_plane.domain.policy import Policy, PolicySpec
from control_plane.domain.resolution import LossReason, resolve
from control_plane.domain.scheduling import PolicyMode

TABLES = (
    "lake.sales.events",
    "lake.sales.tmp",
    "lake.eu.sales.events",
    "sea.sales.events",
    "lake.prod_1.events_7",
    "lake.prod_1.events_77",
    'lake."a*b".t',
    "lake.axb.t",
    "lake.Sales.events",
    'lake."a.b".t',
)
MATCHES: list[tuple[str, str, set[str]]] = [
    ("every table", "*", set(TABLES)),
    (
        "a table by its name, wherever it is",
        "events",
        {"lake.sales.events", "lake.eu.sales.events", "sea.sales.events", "lake.Sales.events"},
    ),
    ("one-level namespace and table in any catalog", "sales.events", {"lake.sales.events", "sea.sales.events"}),
    ("a namespace, not below it", "lake.sales.*", {"lake.sales.events", "lake.sales.tmp"}),
    (
        "every one-level namespace",
        "lake.*.*",
        set(TABLES) - {"lake.eu.sales.events", "sea.sales.events"},
    ),
    ("a two-level namespace", "lake.eu.sales.*", {"lake.eu.sales.events"}),
    ("a catalog at any depth", "lake.**", set(TABLES) - {"sea.sales.events"}),
    ("a namespace and below it", "lake.eu.**", {"lake.eu.sales.events"}),
    ("** includes the namespace itself", "lake.sales.**", {"lake.sales.events", "lake.sales.tmp"}),
    ("* is any run, ? one character inside a part", "lake.prod_*.events_?", {"lake.prod_1.events_7"}),
    ("in quotes nothing is a wildcard", 'lake."a*b".t', {'lake."a*b".t'}),
    ("a part with a dot stands in quotes", 'lake."a.b".t', {'lake."a.b".t'}),
    ("an expression over the whole name", "/lake\\.prod_\\d+\\.events_\\d/", {"lake.prod_1.events_7"}),
    ("an expression has to match to the end", "/lake\\.sales/", set()),
    (
        "an expression may hold a comma",
        "/lake\\.prod_1\\.events_\\d{1,2}/",
        {"lake.prod_1.events_7", "lake.prod_1.events_77"},
    ),
    ("a list matches what an item matches", "lake.axb.*, sea.**", {"lake.axb.t", "sea.sales.events"}),
    ("an exclusion wins", "lake.sales.*, !lake.sales.tmp", {"lake.sales.events"}),
    ("an exclusion wins wherever it stands", "!*.*.tmp, lake.sales.*", {"lake.sales.events"}),
    ("case counts", "lake.Sales.*", {"lake.Sales.events"}),
]


@pytest.mark.parametrize(("pattern", "tables"), [row[1:] for row in MATCHES], ids=[f"§1 {row[0]}" for row in MATCHES])
def test_a_pattern_matches(pattern: str, tables: set[str]) -> None:
    parsed = Pattern.parse(pattern)

    assert {table for table in TABLES if parsed.matches(TableName.parse(table))} == tables


REFUSED = [
    ("empty", ""),
    ("empty part", "lake..t"),
    ("empty item", "lake.**,"),
    ("only exclusions", "!lake.**, !sea.**"),
    ("257 characters", "a" * 257),
    ("a control character", "la\x07ke.**"),
    ("** not last", "lake.**.t"),
    ("** without a catalog", "**"),
    ("** inside a part", "lake.a**.t"),
    ("an open quote", 'lake."a.t'),
    ("an expression that is not closed", "/lake"),
    ("an empty expression", "//"),
    ("a look-ahead, which RE2 has not", "/(?=a)b/"),
    ("a back reference, which RE2 has not", "/(a)\\1/"),
    ("an expression too large to compile", "/\\pL{1000}/"),
    ("a double exclusion", "*, !!lake.**"),
]


@pytest.mark.parametrize("pattern", [row[1] for row in REFUSED], ids=[f"§1 {row[0]}" for row in REFUSED])
def test_a_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        Pattern.parse(pattern)


SPECIFICITY = [
    ("lake.sales.events", 222),
    ("lake.sales.*", 220),
    ("lake.sales.**", 220),
    ("lake.sales.ev*", 221),
    ("lake.*.events", 202),
    ("lake.s*.events", 212),
    ("lake.**", 200),
    ("la*.sales.events", 122),
    ("/lake\\..*/", 111),
    ("sales.events", 22),
    ("events", 2),
    ("ev*", 1),
    ("*", 0),
    ("lake.**, lake.sales.events", 222),
    ("lake.**, other.sales.events", 200),
]


@pytest.mark.parametrize(
    ("pattern", "specificity"), SPECIFICITY, ids=[f"§1 specificity of {row[0]}" for row in SPECIFICITY]
)
def test_a_pattern_names_a_table_more_or_less_closely(pattern: str, specificity: int) -> None:
    assert Pattern.parse(pattern).specificity(TableName.parse("lake.sales.events")) == specificity


def test_a_namespace_counts_as_its_least_specific_level() -> None:
    assert Pattern.parse("lake.eu.*.events").specificity(TableName.parse("lake.eu.sales.events")) == 202


EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
KIND = OperationType.REWRITE_DATA_FILES


def policy(name: str, pattern: str = "*", *, created: int = 0, **more: Any) -> Policy:
    spec = PolicySpec.stored({"name": name, "tablePattern": pattern, "rewriteDataFiles": {}} | more)
    time = EPOCH + timedelta(seconds=created)
    return Policy(spec, generation=1, etag="e", create_time=time, update_time=time)


GOVERNING: list[tuple[str, list[Policy], str | None, dict[str, LossReason]]] = [
    (
        "priority counts before closeness",
        [policy("a", "lake.sales.events"), policy("b", priority=1)],
        "b",
        {"a": LossReason.LOWER_PRIORITY},
    ),
    (
        "an unset priority is 0",
        [policy("a", priority=0), policy("b", created=1), policy("c", priority=-1)],
        "b",
        {"a": LossReason.CREATED_EARLIER, "c": LossReason.LOWER_PRIORITY},
    ),
    (
        "closeness counts before the time of creation",
        [policy("a", "lake.sales.*"), policy("b", "lake.**", created=9)],
        "a",
        {"b": LossReason.LESS_SPECIFIC},
    ),
    ("the later one", [policy("a", created=1), policy("b", created=2)], "b", {"a": LossReason.CREATED_EARLIER}),
    ("the first by name", [policy("b"), policy("a")], "a", {"b": LossReason.LATER_NAME}),
    (
        "a disabled one governs nothing",
        [policy("a", priority=9, enabled=False), policy("b")],
        "b",
        {"a": LossReason.DISABLED},
    ),
    ("nobody, and why", [policy("a", enabled=False)], None, {"a": LossReason.DISABLED}),
    ("a policy without the operation takes no part", [policy("a", rewriteDataFiles=None)], None, {}),
    ("a pattern that does not match takes no part", [policy("a", "sea.**"), policy("b")], "b", {}),
    (
        "SHADOW never displaces ACTIVE",
        [policy("a", mode="SHADOW", priority=9), policy("b"), policy("c", mode="ACTIVE", created=1)],
        "c",
        {"b": LossReason.CREATED_EARLIER},
    ),
]


@pytest.mark.parametrize(
    ("policies", "winner", "losers"), [row[1:] for row in GOVERNING], ids=[f"§2 {row[0]}" for row in GOVERNING]
)
def test_a_policy_governs(policies: list[Policy], winner: str | None, losers: dict[str, LossReason]) -> None:
    found = resolve(policies, TableName.parse("lake.sales.events"), KIND)

    assert (found.winner.name if found.winner else None) == winner
    assert {loser.policy: loser.reason for loser in found.losers} == losers


def test_shadow_policies_are_resolved_among_themselves() -> None:
    shadows = [policy("a", mode="SHADOW"), policy("b", mode="SHADOW", priority=1), policy("c", priority=9)]

    found = resolve(shadows, TableName.parse("lake.sales.events"), KIND, mode=PolicyMode.SHADOW)

    assert found.winner is shadows[1]
    assert [(loser.policy, loser.reason) for loser in found.losers] == [("a", LossReason.LOWER_PRIORITY)]
