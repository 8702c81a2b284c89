"""Real processes for tests: started with a marker in their environment, watched by their logs, stopped by their pids.

Nothing that carries the marker may be left at the end: a test that leaves a process behind fails, whatever it proved.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.support.waiting import eventually

MARKER: Final = "FLOE_TEST_PROCESS"
CHILD: Final = "FLOE_TEST_CHILD"
_ROOT: Final = Path(__file__).parents[2]
_ENDS_WITHIN: Final = 30.0
_TAIL_LINES: Final = 25
_TAIL_WIDTH: Final = 400
STASH: Final = pytest.StashKey["Processes"]()
"""Where a node of the test run keeps its processes, for their last lines to be shown with what failed."""


class Child:
    """One process of a test and its log, to which both of its outputs go."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], *, id: str, log: Path) -> None:
        self.name = name
        self.id = id
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs. Negative: the signal that killed it."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        if self.code is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until the kernel has done it."""
        self.send(signal.SIGKILL)
        self._process.wait(_ENDS_WITHIN)

    def kill_tree(self) -> None:
        """kill -9 of it and all that it started, at once, as when the machine is lost."""
        for pid in _marked(CHILD, self.id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(_ENDS_WITHIN)

    def freeze(self) -> None:
        """Stop it as a machine that swaps would: it holds everything and does nothing."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    async def ended(self, *, within: float = _ENDS_WITHIN) -> int:
        """Its exit code, once it has one."""

        async def look() -> tuple[int] | None:
            return None if self.code is None else (self.code,)

        return (await eventually(look, within=within, pause=0.02))[0]

    async def stop(self, *, within: float = _ENDS_WITHIN) -> int:
        """SIGTERM, and its exit code."""
        self.thaw()
        self.send(signal.SIGTERM)
        return await self.ended(within=within)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def events(self, event: str, **fields: object) -> list[Mapping[str, Any]]:
        """The structured events of that name and with those fields that it has logged so far."""
        found = []
        for line in self.text().splitlines():
            if line.startswith("{") and event in line:
                try:
                    said = json.loads(line)
                except ValueError:
                    continue  # Half of a line that is being written.
                if said.get("event") == event and all(said.get(key) == value for key, value in fields.items()):
                    found.append(said)
        return found

    async def said(self, event: str, *, within: float = 60.0, times: int = 1, **fields: object) -> Mapping[str, Any]:
        """Wait until it has logged the event so often; the last of them. Fails at once if the process ends before."""

        async def look() -> list[Mapping[str, Any]] | None:
            over = self.code is not None
            found = self.events(event, **fields)
            if len(found) >= times:
                return found
            if over:
                raise AssertionError(f"{self.name} ended with {self.code} before it said {event!r}\n{self.tail()}")
            return None

        return (await eventually(look, within=within, pause=0.05))[-1]

    def tail(self) -> str:
        return "\n".join(line[:_TAIL_WIDTH] for line in self.text().splitlines()[-_TAIL_LINES:])


class Processes:
    """The processes of one test, or of one module's tests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.marker = str(uuid4())
        self.children: list[Child] = []

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> Child:
        """Start a program; of this process's own settings of Floe it sees nothing."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FLOE_")}
        path = [str(_ROOT), str(_ROOT / "shared" / "gen"), str(_ROOT / "proto" / "sdk" / "python")]
        path.extend(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
        id = str(uuid4())
        log = self.directory / f"{len(self.children):02d}-{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**inherited, "PYTHONPATH": os.pathsep.join(path), **environ, MARKER: self.marker, CHILD: id},
                # A group of its own: ^C at the terminal is the test's to handle.
                start_new_session=True,
            )
        child = Child(name, process, id=id, log=log)
        self.children.append(child)
        return child

    def python(self, name: str, module: str, *arguments: str, environ: Mapping[str, str]) -> Child:
        """Start `python -m module`."""
        return self.start(name, [sys.executable, "-m", module, *arguments], environ)

    async def run(self, name: str, module: str, *arguments: str, environ: Mapping[str, str]) -> Child:
        """Start it and wait for its end; a code other than 0 fails."""
        child = self.python(name, module, *arguments, environ=environ)
        code = await child.ended(within=60)
        assert code == 0, f"{name} ended with {code}\n{child.tail()}"
        return child

    def marked(self) -> Mapping[int, str]:
        """Every process that carries the marker, started by a child or by a child's child: its pid and command."""
        return _marked(MARKER, self.marker)

    async def close(self) -> None:
        """End all, the last first; fails if any process has to be killed, or outlives the one that started it."""
        stubborn = []
        for child in reversed(self.children):
            child.thaw()
            child.send(signal.SIGTERM)
            try:
                await child.ended()
            except AssertionError:
                stubborn.append(f"{child.name} did not end within {_ENDS_WITHIN:g} s of SIGTERM")
                child.kill()

        async def gone() -> bool:
            return not self.marked()

        try:
            await eventually(gone, within=15, pause=0.05)
        except AssertionError:
            for pid, command in self.marked().items():
                stubborn.append(f"left behind: {pid} {command}")
                os.kill(pid, signal.SIGKILL)
        assert not stubborn, "\n".join(stubborn)

    def tails(self) -> Iterator[tuple[str, str]]:
        for child in self.children:
            yield f"{child.name} (pid {child.pid}, ended: {child.code})", child.tail()


@asynccontextmanager
async def running_processes(directory: Path) -> AsyncIterator[Processes]:
    processes = Processes(directory)
    try:
        yield processes
    finally:
        await processes.close()


@pytest_asyncio.fixture
async def processes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Processes]:
    """The processes of this test; their last lines are shown if it fails."""
    directory = tmp_path / "processes"
    directory.mkdir()
    async with running_processes(directory) as started:
        request.node.stash[STASH] = started
        yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for node in item.listchain():
            if (started := node.stash.get(STASH, None)) is not None:
                report.sections.extend(started.tails())
    return report


def _marked(variable: str, value: str) -> Mapping[int, str]:
    wanted = f"{variable}={value}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
        except OSError:
            continue  # It has ended meanwhile, or is not ours.
    return found


_given_ports: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, and that this test run has not given away before."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        if port not in _given_ports:
            _given_ports.add(port)
            return port
