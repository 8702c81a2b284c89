"""Policy files: read as plain data within limits, every mistake named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from floe.v1.policy_pb2 import Policy
from floe_client import FieldViolation, InvalidArgument
from floe_client.cli.documents import MAX_BYTES, Document, parse_documents, read_documents

GOOD = """\
# Compaction of everything in the lake.
name: compact
tablePattern: lake.**
enabled: true
priority: 10
tags: {team: data}
rewriteDataFiles:
  strategy: SORT
  sortOrder:
    - day desc
    - id
  targetFileSizeBytes: 134217728
  deleteRatioThreshold: 0.25
expireSnapshots:
  maxSnapshotAge: P7D
  expireSnapshotIds: ["9007199254740993", 12]
---
name: nothing-yet
tablePattern: "*"
expireSnapshots: {}
"""


def parse(text: str) -> list[Document]:
    return parse_documents(text.encode(), "p.yaml")


def wrong(text: str) -> list[FieldViolation]:
    with pytest.raises(InvalidArgument) as failure:
        parse(text)[0].message(Policy)
    return list(failure.value.violations)


def test_a_file_of_several_policies_becomes_their_messages() -> None:
    first, second = (document.message(Policy) for document in parse(GOOD))

    assert first.rewrite_data_files.sort_order == ["day desc", "id"]
    assert first.rewrite_data_files.target_file_size_bytes == 134217728
    assert first.expire_snapshots.max_snapshot_age == "P7D"
    assert list(first.expire_snapshots.expire_snapshot_ids) == [9007199254740993, 12]
    assert dict(first.tags) == {"team": "data"}
    assert first.enabled
    assert second.HasField("expire_snapshots")
    assert not second.HasField("enabled")


def test_json_is_read_as_well() -> None:
    (document,) = parse('{"name": "a", "tablePattern": "*", "expireSnapshots": {"retainLast": 3}}')

    assert document.message(Policy).expire_snapshots.retain_last == 3


def test_an_unknown_field_is_refused_with_the_nearest_known_one_and_its_line() -> None:
    assert wrong("name: a\nrewriteDataFiles:\n  targetFileSizeByte: 5\n") == [
        FieldViolation(
            "p.yaml:3 rewriteDataFiles.targetFileSizeByte", "is not known; did you mean targetFileSizeBytes?"
        )
    ]


def test_the_wire_names_of_fields_are_not_those_of_files() -> None:
    assert wrong("name: a\ntable_pattern: x\n") == [
        FieldViolation("p.yaml:2 table_pattern", "is not known; did you mean tablePattern?")
    ]


@pytest.mark.parametrize(
    ("line", "violation"),
    [
        ("priority: high", ("p.yaml:2 priority", "must be a whole number, not 'high'")),
        ("priority: 1.5", ("p.yaml:2 priority", "must be a whole number, not 1.5")),
        ("priority: true", ("p.yaml:2 priority", "must be a whole number, not true")),
        ("enabled: yes", ("p.yaml:2 enabled", "must be true or false, not 'yes'")),
        ("description: 5", ("p.yaml:2 description", "must be a text; put it in quotes, not 5")),
        ("tags: [a]", ("p.yaml:2 tags", "must be a mapping, not a list")),
        ("tags: {a: 1}", ("p.yaml:2 tags.a", "must be a text; put it in quotes, not 1")),
        ("rewriteDataFiles: {sortOrder: id}", ("p.yaml:2 rewriteDataFiles.sortOrder", "must be a list, not 'id'")),
        (
            "rewriteDataFiles: {sortOrder: [id, 5]}",
            ("p.yaml:2 rewriteDataFiles.sortOrder[1]", "must be a text; put it in quotes, not 5"),
        ),
        (
            "expireSnapshots: 5",
            ("p.yaml:2 expireSnapshots", "must be a mapping of field names to values, not 5"),
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_by_its_line(line: str, violation: tuple[str, str]) -> None:
    assert wrong(f"name: a\n{line}\n") == [FieldViolation(*violation)]


def test_all_mistakes_are_told_at_once() -> None:
    assert len(wrong("name: 1\npriority: x\nfoo: 2\n")) == 3


def test_a_number_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="out of range"):
        parse("name: a\npriority: 99999999999999\n")[0].message(Policy)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\nname: b\n", "p.yaml:2: 'name' stands here a second time"),
        ("a: &x 1\nb: *x\n", "p.yaml:1: anchors and aliases are not read"),
        ("a: &x [*x]\n", "p.yaml:1: anchors and aliases are not read"),
        ("a: !!python/object/apply:os.system [ls]\n", "p.yaml:1"),
        ("a: !mine 1\n", "p.yaml:1: the tag !mine is not read"),
        ("a: !!binary aGk=\n", "the tag !!binary is not read"),
        ("a: !!omap {b: 1}\n", "p.yaml:1"),
        ("? [a]\n: 1\n", "p.yaml:1: a field name has to be plain text"),
        ("a: [1, 2\n", "p.yaml:"),
        ("- a\n", "p.yaml:1: a document has to be a mapping"),
        ("just text\n", "p.yaml:1: a document has to be a mapping"),
        ("# nothing\n---\n", "p.yaml holds no document"),
        ("a: " + "[" * 100 + "]" * 100, "nested more than 32 levels deep"),
        ("a: " + "[" * 20_000 + "]" * 20_000, "nested too deeply"),
        ("a: " + "x" * MAX_BYTES, "is larger than"),
        ("a: 1\n---\n" * 1_500, "more than 1,000 documents"),
    ],
)
def test_what_is_no_plain_data_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as failure:
        for document in parse(text):
            document.message(Policy)

    assert told in failure.value.message


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="is not UTF-8"):
        parse_documents(b"name: \xff\xfe\n", "p.yaml")


def test_what_the_server_finds_wrong_is_placed_in_the_file() -> None:
    (document, _) = parse(GOOD)
    found = InvalidArgument(
        "2 fields are wrong",
        violations=[
            FieldViolation("policy.rewriteDataFiles.sortOrder[1]", "names no column"),
            FieldViolation("rewriteDataFiles.minInputFiles", "must be at least 1"),
        ],
    )

    located = document.located(found)

    assert [bad.field for bad in located.violations] == [
        "p.yaml:11 rewriteDataFiles.sortOrder[1]",
        "p.yaml:7 rewriteDataFiles.minInputFiles",
    ]


def test_a_directory_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("name: b\n")
    (tmp_path / "a.json").write_text('{"name": "a"}')
    (tmp_path / "notes.txt").write_text("not a policy")

    assert [document.value["name"] for document in read_documents(str(tmp_path))] == ["a", "b"]


@pytest.mark.parametrize("name", ["missing.yaml", "empty"])
def test_a_source_that_holds_nothing_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(InvalidArgument, match=name):
        read_documents(str(tmp_path / name))
