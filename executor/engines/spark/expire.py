"""Carries out EXPIRE_SNAPSHOTS: exactly the planned ids are committed away, then their files deleted in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog
from py4j.protocol import Py4JJavaError

from executor.actions.errors import Refused
from executor.actions.expire_snapshots import ExpiryPlan, plan_expiry
from executor.assignment import (
    Effects,
    ExpireSnapshots,
    Failure,
    FailureClass,
    Outcome,
    Plan,
    Progress,
    Result,
)
from executor.engines.base import Cancelled, DeadlinePassed
from executor.engines.spark.catalogs import OpenTable
from executor.engines.spark.deletions import DeletionList, Deletions, UnreachableFile
from executor.engines.spark.errors import JavaError, java_error, short_message
from executor.engines.spark.jvm import JavaObject
from executor.engines.spark.run import Run

_PLANNED_AT_MOST: Final = 3
_BULK_FAILURE: Final = "org.apache.iceberg.io.BulkDeletionFailureException"
_METRICS: Final = {
    "DATA": "data_files_removed",
    "POSITION_DELETES": "delete_files_removed",
    "EQUALITY_DELETES": "delete_files_removed",
}

logger = structlog.get_logger(__name__)


def expire(run: Run, table: OpenTable, action: ExpireSnapshots, deletions: Deletions, *, batch: int) -> Result:
    """Expire what the action selects. Raises `Refused`, or what the engine raised before anything was changed."""
    before = _finish(run, table, deletions, batch=batch)
    if before is not None and before.outcome is not Outcome.COMPLETE:
        return before
    try:
        result = _expire(run, table, action, deletions, batch=batch)
    except Refused as refused:
        if before is None:
            raise
        # Ids that were asked for by name are refused once they are gone; and what was to be done is done.
        logger.info("expiry.ended", table=run.assignment.table.qualified, reason=str(refused))
        return before
    return result if before is None else _together(before, result)


def _expire(run: Run, table: OpenTable, action: ExpireSnapshots, deletions: Deletions, *, batch: int) -> Result:
    _refuse_silent_deletes(table)
    plan = _plan(run, table, action)
    if not plan.expiring:
        return Result(outcome=Outcome.NO_CHANGE, effects=Effects.NONE)
    run.phase = "expiring"
    run.check()
    try:
        with run.interruptible():
            run.begun = True
            files = commit(run, table, action, plan)
            pending = deletions.write(
                run.assignment.lease.operation,
                table_uuid=table.metadata.uuid,
                expired=plan.expiring,
                files=_unreachable(run, files),
            )
    except Cancelled:
        return Result(outcome=Outcome.NO_CHANGE, effects=Effects.NONE, cancelled=True)
    except Exception as error:
        failed = java_error(error)
        if failed is None:
            raise
        return _after_failure(run, table, plan, failed)
    return _delete(run, table, pending, expired=len(plan.expiring), batch=batch)


def commit(run: Run, table: OpenTable, action: ExpireSnapshots, plan: ExpiryPlan) -> JavaObject:
    """Commit the expiry of exactly the planned snapshots; gives the files that nothing reaches any more, undeleted."""
    actions = run.session.java.org.apache.iceberg.spark.actions.SparkActions.get(run.session.java_session)
    # No snapshot is older than the epoch: Iceberg's defaults by age take nothing beyond the ids.
    prepared = actions.expireSnapshots(table.java).expireOlderThan(0).retainLast(action.retain_last)
    prepared = prepared.cleanExpiredMetadata(action.clean_expired_metadata)
    for snapshot_id in plan.expiring:
        prepared = prepared.expireSnapshotId(snapshot_id)
    return prepared.expireFiles()


def delete_batch(run: Run, table: OpenTable, files: Sequence[UnreachableFile]) -> int:
    """Delete the files, in the JVM so that its death ends it; gives how many could not be. A missing one is fine."""
    java = run.session.java
    io = table.java.io()
    paths = java.java.util.ArrayList([file.path for file in files])
    if java.py4j.reflection.TypeUtil.isInstanceOf("org.apache.iceberg.io.SupportsBulkOperations", io):
        try:
            io.deleteFiles(paths)
        except Py4JJavaError as error:
            if str(error.java_exception.getClass().getName()) != _BULK_FAILURE:
                raise
            return int(error.java_exception.numberFailedObjects())
        return 0
    failed = 0
    for file in files:
        try:
            io.deleteFile(file.path)
        except Py4JJavaError as error:
            if not str(error.java_exception.getClass().getName()).endswith("NotFoundException"):
                failed += 1
    return failed


def _plan(run: Run, table: OpenTable, action: ExpireSnapshots) -> ExpiryPlan:
    """A plan that is stored, and that was still right when it had been."""
    plan = plan_expiry(table.metadata, action, now=datetime.now(UTC))
    for _ in range(_PLANNED_AT_MOST):
        if not plan.expiring:
            return plan
        run.attempt.store_plan(
            Plan(
                base_snapshot=table.metadata.current_snapshot,
                base_metadata_location=table.metadata_location,
                max_commits=1,
                expiring_snapshots=plan.expiring,
                retained_snapshots=plan.retained,
            )
        )
        table.refresh()
        again = plan_expiry(table.metadata, action, now=datetime.now(UTC))
        if set(again.expiring) == set(plan.expiring):
            return plan
        plan = again
    raise Refused("the table's snapshots and refs change faster than an expiry can be planned: try at a quieter time")


def _refuse_silent_deletes(table: OpenTable) -> None:
    if str(table.java.io().properties().get("s3.delete-enabled")).lower() == "false":
        raise Refused(
            "the catalog sets s3.delete-enabled=false: deletes would be skipped without a word. "
            "Set s3.delete-enabled to true in the catalog's properties, or leave expiry to the catalog"
        )


def _finish(run: Run, table: OpenTable, deletions: Deletions, *, batch: int) -> Result | None:
    """Delete what an earlier attempt left; None if no earlier attempt is known to have committed.

    The list is the truth, for it was written after its commit. What attempts had planned may never have been
    committed, in part: only if all of it is gone, a commit of theirs was made. Files without a list remain for the
    removal of orphans.
    """
    operation, planned = run.assignment.lease.operation, set(run.assignment.earlier_snapshots)
    present = {snapshot.id for snapshot in table.metadata.snapshots}
    pending = deletions.find(operation)
    if pending is not None and pending.table_uuid == table.metadata.uuid and present.isdisjoint(pending.expired):
        return _delete(run, table, pending, batch=batch)
    if planned <= present:
        return None
    logger.warning("files.left_behind", operation=operation, table=run.assignment.table.qualified)
    return Result(outcome=Outcome.COMPLETE, effects=Effects.COMMITTED) if planned.isdisjoint(present) else None


def _together(before: Result, result: Result) -> Result:
    """One result of the end of an earlier attempt's expiry and of one more; each metric is what this attempt did."""
    if result.outcome is Outcome.NO_CHANGE and result.failure is None and not result.cancelled:
        return before
    names = [*before.metrics, *(name for name in result.metrics if name not in before.metrics)]
    return replace(
        result,
        outcome=Outcome.PARTIAL if result.outcome is Outcome.NO_CHANGE else result.outcome,
        effects=Effects.PARTIAL if result.effects is Effects.NONE else result.effects,
        metrics={name: before.metrics.get(name, 0) + result.metrics.get(name, 0) for name in names},
    )


