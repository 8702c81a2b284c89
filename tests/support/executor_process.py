"""A real executor process with the fake engine: what can be stopped, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from executor.processes import ProcessIdentity
from tests.support.fake_tables import VARIABLE
from tests.support.waiting import eventually

_ROOT = Path(__file__).parents[2]
_ENDS_WITHIN = 30.0


class ExecutorProcess:
    """`floe-executor serve`. Its log goes to `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code; minus the signal's number if one killed it."""
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"the executor did not end within {_ENDS_WITHIN:g} s:\n{self.log}") from None

    async def child(self, module: str) -> ProcessIdentity:
        """The child process that runs this module, once there is one."""

        async def look() -> ProcessIdentity | None:
            return _child(self.pid, module)

        return await eventually(look)

    async def engine(self) -> ProcessIdentity:
        return await self.child("tests.support.fake_engine_process")

    async def watchdog(self) -> ProcessIdentity:
        return await self.child("executor.watchdog")


def _child(parent: int, module: str) -> ProcessIdentity | None:
    for path in Path("/proc").glob("[0-9]*"):
        # A process may end between any two of these lines.
        with contextlib.suppress(OSError):
            is_child = int((path / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and module.encode() in (path / "cmdline").read_bytes():
                return ProcessIdentity.of(int(path.name))
    return None


async def gone(process: ProcessIdentity) -> None:
    """Wait until it is dead."""

    async def look() -> bool:
        return not process.is_alive

    await eventually(look)


@asynccontextmanager
async def executor_process(
    address: str, directory: Path, *, name: str = "e1", environment: Mapping[str, str] | None = None
) -> AsyncIterator[ExecutorProcess]:
    """Started on the control plane at `address`. `directory` holds the effect log; each name has a state of its own."""
    paths = [str(_ROOT), str(_ROOT / "shared" / "gen"), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {
        "PYTHONPATH": os.pathsep.join(paths),
        VARIABLE: str(directory),
        "FLOE_ENGINE_TYPE": "tests.support.fake_engine:create",
        "FLOE_EXECUTOR__OBSERVATION_LANE": "tests.support.fake_engine:lane",
        "FLOE_EXECUTOR__CONTROL_PLANE": address,
        "FLOE_EXECUTOR__STATE_DIRECTORY": str(directory / f"state-{name}"),
        "FLOE_EXECUTOR__DISPLAY_NAME": name,
        "FLOE_EXECUTOR__SHUTDOWN_GRACE": "PT0S",
        **(environment or {}),
    }
    path = directory / f"{name}.log"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("FLOE_")}
    with path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "executor.cli", "serve", stderr=log, env={**inherited, **settings}
        )
    executor = ExecutorProcess(process, path)
    try:
        yield executor
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
