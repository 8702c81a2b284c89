"""The Spark engine: carries assignments out with Iceberg's Java actions in one warm session."""

from __future__ import annotations

import contextlib
import importlib.metadata
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import structlog

from executor.actions.errors import Refused
from executor.assignment import (
    Effects,
    ExpireSnapshots,
    Failure,
    FailureClass,
    OperationType,
    Outcome,
    Result,
    RewriteDataFiles,
    Table,
)
from executor.catalogs.locations import same_location
from executor.engines.base import Attempt, Cancelled, DeadlinePassed, EngineInfo
from executor.engines.spark.catalogs import Catalogs, OpenTable, Resolve
from executor.engines.spark.deletions import Deletions
from executor.engines.spark.errors import java_error
from executor.engines.spark.expire import expire
from executor.engines.spark.progress import JobTracker, Overseer
from executor.engines.spark.rewrite import rewrite
from executor.engines.spark.run import Run
from executor.engines.spark.session import Session, SparkSettings, open_session
from executor.errors import ConfigurationError

_OPERATIONS: Final = (OperationType.REWRITE_DATA_FILES, OperationType.EXPIRE_SNAPSHOTS)

logger = structlog.get_logger(__name__)


class SparkEngine:
    """One warm session; each attempt runs in its caller's thread, with a scheduler pool and a job tag of its own."""

    def __init__(self, settings: SparkSettings, *, java_home: Path, jars: Sequence[Path], resolve: Resolve) -> None:
        self._settings = settings
        self._java_home = java_home
        self._jars = jars
        self._resolve = resolve
        self._deletions = Deletions(settings.state_directory / "deletions")
        self._session: Session | None = None
        self._catalogs: Catalogs | None = None
        self._runs: dict[str, tuple[Run, JobTracker]] = {}
        self._slots: set[int] = set()
        self._lock = threading.Lock()
        self._overseer: Overseer | None = None

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(name="spark", version=importlib.metadata.version("pyspark"), operations=_OPERATIONS)

    @property
    def process_id(self) -> int | None:
        """The driver's; None before the start and once it has died, after which every attempt fails."""
        if self._session is None or self._session.jvm.process.poll() is not None:
            return None
        return self._session.jvm.process.pid

    def start(self) -> None:
        """As the protocol says; again after a stop, too."""
        try:
            self._deletions.prepare()
        except OSError as error:
            raise ConfigurationError(f"the engine's state directory cannot be used: {error}") from error
        self._session = open_session(self._settings, java_home=self._java_home, jars=self._jars)
        self._catalogs = Catalogs(self._session, self._resolve)
        self._overseer = Overseer(self._live)
        self._overseer.start()
        logger.info("engine.warmed", engine="spark", version=self.info.version, pid=self.process_id)

    def run(self, attempt: Attempt) -> Result:
        session = self._started()
        with self._slot() as slot:
            run = Run(session, attempt, slot)
            try:
                with run, self._registered(run) as tracker:
                    return self._carry_out(run, tracker)
            except Exception as error:
                return _without_judgement(run, error)

    def cancel(self, attempt: Attempt) -> None:
        lease = attempt.assignment.lease
        with self._lock:
            found = [r for r, _ in self._runs.values() if r.assignment.lease == lease]
        for run in found:
            run.cancel()

    def stop(self) -> None:
        if self._overseer is not None:
            self._overseer.stop()
        session, self._session = self._session, None
        if session is None:
            return
        if self._catalogs is not None:
            self._catalogs.close()
            self._catalogs = None
        session.stop()

    def _carry_out(self, run: Run, tracker: JobTracker) -> Result:
        assert self._catalogs is not None
        run.check()
        wanted = run.assignment.table
        try:
            with run.interruptible():
                table = self._catalogs.load(wanted)
            if not _is_same(wanted, table):
                return _skipped("table_replaced")
            match run.assignment.action:
                case RewriteDataFiles() as action:
                    return rewrite(run, tracker, table, action)
                case ExpireSnapshots() as action:
                    return expire(run, table, action, self._deletions, batch=self._settings.deletion_batch)
        except Exception as error:
            failed = java_error(error)
            if failed is None or run.begun:
                # What changes a table is judged where it is done: here nobody knows what was.
                raise
            if run.cancelled:
                raise Cancelled from None
            if failed.table_gone:
                return _skipped("table_gone")
            failure = failed.failure(preparing=True)
            return Result(outcome=Outcome.NO_CHANGE, effects=Effects.NONE, failure=failure)

    @contextlib.contextmanager
    def _registered(self, run: Run) -> Iterator[JobTracker]:
        tracker = JobTracker(run.session, run.tag)
        with self._lock:
            self._runs[run.tag] = (run, tracker)
        try:
            yield tracker
        finally:
            with self._lock:
                del self._runs[run.tag]

    @contextlib.contextmanager
    def _slot(self) -> Iterator[int]:
        """The lowest free number, so that the pools of one executor stay few."""
        with self._lock:
            slot = next(number for number in range(len(self._slots) + 1) if number not in self._slots)
            self._slots.add(slot)
        try:
            yield slot
        finally:
            with self._lock:
                self._slots.discard(slot)

    def _live(self) -> Sequence[tuple[Run, JobTracker]]:
        with self._lock:
            return list(self._runs.values())

    def _started(self) -> Session:
        if self._session is None:
            raise RuntimeError("the Spark engine is not started")
        return self._session


def _is_same(wanted: Table, table: OpenTable) -> bool:
    """Tables of the first format version may have no UUID: then the location alone tells."""
    metadata = table.metadata
    return wanted.uuid in ("", metadata.uuid) and same_location(wanted.location, metadata.location)


def _skipped(reason: str) -> Result:
    return Result(outcome=Outcome.NO_CHANGE, effects=Effects.NONE, skipped=reason)


def _failed(kind: FailureClass, message: str) -> Result:
    return Result(outcome=Outcome.NO_CHANGE, effects=Effects.NONE, failure=Failure(kind, message))


def _without_judgement(run: Run, error: Exception) -> Result:
    """The end of an attempt that nobody who knew more has judged."""
    if isinstance(error, Cancelled):
        return Result(outcome=Outcome.NO_CHANGE, effects=Effects.NONE, cancelled=True)
    if isinstance(error, DeadlinePassed):
        return _failed(FailureClass.TIMEOUT, "the lease ran out before anything was done")
    if isinstance(error, Refused | ConfigurationError):
        return _failed(FailureClass.INVALID, str(error))
    lease = run.assignment.lease
    logger.error("attempt.broken", operation=lease.operation, epoch=lease.epoch, exc_info=error)
    java = java_error(error)
    failure = (
        java.failure()
        if java is not None
        else Failure(FailureClass.ENGINE, f"the executor failed with {type(error).__name__}; its log has the details")
    )
    return Result(
        outcome=Outcome.NO_CHANGE,
        effects=Effects.UNKNOWN if run.begun else Effects.NONE,
        failure=failure,
        commits_answered=not run.begun,
    )