def _unreachable(run: Run, files: JavaObject) -> Iterator[UnreachableFile]:
    for row in run.session.rows(files):
        yield UnreachableFile(kind=row["type"], path=row["path"])


def _delete(run: Run, table: OpenTable, pending: DeletionList, *, batch: int, expired: int = 0) -> Result:
    """Delete the files of the list. `expired`: how many snapshots this attempt expired; earlier ones told theirs."""
    run.phase = "deleting"
    deleted: Counter[str] = Counter()
    failed = 0
    failure: Failure | None = None
    cancelled = False
    try:
        for files in pending.batches(batch):
            run.check()
            undone = delete_batch(run, table, files)
            failed += undone
            # Which file of a batch failed is not said: then none of it is counted by its kind.
            deleted.update(file.kind for file in files if not undone)
            pending.record(len(files))
            run.counted = Progress(phase="deleting", tasks_done=sum(deleted.values()))
    except Cancelled:
        cancelled = True
    except DeadlinePassed:
        failure = Failure(FailureClass.TIMEOUT, "the lease ran out before all files were deleted")
    except Exception as error:
        java = java_error(error)
        if java is None:
            raise
        failure = java.failure()
    if failed and failure is None:
        failure = Failure(
            FailureClass.ENGINE, f"{failed} files could not be deleted; they remain for the removal of orphans"
        )
    whole = failure is None and not cancelled
    if whole:
        pending.discard()
    return Result(
        outcome=Outcome.COMPLETE if whole else Outcome.PARTIAL,
        effects=Effects.COMMITTED if whole else Effects.PARTIAL,
        failure=None if cancelled else failure,
        cancelled=cancelled,
        metrics={**({"snapshots_expired": expired} if expired else {}), **_removed(deleted)},
    )


def _removed(deleted: Mapping[str, int]) -> Mapping[str, int]:
    metrics = dict.fromkeys(_METRICS.values(), 0)
    for kind, count in deleted.items():
        if kind in _METRICS:
            metrics[_METRICS[kind]] += count
    return metrics


def _after_failure(run: Run, table: OpenTable, plan: ExpiryPlan, error: JavaError) -> Result:
    """The table says whether the commit was made."""
    answered = error.answered and (error.engine_lost or run.settle())
    failure = error.failure()
    if any("Still referenced by refs" in text for _, text in error.chain):
        failure = Failure(
            FailureClass.CONFLICT, short_message("a ref was put on a snapshot while it was being expired")
        )
    try:
        table.refresh()
        present = {snapshot.id for snapshot in table.metadata.snapshots}
        gone = [one for one in plan.expiring if one not in present]
        effects = Effects.PARTIAL if gone else Effects.NONE if answered else Effects.UNKNOWN
    except Exception as unread:
        if java_error(unread) is None:
            raise
        gone, effects = [], Effects.UNKNOWN
    return Result(
        outcome=Outcome.PARTIAL if gone else Outcome.NO_CHANGE,
        effects=effects,
        failure=None if run.cancelled else failure,
        cancelled=run.cancelled,
        metrics={"snapshots_expired": len(gone)} if gone else {},
        commits_answered=bool(gone) or answered,
    )
