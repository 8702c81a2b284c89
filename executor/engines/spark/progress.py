"""Looks at a run from outside, twice a second: publishes how far it is, and repeats a cancel until it has worked."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from executor.assignment import Progress, RewriteDataFiles
from executor.engines.spark.jvm import JVM_ERRORS, JavaObject
from executor.engines.spark.run import Run
from executor.engines.spark.session import Session

_EVERY: Final = 0.5
_GROUP: Final = re.compile(r"file group (\d+)/(\d+)")

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Job:
    ended: bool = False
    failed: bool = False
    group: int | None = None
    groups: int | None = None
    tasks: int = 0
    tasks_done: int = 0
    tasks_running: int = 0
    bytes_written: int = 0


@dataclass(slots=True)
class JobTracker:
    """The Spark jobs of one run, by its tag. Ended jobs are read once."""

    session: Session
    tag: str
    jobs: dict[int, _Job] = field(default_factory=dict)

    def look(self) -> None:
        """Read what has changed."""
        store = self.session.java_context.statusStore()
        for job_id in self.session.jobs_of(self.tag):
            known = self.jobs.get(job_id)
            if known is None or not known.ended:
                try:
                    self.jobs[job_id] = _read(store, job_id)
                except JVM_ERRORS:
                    # Not in the store yet, or no more: the last look stands.
                    continue

    @property
    def first_task_started(self) -> bool:
        return any(job.tasks_running or job.tasks_done for job in self.jobs.values())

    @property
    def any_failed(self) -> bool:
        return any(job.failed for job in self.jobs.values())

    @property
    def groups_tried(self) -> int:
        return len({job.group for job in self.jobs.values() if job.group is not None})

    def progress(self, phase: str) -> Progress:
        """File groups are counted by the jobs that wrote: one group may take several. Tasks are known as jobs start."""
        jobs = list(self.jobs.values())
        written = {job.group for job in jobs if job.group is not None and job.bytes_written and job.ended}
        unfinished = {job.group for job in jobs if not job.ended}
        totals = [job.groups for job in jobs if job.groups is not None]
        done = len(written - unfinished)
        total = max(totals, default=None)
        if phase == "rewriting":
            phase = "planning" if total is None else "committing" if done == total else "rewriting"
        return Progress(
            phase=phase,
            groups_done=done if total is not None else None,
            groups_total=total,
            tasks_done=sum(job.tasks_done for job in jobs) if jobs else None,
            tasks_total=sum(job.tasks for job in jobs) if jobs else None,
            bytes_written=sum(job.bytes_written for job in jobs) if totals else None,
            estimated=bool(jobs) and done != total,
        )


def _read(store: JavaObject, job_id: int) -> _Job:
    data = store.job(job_id)
    description = data.description()
    matched = _GROUP.search(description.get()) if description.isDefined() else None
    status = str(data.status())
    stages = data.stageIds()
    return _Job(
        ended=status in ("SUCCEEDED", "FAILED"),
        failed=status == "FAILED",
        group=int(matched[1]) if matched else None,
        groups=int(matched[2]) if matched else None,
        tasks=data.numTasks(),
        tasks_done=data.numCompletedTasks(),
        tasks_running=data.numActiveTasks(),
        bytes_written=sum(_bytes_written(store, stages.apply(position)) for position in range(stages.size())),
    )


def _bytes_written(store: JavaObject, stage: int) -> int:
    try:
        return int(store.lastStageAttempt(stage).outputBytes())
    except JVM_ERRORS:
        # A stage that was skipped, or has not started, is not in the store.
        return 0


class Overseer:
    """One thread that looks after all runs of the engine."""

    def __init__(self, runs: Callable[[], Iterable[tuple[Run, JobTracker]]]) -> None:
        self._runs = runs
        self._stopped = threading.Event()
        self._seen: set[str] = set()
        self._thread = threading.Thread(target=self._watch, name="spark-overseer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _watch(self) -> None:
        while not self._stopped.wait(_EVERY):
            for run, tracker in list(self._runs()):
                try:
                    self._look_after(run, tracker)
                except JVM_ERRORS as error:
                    logger.warning(
                        "progress.lost", operation=run.assignment.lease.operation, error=type(error).__name__
                    )

    def _look_after(self, run: Run, tracker: JobTracker) -> None:
        if run.cancelled:
            run.cancel()
        tracker.look()
        if tracker.first_task_started and tracker.tag not in self._seen:
            self._seen.add(tracker.tag)
            first_task_started(run)
        if isinstance(run.assignment.action, RewriteDataFiles):
            run.attempt.report(tracker.progress(run.phase))
        else:
            # Expiry's jobs never add up to its work: its own counts are reported where they arise.
            run.attempt.report(run.counted or Progress(phase=run.phase))


def first_task_started(run: Run) -> None:
    """The engine is at work: from here on its death leaves files behind that no table knows."""
    lease = run.assignment.lease
    logger.info("engine.started", operation=lease.operation, epoch=lease.epoch, table=run.assignment.table.qualified)
