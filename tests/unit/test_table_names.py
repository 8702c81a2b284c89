from __future__ import annotations

import pytest

from control_plane.domain.errors import InvalidArgument
from control_plane.domain.identifiers import CatalogName, OperationType, TableName


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("lake.sales.events", ("lake", "sales", "events")),
        ('lake."a.b".t', ("lake", "a.b", "t")),
        ('lake.a.b."say ""hi"""', ("lake", "a", "b", 'say "hi"')),
        ('"my lake".s." t "', ("my lake", "s", " t ")),
    ],
)
def test_a_written_name_is_read_and_written_back(text: str, parts: tuple[str, ...]) -> None:
    name = TableName.parse(text)

    assert name.parts == parts
    assert TableName.parse(str(name)) == name


def test_only_what_needs_quotes_gets_them() -> None:
    assert str(TableName(CatalogName("my lake"), ("a.b", "c"), "t*")) == 'my lake."a.b".c.t*'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty part"),
        ("events", "catalog.namespace.table"),
        ("sales.events", "catalog.namespace.table"),
        ("lake..events", "empty part"),
        ("lake.sales.", "empty part"),
        (".lake.sales.t", "empty part"),
        ('lake."".t', "empty part"),
        ('lake."sales.t', "not closed"),
        ('lake."a"b.t', "dot after the closing quote"),
        ('lake.a"b.t', "double quote inside"),
        ("lake. sales.t", "white space"),
        ("lake.sales.t\n", "white space"),
        ("lake.sa\x00les.t", "control characters"),
        ("lake.sa\ud800les.t", "control characters"),
        ("lake.sales." + "t" * 256, "at most 255"),
        ("lake." + "n." * 17 + "t", "at most 16 levels"),
        ("a." * 6_000, "at most 10000 characters"),
    ],
)
def test_what_is_no_name_is_refused_and_says_why(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        TableName.parse(text, field="request.table")

    (violation,) = refusal.value.violations
    assert violation.field == "request.table"
    assert complaint in violation.description


def test_a_run_takes_data_files_before_snapshots() -> None:
    assert sorted(OperationType, key=lambda kind: kind.order) == [
        OperationType.REWRITE_DATA_FILES,
        OperationType.REWRITE_POSITION_DELETES,
        OperationType.REWRITE_MANIFESTS,
        OperationType.EXPIRE_SNAPSHOTS,
        OperationType.ORPHAN_CLEANUP,
        OperationType.COMPUTE_STATISTICS,
    ]
