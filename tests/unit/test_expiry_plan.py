from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from executor.actions.errors import Refused
from executor.actions.expire_snapshots import plan_expiry
from executor.actions.table_metadata import Ref, Snapshot, TableMetadata
from executor.assignment import ExpireSnapshots

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def snapshot(number: int, parent: int | None, *, age: timedelta) -> Snapshot:
    return Snapshot(id=number, parent=parent, committed_at=NOW - age)


# main: 1 <- 2 <- 3 <- 4 (head), a snapshot a day, the head a day old; 9 was rolled back and belongs to nobody.
TABLE = TableMetadata(
    uuid="u",
    location="file:///t",
    current_snapshot=4,
    snapshots=[
        snapshot(1, None, age=4 * DAY),
        snapshot(2, 1, age=3 * DAY),
        snapshot(3, 2, age=2 * DAY),
        snapshot(4, 3, age=1 * DAY),
        snapshot(9, 1, age=3 * DAY),
    ],
    refs=[Ref("main", 4, is_branch=True)],
)
ALL = ExpireSnapshots(older_than=NOW, retain_last=1, floor=NOW)


def with_refs(*refs: Ref) -> TableMetadata:
    return replace(TABLE, refs=[*TABLE.refs, *refs])


def expiring(metadata: TableMetadata, action: ExpireSnapshots) -> list[int]:
    return list(plan_expiry(metadata, action, now=NOW).expiring)


def test_everything_but_the_head_goes_when_all_is_old() -> None:
    plan = plan_expiry(TABLE, ALL, now=NOW)

    assert plan.expiring == [1, 2, 9, 3]
    assert plan.retained == [4]


def test_the_last_ones_of_a_branch_stay_however_old() -> None:
    assert expiring(TABLE, replace(ALL, retain_last=3)) == [1, 9]


def test_what_is_younger_than_the_cut_off_stays() -> None:
    assert expiring(TABLE, replace(ALL, older_than=NOW - 2 * DAY)) == [1, 2, 9]


def test_a_tag_keeps_its_snapshot_but_not_its_ancestors() -> None:
    assert expiring(with_refs(Ref("v1", 2, is_branch=False)), ALL) == [1, 9, 3]


def test_a_branchs_own_settings_win() -> None:
    metadata = with_refs(Ref("audit", 9, is_branch=True, min_snapshots_to_keep=2))

    assert expiring(metadata, ALL) == [2, 3]


def test_a_branchs_own_maximum_age_keeps_and_takes() -> None:
    main = Ref("main", 4, is_branch=True, max_snapshot_age=3 * DAY)

    assert expiring(replace(TABLE, refs=[main]), replace(ALL, older_than=NOW - 100 * DAY)) == [1]


def test_named_snapshots_go_and_nothing_else() -> None:
    assert expiring(TABLE, replace(ALL, snapshot_ids=[2], retain_last=100)) == [2]


@pytest.mark.parametrize(
    ("metadata", "action", "said"),
    [
        (replace(TABLE, properties={"gc.enabled": "false"}), ALL, "gc.enabled"),
        (TABLE, replace(ALL, retain_last=0), "retainLast"),
        (TABLE, replace(ALL, floor=NOW - 3 * DAY), "floor"),
        (TABLE, replace(ALL, snapshot_ids=[7]), "snapshot 7, which the table does not have"),
        (TABLE, replace(ALL, snapshot_ids=[4]), "branch 'main'"),
        (with_refs(Ref("v1", 2, is_branch=False)), replace(ALL, snapshot_ids=[2]), "tag 'v1'"),
        (with_refs(Ref("v1", 2, is_branch=False, max_ref_age=DAY)), ALL, "tag 'v1' is past its max-ref-age"),
        (with_refs(Ref("lost", 77, is_branch=False)), ALL, "snapshot 77, which is gone"),
        (
            replace(with_refs(Ref("v1", 2, is_branch=False)), properties={"history.expire.max-ref-age-ms": "1"}),
            ALL,
            "max-ref-age",
        ),
        (
            replace(TABLE, refs=[Ref("main", 4, is_branch=True, max_snapshot_age=DAY)]),
            replace(ALL, snapshot_ids=[9]),
            "does not name",
        ),
    ],
)
def test_what_must_never_go_is_refused(metadata: TableMetadata, action: ExpireSnapshots, said: str) -> None:
    with pytest.raises(Refused, match=said):
        plan_expiry(metadata, action, now=NOW)


def test_main_never_ages_out() -> None:
    assert expiring(replace(TABLE, properties={"history.expire.max-ref-age-ms": "1"}), ALL) == [1, 2, 9, 3]


def test_a_table_without_snapshots_has_nothing_to_expire() -> None:
    assert expiring(TableMetadata(uuid="u", location="file:///t"), ALL) == []


def test_an_age_of_for_ever_is_read() -> None:
    metadata = TableMetadata.parse(
        '{"location": "file:/t", "current-schema-id": 0, "schemas": [{"schema-id": 0, "fields": []}],'
        '"snapshots": [{"snapshot-id": 1, "timestamp-ms": 0}], "current-snapshot-id": 1,'
        '"refs": {"main": {"snapshot-id": 1, "type": "branch", "max-ref-age-ms": 9223372036854775807}}}'
    )

    assert metadata.refs[0].max_ref_age is not None
    assert metadata.refs[0].max_ref_age > 365 * DAY
