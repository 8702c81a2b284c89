"""One attempt while it runs: its JVM thread, its tag, and the ways to stop it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final, Self

from executor.assignment import Assignment, Progress, Stamp
from executor.engines.base import Attempt, Cancelled
from executor.engines.spark.jvm import JVM_ERRORS, JavaObject
from executor.engines.spark.session import Session
from executor.engines.spark.workers import Workers

_SETTLES_WITHIN: Final = 30.0


class Run:
    """Binds the calling thread to one attempt: each Spark job that it, or a thread it makes, starts carries the tag."""

    def __init__(self, session: Session, attempt: Attempt, slot: int) -> None:
        self.session = session
        self.attempt = attempt
        self.phase = "planning"
        self.begun = False
        """Something that may change the table has been started."""
        self.counted: Progress | None = None
        self._slot = slot
        self._lock = threading.Lock()
        self._interruptible = False
        self._cancelled = False
        self._thread: JavaObject = None

    @property
    def assignment(self) -> Assignment:
        return self.attempt.assignment

    @property
    def stamp(self) -> Stamp:
        lease = self.assignment.lease
        return Stamp(operation=lease.operation, epoch=lease.epoch)

    @property
    def tag(self) -> str:
        lease = self.assignment.lease
        return f"floe-{lease.operation}-{lease.epoch}"

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def __enter__(self) -> Self:
        session = self.session
        session.enter_thread()
        self._thread = session.java.java.lang.Thread.currentThread()
        session.context.addJobTag(self.tag)
        session.context.setLocalProperty("spark.scheduler.pool", f"floe-slot-{self._slot}")
        session.context.setJobDescription(f"{self.tag}: {self.assignment.table.qualified}")
        return self

    def __exit__(self, *raised: object) -> None:
        # The thread may carry another operation next; a dead JVM has nothing to be tidied.
        with contextlib.suppress(*JVM_ERRORS):
            self.session.context.clearJobTags()
            for name in ("spark.scheduler.pool", "spark.job.description"):
                # None clears it, which the annotation does not know.
                self.session.context.setLocalProperty(name, None)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise unless the next step may be taken."""
        self.attempt.check()
        if self._cancelled:
            raise Cancelled

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Only what runs in here is interrupted by a cancel; reading afterwards what happened is not."""
        with self._lock:
            if self._cancelled:
                raise Cancelled
            self._interruptible = True
        try:
            yield
        finally:
            with self._lock:
                self._interruptible = False
            # An interrupt that came after the last call had returned would end the next one.
            with contextlib.suppress(*JVM_ERRORS):
                self.session.java.java.lang.Thread.interrupted()

    def cancel(self) -> None:
        """Interrupt the thread and cancel the jobs, once; what has just begun may need it again."""
        self._cancelled = True
        with self._lock, contextlib.suppress(*JVM_ERRORS):
            if self._interruptible:
                self._thread.interrupt()
        # With the interrupt alone, jobs go on unattended; with the tag alone, the action starts its next group.
        with contextlib.suppress(*JVM_ERRORS):
            self.session.context.cancelJobsWithTag(self.tag)

    def settle(self) -> bool:
        """End what an interrupted or failed action left running; says whether nothing of this run is at work any more.

        Such an action returns while its workers may still be in the middle of a commit, and its jobs go on.
        """
        workers, waited = Workers(self.session, self.tag), threading.Event()
        for _ in range(int(_SETTLES_WITHIN / 0.1)):
            with contextlib.suppress(*JVM_ERRORS):
                self.session.context.cancelJobsWithTag(self.tag)
            found = workers.find()
            # Only workers start jobs: once they rest, no job is added to those that are looked at next.
            if not any(workers.at_work(worker) for worker in found) and not self.session.active_jobs_of(self.tag):
                for worker in found:
                    # The committer of an interrupted action would otherwise look for work for ever.
                    worker.interrupt()
                return True
            waited.wait(0.1)
        return False
