"""Carries out REWRITE_DATA_FILES by Iceberg's Spark action, every commit stamped with its attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from executor.actions.filters import parse_filter
from executor.actions.rewrite_data_files import (
    commit_metrics,
    iceberg_options,
    max_commits,
    refuse_unsafe,
    sort_fields,
)
from executor.actions.table_metadata import EPOCH_KEY, OPERATION_KEY, POLICY_KEY, Snapshot
from executor.assignment import (
    Effects,
    Failure,
    FailureClass,
    Outcome,
    Plan,
    Result,
    RewriteDataFiles,
    RewriteStrategy,
)
from executor.engines.base import Cancelled, DeadlinePassed
from executor.engines.spark.catalogs import OpenTable
from executor.engines.spark.errors import JavaError, java_error
from executor.engines.spark.expressions import expression, sort_order
from executor.engines.spark.jvm import JVM_ERRORS, JavaObject
from executor.engines.spark.open_partitions import WholeTableOpen, closed_partitions
from executor.engines.spark.progress import JobTracker
from executor.engines.spark.run import Run

NOTHING_DONE: Final = Result(outcome=Outcome.NO_CHANGE, effects=Effects.NONE)

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Counts:
    """What the action says it did."""

    groups_committed: int
    groups_failed: int
    files_failed: int
    metrics: Mapping[str, int]


@dataclass(slots=True)
class _Ending:
    """How the engine's part ended, before anybody looked at the table."""

    counts: _Counts | None = None
    error: JavaError | None = None
    stopped: Cancelled | DeadlinePassed | None = None
    settled: bool = True


def rewrite(run: Run, tracker: JobTracker, table: OpenTable, action: RewriteDataFiles) -> Result:
    """Rewrite what the action selects. Raises `Refused`, or what the engine raised before anything was changed."""
    earlier = table.metadata.stamped(run.assignment.earlier)
    # With partial progress no number of commits says that all was done: only planning again does.
    if not action.partial_progress_enabled and len(earlier) >= max_commits(action):
        return _done_before(earlier)
    head = table.metadata.head(action.branch)
    refuse_unsafe(table.metadata, action)
    if head is None:
        return NOTHING_DONE
    # Without partial progress one commit is the whole rewrite: only the removal of dangling deletes may be left.
    rewritten_before = bool(earlier) and not action.partial_progress_enabled
    try:
        prepared = None if rewritten_before else prepare(run, table, action)
    except WholeTableOpen:
        logger.info("table.left_alone", table=run.assignment.table.qualified, reason="written after the cut-off")
        return NOTHING_DONE
    run.attempt.store_plan(
        Plan(
            base_snapshot=head.id,
            base_metadata_location=table.metadata_location,
            max_commits=max_commits(action),
        )
    )
    ending = _carry_out(run, table, action, prepared)
    tracker_look(tracker)
    return _judge(run, tracker, table, action, earlier, ending)


def prepare(run: Run, table: OpenTable, action: RewriteDataFiles) -> JavaObject:
    """Iceberg's action with every option set."""
    java = run.session.java
    prepared = java.org.apache.iceberg.spark.actions.SparkActions.get(run.session.java_session).rewriteDataFiles(
        table.java
    )
    prepared = _with_strategy(run, prepared, table, action)
    for key, value in iceberg_options(action).items():
        prepared = prepared.option(key, value)
    for key, value in stamp_properties(run).items():
        prepared = prepared.snapshotProperty(key, value)
    if action.filter is not None:
        prepared = prepared.filter(expression(java, parse_filter(action.filter, table.metadata.columns)))
    if action.only_closed_partitions_before is not None:
        closed = closed_partitions(run.session, table, action.only_closed_partitions_before)
        prepared = prepared if closed is None else prepared.filter(closed)
    return prepared if action.branch is None else prepared.toBranch(action.branch)


