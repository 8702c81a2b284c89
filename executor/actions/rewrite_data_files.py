"""Translates a rewrite of data files into Iceberg's own words, and its commits into metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from executor.actions.errors import Refused
from executor.actions.table_metadata import MAIN_BRANCH, Snapshot, TableMetadata
from executor.assignment import RewriteDataFiles, RewriteJobOrder, RewriteStrategy

DEFAULT_PARTIAL_PROGRESS_COMMITS: Final = 10

_SORT_FIELD: Final = re.compile(
    r"\s*(?P<column>`[^`]+`|[^\s`]+)(?:\s+(?P<direction>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SortField:
    column: str
    descending: bool
    nulls_first: bool


def iceberg_options(action: RewriteDataFiles) -> Mapping[str, str]:
    """The option keys of Iceberg's `RewriteDataFiles` action; what is not set is left to the table and the engine.

    Not among them: `remove-dangling-deletes`, since the commit that Iceberg makes for it carries no snapshot properties
    and works on main only; it is an action of its own here. A failed commit is judged by the caller: Iceberg counts
    commits that were never needed as failed when the groups do not divide evenly, so it is always allowed all of them.
    """
    values: Mapping[str, object | None] = {
        "target-file-size-bytes": action.target_file_size_bytes,
        "min-file-size-bytes": action.min_file_size_bytes,
        "max-file-size-bytes": action.max_file_size_bytes,
        "min-input-files": action.min_input_files,
        "max-file-group-size-bytes": action.max_file_group_size_bytes,
        "max-concurrent-file-group-rewrites": action.max_concurrent_file_group_rewrites,
        "partial-progress.enabled": action.partial_progress_enabled,
        "partial-progress.max-commits": partial_commits(action) if action.partial_progress_enabled else None,
        "partial-progress.max-failed-commits": partial_commits(action) if action.partial_progress_enabled else None,
        "rewrite-job-order": _job_order(action.rewrite_job_order),
        "delete-file-threshold": action.delete_file_threshold,
        "delete-ratio-threshold": action.delete_ratio_threshold,
        "use-starting-sequence-number": action.use_starting_sequence_number,
        "output-spec-id": action.output_spec_id,
        "max-files-to-rewrite": action.max_files_to_rewrite,
    }
    return {key: _text(value) for key, value in values.items() if value is not None}


def partial_commits(action: RewriteDataFiles) -> int:
    return action.partial_progress_max_commits or DEFAULT_PARTIAL_PROGRESS_COMMITS


def max_commits(action: RewriteDataFiles) -> int:
    """How many snapshots the action may commit at most."""
    rewrites = partial_commits(action) if action.partial_progress_enabled else 1
    return rewrites + (1 if action.remove_dangling_deletes else 0)


def sort_fields(action: RewriteDataFiles) -> Sequence[SortField]:
    """The given sort order; empty: the table's own. A field is `column [asc|desc] [nulls first|last]`."""
    return [_sort_field(text) for text in action.sort_order]


def refuse_unsafe(metadata: TableMetadata, action: RewriteDataFiles) -> None:
    """Raise `Refused` for what cannot work on this table, or would harm it."""
    if action.strategy is RewriteStrategy.ZORDER and not action.z_order_columns:
        raise Refused("strategy ZORDER needs zOrderColumns")
    if action.branch is not None:
        ref = metadata.ref(action.branch)
        if ref is None or not ref.is_branch:
            raise Refused(f"the table has no branch {action.branch!r}")
    if action.only_closed_partitions_before is not None and action.branch not in (None, MAIN_BRANCH):
        raise Refused("onlyClosedPartitionsAfter works on the branch main only: unset it, or unset branch")
    if action.remove_dangling_deletes:
        _refuse_unsafe_removal(metadata, action)


def _refuse_unsafe_removal(metadata: TableMetadata, action: RewriteDataFiles) -> None:
    if action.branch not in (None, MAIN_BRANCH):
        raise Refused("removeDanglingDeletes works on the branch main only: unset it, or unset branch")
    head = metadata.head(None)
    if len(metadata.partition_specs) > 1 and head is not None and _may_hold_equality_deletes(head):
        raise Refused(
            "removeDanglingDeletes is set, the table has equality deletes and more than one partition spec: "
            "Iceberg would take live deletes for dangling ones, so unset removeDanglingDeletes"
        )


def _may_hold_equality_deletes(snapshot: Snapshot) -> bool:
    """Only a summary that counts none says that there are none."""
    counted = snapshot.summary.get("total-equality-deletes", snapshot.summary.get("total-delete-files"))
    return counted != "0"


def commit_metrics(snapshots: Iterable[Snapshot]) -> dict[str, int]:
    """What these commits changed, by their summaries; only what every one of them counts."""
    summaries = [snapshot.summary for snapshot in snapshots]
    # A summary without totals was shortened by its catalog: a missing count then does not mean none.
    if not summaries or any("total-data-files" not in summary for summary in summaries):
        return {}

    def total(key: str) -> int:
        return sum(int(summary.get(key, "0")) for summary in summaries)

    metrics = {
        "files_rewritten": total("deleted-data-files"),
        "files_added": total("added-data-files"),
        "bytes_added": total("added-files-size"),
        "delete_files_removed": total("removed-delete-files"),
    }
    if not metrics["delete_files_removed"]:
        # Otherwise the size of what was removed is that of data files and delete files together.
        metrics["bytes_rewritten"] = total("removed-files-size")
    return metrics


def _sort_field(text: str) -> SortField:
    matched = _SORT_FIELD.fullmatch(text)
    if matched is None:
        raise Refused(f"sortOrder: {text!r} is not of the form `column [asc|desc] [nulls first|last]`")
    descending = (matched["direction"] or "asc").lower() == "desc"
    nulls = (matched["nulls"] or ("last" if descending else "first")).lower()
    return SortField(matched["column"].strip("`"), descending=descending, nulls_first=nulls == "first")


def _job_order(order: RewriteJobOrder) -> str:
    return order.value.lower().replace("_", "-")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
