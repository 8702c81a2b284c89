from __future__ import annotations

from typing import Any

import pytest

from control_plane.domain.errors import InvalidArgument
from control_plane.domain.policy_update import updated_document

CURRENT: dict[str, Any] = {
    "name": "p",
    "tablePattern": "*",
    "priority": 3,
    "tags": {"a": "1"},
    "expireSnapshots": {"retainLast": 3, "maxSnapshotAge": "P3D"},
}


def update(changes: dict[str, Any], *paths: str) -> dict[str, Any]:
    return updated_document(CURRENT, {"name": "p"} | changes, paths=paths)


def test_only_the_named_fields_change() -> None:
    assert update({"priority": 4, "tablePattern": "x"}, "priority") == CURRENT | {"priority": 4}


def test_a_named_field_that_is_not_set_is_unset() -> None:
    assert "priority" not in update({}, "priority")
    assert update({}, "expire_snapshots.retain_last")["expireSnapshots"] == {"maxSnapshotAge": "P3D"}


def test_a_path_may_name_one_field_of_a_config() -> None:
    updated = update({"expireSnapshots": {"retainLast": 9, "maxSnapshotAge": "P9D"}}, "expire_snapshots.retain_last")

    assert updated == CURRENT | {"expireSnapshots": {"retainLast": 9, "maxSnapshotAge": "P3D"}}


def test_a_path_into_a_config_that_is_not_there_makes_it() -> None:
    updated = update({"rewriteDataFiles": {"minInputFiles": 2}}, "rewriteDataFiles.minInputFiles")

    assert updated == CURRENT | {"rewriteDataFiles": {"minInputFiles": 2}}


def test_without_a_mask_the_fields_that_are_set_change_as_a_whole() -> None:
    assert update({"priority": 4, "expireSnapshots": {}}) == CURRENT | {"priority": 4, "expireSnapshots": {}}


def test_a_star_takes_everything_but_the_name() -> None:
    assert updated_document(CURRENT, {"name": "q", "tablePattern": "x"}, paths=["*"]) == {
        "name": "p",
        "tablePattern": "x",
    }


def test_an_update_leaves_the_current_document_alone() -> None:
    before = repr(CURRENT)

    update({"expireSnapshots": {"retainLast": 9}, "tags": {}}, "tags", "expire_snapshots.retain_last")

    assert repr(CURRENT) == before


@pytest.mark.parametrize(
    "paths",
    [
        ["name"],
        ["nothing"],
        ["generation"],
        ["tags.a"],
        ["priority.x"],
        ["expire_snapshots.nothing"],
        ["expire_snapshots.retain_last.x"],
        ["*", "priority"],
        [""],
    ],
)
def test_a_mask_that_names_no_changeable_field_is_refused(paths: list[str]) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        updated_document(CURRENT, CURRENT, paths=paths)

    assert [violation.field for violation in refusal.value.violations] == ["updateMask"]
