from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from executor.actions.errors import Refused
from executor.actions.rewrite_data_files import (
    SortField,
    commit_metrics,
    iceberg_options,
    max_commits,
    refuse_unsafe,
    sort_fields,
)
from executor.actions.table_metadata import Ref, Snapshot, TableMetadata
from executor.assignment import RewriteDataFiles, RewriteStrategy

HEAD = Snapshot(1, None, datetime(2026, 1, 1, tzinfo=UTC), {"total-equality-deletes": "3", "total-delete-files": "1"})
EVOLVED = TableMetadata(
    uuid="u",
    location="file:///t",
    current_snapshot=1,
    snapshots=[HEAD],
    refs=[Ref("main", 1, is_branch=True), Ref("v1", 1, is_branch=False), Ref("audit", 1, is_branch=True)],
    partition_specs={0: [], 1: []},
)
DANGLING = RewriteDataFiles(remove_dangling_deletes=True)


def test_what_is_not_set_is_left_to_the_table_and_the_engine() -> None:
    assert iceberg_options(RewriteDataFiles()) == {
        "partial-progress.enabled": "false",
        "rewrite-job-order": "none",
        "use-starting-sequence-number": "true",
    }


@pytest.mark.parametrize(
    ("action", "commits"),
    [
        (RewriteDataFiles(), 1),
        (DANGLING, 2),
        (RewriteDataFiles(partial_progress_enabled=True), 10),
        (RewriteDataFiles(partial_progress_enabled=True, partial_progress_max_commits=3), 3),
        (replace(DANGLING, partial_progress_enabled=True, partial_progress_max_commits=3), 4),
    ],
)
def test_the_most_commits_are_known_beforehand(action: RewriteDataFiles, commits: int) -> None:
    assert max_commits(action) == commits


def test_a_sort_field_names_column_direction_and_nulls() -> None:
    action = RewriteDataFiles(sort_order=["a", "b DESC", "`c d` asc NULLS LAST", "e desc nulls first"])

    assert sort_fields(action) == [
        SortField("a", descending=False, nulls_first=True),
        SortField("b", descending=True, nulls_first=False),
        SortField("c d", descending=False, nulls_first=False),
        SortField("e", descending=True, nulls_first=True),
    ]


@pytest.mark.parametrize("text", ["", "a upwards", "a nulls", "bucket(4, a) desc x"])
def test_another_sort_field_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="sortOrder"):
        sort_fields(RewriteDataFiles(sort_order=[text]))


@pytest.mark.parametrize(
    "action",
    [
        DANGLING,
        replace(DANGLING, branch="audit"),
        RewriteDataFiles(branch="v1"),
        RewriteDataFiles(branch="nowhere"),
        RewriteDataFiles(strategy=RewriteStrategy.ZORDER),
        RewriteDataFiles(branch="audit", only_closed_partitions_before=datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_would_harm_the_table_or_cannot_work_is_refused(action: RewriteDataFiles) -> None:
    with pytest.raises(Refused):
        refuse_unsafe(EVOLVED, action)


@pytest.mark.parametrize(
    "metadata",
    [
        replace(EVOLVED, partition_specs={0: []}),
        replace(EVOLVED, snapshots=[replace(HEAD, summary={"total-equality-deletes": "0"})]),
        replace(EVOLVED, snapshots=[replace(HEAD, summary={"total-delete-files": "0"})]),
    ],
)
def test_dangling_deletes_go_where_no_live_one_can_be_taken_for_one(metadata: TableMetadata) -> None:
    refuse_unsafe(metadata, DANGLING)


def test_metrics_are_sums_over_the_commits() -> None:
    summary = {
        "total-data-files": "9",
        "deleted-data-files": "5",
        "added-data-files": "1",
        "added-files-size": "100",
        "removed-files-size": "300",
    }
    commits = [replace(HEAD, summary=summary), replace(HEAD, summary={**summary, "removed-delete-files": "2"})]

    assert commit_metrics(commits[:1]) == {
        "files_rewritten": 5,
        "files_added": 1,
        "bytes_added": 100,
        "bytes_rewritten": 300,
        "delete_files_removed": 0,
    }
    # The sizes of data files and of delete files cannot be told apart.
    assert "bytes_rewritten" not in commit_metrics(commits)
    assert commit_metrics(commits)["files_rewritten"] == 10


def test_a_summary_without_totals_says_nothing() -> None:
    assert commit_metrics([replace(HEAD, summary={"added-data-files": "1"})]) == {}
    assert commit_metrics([]) == {}
