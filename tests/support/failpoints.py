"""Runs a program of ours with one seam of it replaced: it says when it has come to that point, and waits there.

`python -m tests.support.failpoints POINT DIRECTORY MODULE ARGUMENT...` runs `MODULE.main` with these arguments. At the
point, the file DIRECTORY/reached appears, and the process (or its engine) goes no further until DIRECTORY/go is there.
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
    """The two files by which a point and its test meet. It opens once; later passages are free."""

    directory: Path

    @property
    def is_reached(self) -> bool:
        return (self.directory / "reached").exists()

    def open(self) -> None:
        """By the test: let it go on."""
        (self.directory / "go").touch()

    def pass_through(self) -> None:
        """By the process: say that the point is reached, and wait in the calling thread."""
        if self.is_reached:
            return
        (self.directory / "reached").touch()
        waited = threading.Event()
        while not (self.directory / "go").exists():
            waited.wait(_POLL)


def first_spark_task_running(gate: Gate) -> None:
    """The driver's JVM is frozen in the middle of the first task that writes a rewrite's files."""
    from executor.engines.spark import rewrite

    prepare = rewrite.prepare

    def preparing(run: Any, *arguments: Any) -> Any:
        prepared = prepare(run, *arguments)
        threading.Thread(target=_freeze_in_first_task, args=(run, gate), name="failpoint", daemon=True).start()
        return prepared

    # What is replaced keeps its parameters.
    rewrite.prepare = preparing  # type: ignore[assignment]


def _freeze_in_first_task(run: Any, gate: Gate) -> None:
    from executor.engines.spark.progress import JobTracker

    tracker = JobTracker(run.session, run.tag)
    waited = threading.Event()
    while not gate.is_reached and not waited.wait(_POLL):
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


def another_protocol_version(gate: Gate) -> None:
    """It speaks a version of the protocol that nobody speaks."""
    from executor import introduction

    defaults = introduction.Introduction.__init__.__kwdefaults__
    assert defaults is not None
    defaults["protocol_version"] = 99


POINTS: Final[dict[str, Callable[[Gate], None]]] = {
    function.__name__: function
    for function in (first_spark_task_running, committed_not_reported, another_protocol_version)
}


def main() -> int:
    point, directory, module, *arguments = sys.argv[1:]
    POINTS[point](Gate(Path(directory)))
    sys.argv = [module, *arguments]
    return int(importlib.import_module(module).main(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main())
