"""The pattern matcher against a naive one that follows the definition word for word."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.errors import InvalidArgument
from control_plane.domain.identifiers import CatalogName, TableName, quoted
from control_plane.domain.pattern import Pattern

LETTERS = "ab.\",'é+\\"

names = st.text(alphabet=LETTERS, min_size=1, max_size=4)
tables = st.builds(
    TableName,
    st.builds(CatalogName, names),
    st.lists(names, min_size=1, max_size=3).map(tuple),
    names,
)
globs = st.text(alphabet="ab*?", min_size=1, max_size=3).filter(lambda glob: "**" not in glob)
written_parts = st.one_of(globs, names.map(lambda name: '"' + name.replace('"', '""') + '"'))
dotted = st.lists(written_parts, min_size=1, max_size=4)
deep = st.lists(written_parts, min_size=1, max_size=3).map(lambda parts: [*parts, "**"])
items = st.one_of(dotted, deep)


def part_matches(part: str, name: str) -> bool:
    if part.startswith('"'):
        return part[1:-1].replace('""', '"') == name
    if not part:
        return not name
    if part[0] == "*":
        return any(part_matches_rest(part[1:], name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and part[0] in ("?", name[0]) and part_matches_rest(part[1:], name[1:])


def part_matches_rest(part: str, name: str) -> bool:
    return part_matches(part, name) if part else not name


def item_matches(parts: list[str], table: TableName) -> bool:
    if parts[-1] == "**":
        fixed = parts[:-1]
        enough = len(table.parts) > len(fixed)
        return enough and all(map(part_matches, fixed, table.parts[:-1]))
    if len(parts) == 1:
        return part_matches(parts[0], table.name)
    if len(parts) == 2:
        return len(table.namespace) == 1 and all(map(part_matches, parts, (table.namespace[0], table.name)))
    return len(parts) == len(table.parts) and all(map(part_matches, parts, table.parts))


@given(st.lists(items, min_size=1, max_size=3), st.lists(items, max_size=2), tables)
def test_a_pattern_matches_what_its_definition_says(
    inclusions: list[list[str]], exclusions: list[list[str]], table: TableName
) -> None:
    text = ", ".join([*map(".".join, inclusions), *("!" + ".".join(item) for item in exclusions)])
    expected = any(item_matches(item, table) for item in inclusions) and not any(
        item_matches(item, table) for item in exclusions
    )

    assert Pattern.parse(text).matches(table) is expected


@given(tables)
def test_a_table_written_in_quotes_is_matched_by_itself_alone_and_most_closely(table: TableName) -> None:
    text = ".".join('"' + part.replace('"', '""') + '"' for part in table.parts)
    pattern = Pattern.parse(text)

    assert pattern.specificity(table) == 222


@given(tables)
def test_a_regular_expression_sees_the_name_as_it_is_written(table: TableName) -> None:
    source = re.escape(str(table)).replace("/", "\\/")

    assert Pattern.parse(f"/{source}/").matches(table)


@given(tables)
def test_a_name_written_and_read_is_the_same(table: TableName) -> None:
    assert TableName.parse(str(table)) == table
    assert all(part == quoted(part) or quoted(part).startswith('"') for part in table.parts)


@given(st.text(max_size=300))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except InvalidArgument:
        return
    pattern.matches(TableName.parse("lake.sales.events"))
    assert pattern.text == text
