from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from executor.actions.errors import Refused
from executor.actions.expire_snapshots import plan_expiry
from executor.actions.table_metadata import Ref, Snapshot, TableMetadata
from executor.assignment import ExpireSnapshots

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@st.composite
def tables(draw: st.DrawFn) -> TableMetadata:
    """A forest of snapshots, each younger than its parent, and refs on some of them."""
    number = draw(st.integers(1, 12))
    snapshots = []
    for each in range(number):
        parent = draw(st.none() | st.integers(0, each - 1)) if each else None
        snapshots.append(Snapshot(id=each, parent=parent, committed_at=NOW - timedelta(hours=2 * (number - each))))
    ids = st.integers(0, number - 1)
    keep = st.none() | st.integers(1, 4)
    age = st.none() | st.integers(1, 40).map(lambda hours: timedelta(hours=hours))
    main = Ref("main", draw(ids), is_branch=True, min_snapshots_to_keep=draw(keep), max_snapshot_age=draw(age))
    others = [
        Ref(f"r{position}", draw(ids), is_branch=draw(st.booleans()), min_snapshots_to_keep=draw(keep))
        for position in range(draw(st.integers(0, 3)))
    ]
    return TableMetadata(
        uuid="u", location="file:///t", current_snapshot=main.snapshot, snapshots=snapshots, refs=[main, *others]
    )


@given(
    table=tables(),
    age=st.integers(0, 30),
    floor=st.integers(0, 30),
    retain_last=st.integers(1, 5),
    named=st.lists(st.integers(0, 11), max_size=3, unique=True),
)
def test_no_plan_takes_a_ref_a_young_snapshot_or_a_branchs_last_ones(
    table: TableMetadata, age: int, floor: int, retain_last: int, named: list[int]
) -> None:
    action = ExpireSnapshots(
        older_than=NOW - timedelta(hours=age),
        retain_last=retain_last,
        floor=NOW - timedelta(hours=floor),
        snapshot_ids=named,
    )
    try:
        plan = plan_expiry(table, action, now=NOW)
    except Refused:
        return
    going = set(plan.expiring)
    assert going | set(plan.retained) == {snapshot.id for snapshot in table.snapshots}
    assert not going & set(plan.retained)
    assert not going & {ref.snapshot for ref in table.refs}
    assert all(snapshot.committed_at <= action.floor for snapshot in table.snapshots if snapshot.id in going)
    if named:
        assert going == set(named)
        return
    by_id = {snapshot.id: snapshot for snapshot in table.snapshots}
    for branch in (ref for ref in table.refs if ref.is_branch):
        at: int | None = branch.snapshot
        for _ in range(branch.min_snapshots_to_keep or retain_last):
            if at is None:
                break
            assert at not in going
            at = by_id[at].parent