def stamp_properties(run: Run) -> Mapping[str, str]:
    """What tells our commits from everybody else's, in the summary of each snapshot."""
    stamp = run.stamp
    return {OPERATION_KEY: stamp.operation, EPOCH_KEY: str(stamp.epoch), POLICY_KEY: run.assignment.policy}


def execute(action: JavaObject) -> JavaObject:
    """Run a prepared action to its end: files are written, commits are made. Everything before this changes nothing."""
    return action.execute()


def tracker_look(tracker: JobTracker) -> None:
    """The overseer may have missed the last jobs of a short run."""
    try:
        tracker.look()
    except JVM_ERRORS:
        logger.warning("progress.lost", tag=tracker.tag)


def _with_strategy(run: Run, prepared: JavaObject, table: OpenTable, action: RewriteDataFiles) -> JavaObject:
    match action.strategy:
        case RewriteStrategy.BINPACK:
            return prepared.binPack()
        case RewriteStrategy.SORT if action.sort_order:
            return prepared.sort(sort_order(run.session.java, table.java.schema(), sort_fields(action)))
        case RewriteStrategy.SORT:
            return prepared.sort()
        case RewriteStrategy.ZORDER:
            return prepared.zOrder(run.session.strings(action.z_order_columns))


def _carry_out(run: Run, table: OpenTable, action: RewriteDataFiles, prepared: JavaObject | None) -> _Ending:
    ending = _Ending()
    run.phase = "rewriting"
    try:
        if prepared is not None:
            run.check()
            with run.interruptible():
                run.begun = True
                ending.counts = _counts(execute(prepared))
        if action.remove_dangling_deletes and (ending.counts is None or ending.counts.groups_committed):
            run.phase = "removing dangling deletes"
            run.check()
            with run.interruptible():
                run.begun = True
                _remove_dangling_deletes(run, table)
    except (Cancelled, DeadlinePassed) as stopped:
        ending.stopped = stopped
    except Exception as error:
        ending.error = java_error(error)
        if ending.error is None:
            raise
    if ending.error is not None and not ending.error.engine_lost:
        ending.settled = run.settle()
    return ending


def _remove_dangling_deletes(run: Run, table: OpenTable) -> None:
    table.refresh()
    actions = run.session.java.org.apache.iceberg.spark.actions.SparkActions.get(run.session.java_session)
    removal = actions.removeDanglingDeleteFiles(table.java)
    for key, value in stamp_properties(run).items():
        removal = removal.snapshotProperty(key, value)
    execute(removal)


def _counts(result: JavaObject) -> _Counts:
    return _Counts(
        groups_committed=result.rewriteResults().size(),
        groups_failed=result.rewriteFailures().size(),
        files_failed=result.failedDataFilesCount(),
        metrics={
            "files_rewritten": result.rewrittenDataFilesCount(),
            "files_added": result.addedDataFilesCount(),
            "bytes_rewritten": result.rewrittenBytesCount(),
        },
    )


