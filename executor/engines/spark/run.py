"""One attempt while it runs: its JVM thread, its tag, and the ways to stop it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Final, Self

from py4j.protocol import Py4JError

from executor.assignment import Assignment, Progress, Stamp
from executor.engines.base import Attempt, Cancelled
from executor.engines.spark.jvm import JavaObject
from executor.engines.spark.session import Session

_WORKER_NAMES: Final = ("Rewrite-Service-", "Committer-Service")
_AT_WORK: Final = ("RewriteDataFilesSparkAction", "BaseCommitService.commitReadyCommitGroups")
_WORKERS_END_WITHIN: Final = 30.0


class Run:
    """Binds the calling thread to one attempt: each Spark job that it, or a thread it makes, starts carries the tag."""

    def __init__(self, session: Session, attempt: Attempt, slot: int) -> None:
        self.session = session
        self.attempt = attempt
        self.phase = "planning"
        self.counted: Progress | None = None
        self._slot = slot
        self._lock = threading.Lock()
        self._interruptible = False
        self._cancelled = False
        self._thread: JavaObject = None
        self._marker: JavaObject = None

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
        session, java = self.session, self.session.java
        session.enter_thread()
        self._thread = java.java.lang.Thread.currentThread()
        # Threads inherit the context class loader: an empty one of our own tells our workers from everybody else's.
        self._loader = self._thread.getContextClassLoader()
        self._marker = java.java.net.URLClassLoader(session.jvm.gateway.new_array(java.java.net.URL, 0), self._loader)
        self._thread.setContextClassLoader(self._marker)
        session.context.addJobTag(self.tag)
        session.context.setLocalProperty("spark.scheduler.pool", f"floe-slot-{self._slot}")
        session.context.setJobDescription(f"{self.tag}: {self.assignment.table.qualified}")
        return self

    def __exit__(self, *raised: object) -> None:
        # The thread may carry another operation next; a dead JVM has nothing to be tidied.
        with contextlib.suppress(Py4JError):
            self._thread.setContextClassLoader(self._loader)
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
            with contextlib.suppress(Py4JError):
                self.session.java.java.lang.Thread.interrupted()

    def cancel(self) -> None:
        """Interrupt the thread and cancel the jobs, once; what has just begun may need it again."""
        self._cancelled = True
        with self._lock, contextlib.suppress(Py4JError):
            if self._interruptible:
                self._thread.interrupt()
        # With the interrupt alone, jobs go on unattended; with the tag alone, the action starts its next group.
        with contextlib.suppress(Py4JError):
            self.session.context.cancelJobsWithTag(self.tag)

    def await_workers(self) -> bool:
        """Wait until no thread of this run rewrites or commits any more, and say whether that came to be.

        An interrupted action returns while its workers may still be in the middle of a commit.
        """
        waited = threading.Event()
        for _ in range(int(_WORKERS_END_WITHIN / 0.1)):
            workers = self._workers()
            at_work = [worker for worker in workers if self._is_at_work(worker)]
            if not at_work:
                for worker in workers:
                    # The committer of an interrupted action would otherwise look for work for ever.
                    worker.interrupt()
                return True
            with contextlib.suppress(Py4JError):
                self.session.context.cancelJobsWithTag(self.tag)
            waited.wait(0.1)
        return False

    def _workers(self) -> Sequence[JavaObject]:
        threads = self.session.java.java.lang.Thread.getAllStackTraces().keySet()
        named = [thread for thread in threads if str(thread.getName()).startswith(_WORKER_NAMES)]
        return [thread for thread in named if self._marker.equals(thread.getContextClassLoader())]

    def _is_at_work(self, worker: JavaObject) -> bool:
        stack = str(self.session.java.java.util.Arrays.toString(worker.getStackTrace()))
        return any(frame in stack for frame in _AT_WORK)
