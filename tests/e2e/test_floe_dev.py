"""`floe dev` with its real programs: one tree that is refused twice, ends as one, and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from floe_client import AsyncFloe
from tests.support.processes import free_port
from tests.support.waiting import eventually

FLOE = Path(sys.executable).with_name("floe")

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]


class Tree:
    """One `floe dev`, its ports, and the mark that all of its processes carry."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ready_file = directory / "ready.json"
        self.mark = str(uuid.uuid4())
        self.grpc, self.executor, self.catalog = (free_port() for _ in range(3))
        self.process: Process | None = None

    async def start(self) -> Process:
        self.process = await asyncio.create_subprocess_exec(
            *(FLOE, "dev", "--directory", self.directory, "--ready-file", self.ready_file),
            *("--grpc-port", str(self.grpc), "--executor-port", str(self.executor)),
            *("--catalog-port", str(self.catalog)),
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, "FLOE_TEST_MARK": self.mark},
        )
        return self.process

    async def ready(self) -> dict[str, Any]:
        assert self.process is not None
        await until(lambda: self.ready_file.exists() or self.process_ended())
        assert not self.process_ended(), await self.output()
        document: dict[str, Any] = json.loads(self.ready_file.read_text())
        return document

    async def ended(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(60):
            return await self.process.wait()

    async def output(self) -> str:
        assert self.process is not None and self.process.stdout is not None
        async with asyncio.timeout(60):
            return (await self.process.stdout.read()).decode()

    def process_ended(self) -> bool:
        return self.process is not None and self.process.returncode is not None

    def left(self) -> list[str]:
        """The processes whose environment holds the mark."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in (process / "environ").read_bytes():
                    found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
        return found


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Tree]:
    tree = Tree(directory)
    process = await tree.start()
    try:
        yield tree
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await until(lambda: not tree.left())


async def until(condition: Callable[[], bool]) -> None:
    async def look() -> bool | None:
        return condition() or None

    await eventually(look, within=120, pause=0.05)


async def test_it_is_refused_twice_stops_as_one_and_starts_again_where_it_was(tmp_path: Path) -> None:
    async with running(tmp_path / "dev") as tree:
        ready = await tree.ready()
        async with AsyncFloe(ready["server"]) as client:
            checked = await client.catalogs.check("local", refresh=True)
        assert checked.healthy, checked

        same_directory = Tree(tree.directory)
        await same_directory.start()
        assert f"used by another floe dev, pid {ready['pids']['dev']}" in await same_directory.output()
        assert await same_directory.ended() == 5

        same_port = Tree(tmp_path / "other")
        same_port.grpc = tree.grpc
        await same_port.start()
        assert f"port {tree.grpc} is taken by pid {ready['pids']['control-plane']}" in await same_port.output()
        assert await same_port.ended() == 5

        assert tree.process is not None
        tree.process.send_signal(signal.SIGINT)
        said = await tree.output()
        assert await tree.ended() == 0, said
        stopped = [line.split()[0] for line in said.splitlines() if " stopped " in line]
        assert stopped == ["executor", "catalog", "control-plane"]
        assert not tree.ready_file.exists()
        await until(lambda: not tree.left())

        await tree.start()
        await tree.ready()
        tree.process.send_signal(signal.SIGTERM)
        assert await tree.ended() == 0


async def test_a_kill_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running(tmp_path / "dev") as tree:
        await tree.ready()
        assert len(tree.left()) >= 5, "the tree, two planes, two JVMs: the mark is not found where it should be"

        assert tree.process is not None
        tree.process.kill()
        await tree.ended()

        await until(lambda: not tree.left())


async def test_the_death_of_one_process_ends_all_and_is_explained(tmp_path: Path) -> None:
    async with running(tmp_path / "dev") as tree:
        ready = await tree.ready()

        os.kill(ready["pids"]["control-plane"], signal.SIGKILL)

        said = await tree.output()
        assert await tree.ended() == 1
        assert "control-plane killed by signal 9; its log" in said
        await until(lambda: not tree.left())