def _judge(
    run: Run,
    tracker: JobTracker,
    table: OpenTable,
    action: RewriteDataFiles,
    earlier: Sequence[Snapshot],
    ending: _Ending,
) -> Result:
    """What was done is what the table says, whatever the engine said."""
    # Iceberg swallows what a commit of partial progress failed with: whether it was made may be unknown.
    lost = _groups_lost(tracker, ending)
    answered = ending.settled and (ending.error is None or ending.error.answered) and not lost
    try:
        table.refresh()
    except Exception as error:
        unread = java_error(error)
        if unread is None:
            raise
        return _unread(action, ending, unread, answered=answered, lost=lost)
    ours = table.metadata.stamped([run.stamp])
    failure = _failure(run, tracker, ending)
    cancelled = isinstance(ending.stopped, Cancelled) or (failure is not None and run.cancelled)
    metrics = commit_metrics(ours)
    if ending.counts is not None and ending.counts.groups_committed:
        metrics = {**ending.counts.metrics, **metrics, "bytes_rewritten": ending.counts.metrics["bytes_rewritten"]}
    committed = bool(ours) or (ending.counts is not None and ending.counts.groups_committed > 0)
    unanswered = ending.error is not None and ending.counts is None
    if unanswered and not action.partial_progress_enabled and len(ours) >= max_commits(action):
        # The answer was lost, but the table has all that was to be committed.
        failure, cancelled, answered = None, False, True
    if failure is None and not cancelled and ending.stopped is None:
        if not committed:
            # What partial progress committed before is known to whoever asks for the rest.
            return _done_before(earlier) if earlier and not action.partial_progress_enabled else NOTHING_DONE
        return Result(
            outcome=Outcome.COMPLETE,
            effects=Effects.COMMITTED,
            snapshots=[snapshot.id for snapshot in ours],
            metrics=metrics,
        )
    return Result(
        outcome=Outcome.PARTIAL if committed else Outcome.NO_CHANGE,
        effects=_effects(committed=committed, answered=answered),
        failure=None if cancelled else failure,
        cancelled=cancelled,
        snapshots=[snapshot.id for snapshot in ours],
        metrics=metrics,
        commits_answered=answered,
    )


def _effects(*, committed: bool, answered: bool) -> Effects:
    if not answered:
        # A commit may still appear: only evidence that is read later can tell.
        return Effects.UNKNOWN
    return Effects.PARTIAL if committed else Effects.NONE


def _failure(run: Run, tracker: JobTracker, ending: _Ending) -> Failure | None:
    if ending.error is not None:
        failure = ending.error.failure()
        if "rewrite commits failed" in failure.message and not tracker.any_failed:
            return Failure(FailureClass.CONFLICT, failure.message)
        return failure
    if isinstance(ending.stopped, DeadlinePassed):
        return Failure(FailureClass.TIMEOUT, "the lease ran out before the next step could be taken")
    counts = ending.counts
    if counts is None:
        return None
    if counts.groups_failed:
        return Failure(
            FailureClass.ENGINE,
            f"{counts.groups_failed} file groups with {counts.files_failed} data files could not be rewritten; "
            "the executor's log has the cause",
        )
    if lost := _groups_lost(tracker, ending):
        return Failure(
            FailureClass.CONFLICT,
            f"{lost} file groups were rewritten, but a rival's commit kept them from being committed",
        )
    return None


def _groups_lost(tracker: JobTracker, ending: _Ending) -> int:
    """File groups that were rewritten and then not committed, as far as Iceberg saw.

    One that Iceberg calls failed never came to a commit.
    """
    if ending.counts is None:
        return 0
    return max(0, tracker.groups_tried - ending.counts.groups_committed - ending.counts.groups_failed)


def _unread(action: RewriteDataFiles, ending: _Ending, unread: JavaError, *, answered: bool, lost: int) -> Result:
    """The table cannot be read after the work: only a definite refusal of its one commit says what was done."""
    failure = (ending.error or unread).failure()
    if ending.error is None and ending.counts is not None and not ending.counts.groups_failed and not lost:
        done = ending.counts.groups_committed > 0
        return Result(
            outcome=Outcome.COMPLETE if done else Outcome.NO_CHANGE,
            effects=Effects.COMMITTED if done else Effects.NONE,
            metrics=ending.counts.metrics if done else {},
        )
    known = answered and not action.partial_progress_enabled and not unread.engine_lost
    return Result(
        outcome=Outcome.NO_CHANGE,
        effects=Effects.NONE if known else Effects.UNKNOWN,
        failure=failure,
        commits_answered=answered and not unread.engine_lost,
    )


def _done_before(earlier: Sequence[Snapshot]) -> Result:
    """An earlier attempt committed all that this one was to do. Metrics are summed over attempts: it has none."""
    return Result(
        outcome=Outcome.COMPLETE,
        effects=Effects.COMMITTED,
        snapshots=[snapshot.id for snapshot in earlier],
    )
