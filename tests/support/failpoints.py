"""Runs a program of ours with seams of it replaced: it says when it has come to a point, and waits there.

`python -m tests.support.failpoints POINT,POINT DIRECTORY MODULE ARGUMENT...` runs `MODULE.main` with these arguments.
A point does nothing until the test arms it (`Gate`); then it holds the next one that comes by, once.
The programs themselves know nothing of this.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_POLL: Final = 0.002


@dataclass(frozen=True, slots=True)
class Gate:
    """The files by which a point of a process and its test meet."""

    directory: Path
    point: str

    @property
    def is_armed(self) -> bool:
        return self._file("armed").exists()

    @property
    def is_reached(self) -> bool:
        return self._file("reached").exists()

    def arm(self) -> None:
        """By the test: hold the next one that comes by."""
        self._file("reached").unlink(missing_ok=True)
        self._file("go").unlink(missing_ok=True)
        self._file("armed").touch()

    def open(self) -> None:
        """By the test: let it go on."""
        self._file("go").touch()

    def said(self) -> str:
        """What the process said when it had come there."""
        return self._file("reached").read_text()

    def tell(self, text: str) -> None:
        """By the process: answer an armed gate, without waiting there."""
        unfinished = self._file("unfinished")
        unfinished.write_text(text)
        self._file("armed").unlink()
        unfinished.replace(self._file("reached"))

    def pass_through(self) -> None:
        """By the process: if the point is armed, say that it is reached, and wait in the calling thread."""
        if not self.is_armed:
            return
        self._file("armed").unlink()
        self._file("reached").touch()
        waited = threading.Event()
        while not self._file("go").exists():
            waited.wait(_POLL)

    def _file(self, what: str) -> Path:
        return self.directory / f"{self.point}.{what}"


def first_spark_task_running(gate: Gate) -> None:
    """The driver's JVM is frozen in the middle of the first task that writes a rewrite's files."""
    from executor.engines.spark import rewrite

    prepare = rewrite.prepare

    def preparing(run: Any, *arguments: Any) -> Any:
        prepared = prepare(run, *arguments)
        if gate.is_armed:
            threading.Thread(target=_freeze_in_first_task, args=(run, gate), name="failpoint", daemon=True).start()
        return prepared

    # What is replaced keeps its parameters.
    rewrite.prepare = preparing  # type: ignore[assignment]


def _freeze_in_first_task(run: Any, gate: Gate) -> None:
    from executor.engines.spark.progress import JobTracker

    tracker = JobTracker(run.session, run.tag)
    waited = threading.Event()
    while gate.is_armed and not waited.wait(_POLL):
        tracker.look()
        if any(job.group is not None and job.tasks_running for job in tracker.jobs.values()):
            driver = run.session.jvm.process.pid
            os.kill(driver, signal.SIGSTOP)
            gate.pass_through()
            os.kill(driver, signal.SIGCONT)


def committed_not_reported(gate: Gate) -> None:
    """The rewrite has committed and has its answer; nobody was told."""
    from executor.engines.spark import rewrite

    look = rewrite.tracker_look

    def looking(tracker: Any) -> None:
        gate.pass_through()
        look(tracker)

    rewrite.tracker_look = looking


def active_spark_jobs(gate: Gate) -> None:
    """Whenever it is armed, it tells which jobs Spark runs now."""

    def answer() -> None:
        from pyspark import SparkContext

        waited = threading.Event()
        while not waited.wait(0.05):
            context = SparkContext._active_spark_context
            if gate.is_armed and context is not None:
                gate.tell(str(sorted(context.statusTracker().getActiveJobsIds())))

    threading.Thread(target=answer, name="failpoint", daemon=True).start()


def another_protocol_version(gate: Gate) -> None:
    """It speaks a version of the protocol that nobody speaks."""
    from executor import introduction

    defaults = introduction.Introduction.__init__.__kwdefaults__
    assert defaults is not None
    defaults["protocol_version"] = 99


def frozen_while_scheduling(gate: Gate) -> None:
    """The leader stops as a machine that swaps would, with targets locked and nothing of what it decided stored."""
    from control_plane.services.scheduling import Scheduler

    settled = Scheduler._settled

    async def deciding(*arguments: Any) -> Any:
        decided = await settled(*arguments)
        if gate.is_armed:
            gate.tell("locked")
            os.kill(os.getpid(), signal.SIGSTOP)
        return decided

    # What is replaced keeps its parameters.
    Scheduler._settled = deciding  # type: ignore[method-assign, assignment]


POINTS: Final[dict[str, Callable[[Gate], None]]] = {
    function.__name__: function
    for function in (
        first_spark_task_running,
        committed_not_reported,
        active_spark_jobs,
        another_protocol_version,
        frozen_while_scheduling,
    )
}


def main() -> int:
    points, directory, module, *arguments = sys.argv[1:]
    for point in points.split(","):
        POINTS[point](Gate(Path(directory), point))
    sys.argv = [module, *arguments]
    return int(importlib.import_module(module).main(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main())
