from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.spark

_ROOT = Path(__file__).parents[3]
_PROGRAM = """
import sys, threading
from pathlib import Path
from executor.engines.spark.artifacts import spark_jars
from executor.engines.spark.engine import SparkEngine
from executor.engines.spark.java import find_java
from executor.engines.spark.session import SparkSettings

engine = SparkEngine(
    SparkSettings(state_directory=Path(sys.argv[1]), master="local[1]", driver_memory="512m"),
    java_home=find_java().home, jars=spark_jars(), resolve=lambda catalog: catalog.properties,
)
started = threading.Thread(target=engine.start)
started.start()
started.join()
print(engine.process_id, flush=True)
sys.stdin.readline()
engine.stop()
engine.start()
engine._session.spark.range(3).count()
print(engine.process_id, flush=True)
sys.stdin.readline()
engine.stop()
print("stopped", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def executor(tmp_path: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def answer(process: subprocess.Popen[str]) -> str:
    """The next line that the process says."""
    assert process.stdout is not None
    overdue = threading.Timer(90, process.kill)
    overdue.start()
    try:
        while line := process.stdout.readline():
            if line.strip().isdigit() or line == "stopped\n":
                return line.strip()
        raise AssertionError("the process ended before it answered; see its output above")
    finally:
        overdue.cancel()


def watched(process_id: int) -> int:
    """A descriptor of the running driver, which no later process of the same id can be taken for."""
    assert b"java" in Path(f"/proc/{process_id}/cmdline").read_bytes()
    return os.pidfd_open(process_id)


def ended(descriptor: int, *, within: float) -> bool:
    try:
        return bool(select.select([descriptor], [], [], within)[0])
    finally:
        os.close(descriptor)


def test_the_driver_dies_with_an_executor_that_is_killed(executor: subprocess.Popen[str]) -> None:
    with executor:
        # The thread that started the engine has ended: the driver's life does not hang on it.
        driver = watched(int(answer(executor)))

        executor.send_signal(signal.SIGKILL)

        assert ended(driver, within=15)


def test_a_dead_driver_is_replaced_and_a_stopped_engine_leaves_none(executor: subprocess.Popen[str]) -> None:
    with executor:
        first = int(answer(executor))
        os.kill(first, signal.SIGKILL)
        tell(executor)
        second = int(answer(executor))
        driver = watched(second)
        assert second != first

        tell(executor)

        assert answer(executor) == "stopped"
        assert ended(driver, within=0)
        executor.kill()


def tell(process: subprocess.Popen[str]) -> None:
    """Let the program go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
