from __future__ import annotations

import pytest

from executor.actions.file_paths import Prefixes, parse


@pytest.mark.parametrize(
    "spelling",
    ["/t/a b", "file:/t/a b", "file:///t/a%20b", "file://localhost//t//a%2520b", "FILE:/t/a b/"],
)
def test_spellings_of_one_file_have_one_key(spelling: str) -> None:
    found = parse(spelling)
    assert found is not None
    assert (found.scheme, found.authority, found.key, found.name) == ("file", "", "/t/a b", "a b")


@pytest.mark.parametrize("text", ["", "t/x", "/t/../x", "/t/%2e%2e/x", "s3:x", "/t/\udcff"])
def test_what_is_not_understood_has_no_key(text: str) -> None:
    assert parse(text) is None


def test_a_sibling_with_the_same_beginning_is_not_inside() -> None:
    inside, sibling, table = parse("/w/t/x"), parse("/w/t2/x"), parse("/w/t/")
    assert inside is not None and sibling is not None and table is not None
    assert inside.is_under(table)
    assert not sibling.is_under(table)


def test_schemes_and_authorities_are_the_same_only_if_somebody_says_so() -> None:
    one, other, alias = parse("s3://b/k"), parse("s3a://b/k"), parse("oss://c/k")
    assert one is not None and other is not None and alias is not None
    assert not Prefixes({}, {}).differ(one, other)
    assert Prefixes({}, {}).differ(one, alias)
    assert not Prefixes({"oss,cos": "s3"}, {"c": "b"}).differ(one, alias)
