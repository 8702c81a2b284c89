"""`floe-control-plane` as a process: it starts, says so, and stops; what hinders it is said in a line."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from floe.v1 import system_pb2, system_pb2_grpc

PATIENCE = 30
ANYWHERE = {"FLOE_GRPC__ADDRESS": "127.0.0.1:0", "FLOE_EXECUTOR_API__ADDRESS": "127.0.0.1:0"}


def postgres(dsn: str) -> dict[str, str]:
    return {**ANYWHERE, "FLOE_STORE__TYPE": "postgres", "FLOE_STORE__DSN": dsn}


@asynccontextmanager
async def running(*arguments: str, **settings: str) -> AsyncIterator[Process]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control_plane.cli", *arguments, stdout=PIPE, stderr=PIPE, env={**environment, **settings}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finished(*arguments: str, **settings: str) -> tuple[int | None, str, str]:
    async with running(*arguments, **settings) as process, asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def line_with(process: Process, words: str) -> str:
    """The first line of its log that holds the words."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        while line := (await process.stderr.readline()).decode():
            if words in line:
                return line
    raise AssertionError(f"the process ended without {words!r}")


async def test_it_migrates_serves_and_stops_on_a_signal(empty_database: str) -> None:
    settings = postgres(empty_database)
    unmigrated = await finished("serve", **settings)
    first = await finished("migrate", **settings)
    second = await finished("migrate", **settings)
    async with running("serve", **settings) as process:
        await line_with(process, "server.started")
        port = int(re.findall(r'"port": (\d+)', await line_with(process, "server.started"))[0])
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            await line_with(process, "control_plane.started")
            served = await health.Check(health_pb2.HealthCheckRequest())
            info = await system_pb2_grpc.SystemServiceStub(channel).GetServerInfo(system_pb2.GetServerInfoRequest())
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await process.wait()

    assert (unmigrated[0], "floe-control-plane migrate" in unmigrated[2]) == (3, True)
    assert (first[0], "applied" in first[1], second[0], "applied" in second[1]) == (0, True, 0, False)
    assert served.status == health_pb2.HealthCheckResponse.SERVING
    assert (info.store_type, info.schema_version > 0) == ("postgres", True)
    assert info.settings["FLOE_STORE__DSN"] == "**********"
    assert process.returncode == 0


async def test_a_database_that_does_not_answer_is_waited_for_and_then_named() -> None:
    settings = {**postgres("postgresql://floe:hunter2@127.0.0.1:1/floe"), "FLOE_STORE__CONNECT_WITHIN": "PT1.5S"}

    code, _, complaint = await finished("serve", **settings)

    assert code == 3
    assert "database.awaited" in complaint
    assert "floe-control-plane: the database at 127.0.0.1:1 did not answer" in complaint
    assert "Traceback" not in complaint
    assert "hunter2" not in complaint


async def test_it_can_be_stopped_while_it_waits_for_its_database() -> None:
    settings = postgres("postgresql://floe@127.0.0.1:1/floe")
    async with running("serve", **settings) as process:
        await line_with(process, "database.awaited")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await process.wait()

    assert process.returncode == 0


async def test_an_address_that_is_taken_is_named() -> None:
    async with running("serve", **ANYWHERE, FLOE_STORE__TYPE="memory") as first:
        port = re.findall(r'"port": (\d+)', await line_with(first, "server.started"))[0]
        taken = {**ANYWHERE, "FLOE_GRPC__ADDRESS": f"127.0.0.1:{port}"}
        code, _, complaint = await finished("serve", **taken, FLOE_STORE__TYPE="memory")

    assert code == 4
    assert f"127.0.0.1:{port}" in complaint
    assert "Traceback" not in complaint


async def test_check_config_prints_what_holds_and_warns_of_what_is_doubtful() -> None:
    dsn = "postgresql://floe:hunter2@db/floe"

    code, shown, warned = await finished("check-config", FLOE_GUARDS__SNAPSHOT_AGE_FLOOR="PT5M", **postgres(dsn))
    wrong = await finished("check-config", FLOE_LEASE__TTL="60")

    assert code == 0
    assert "FLOE_STORE__DSN=**********" in shown
    assert "hunter2" not in shown + warned
    assert "snapshot_age_floor" in warned
    assert (wrong[0], "FLOE_LEASE__TTL" in wrong[2]) == (2, True)


async def test_version_and_help_need_no_settings() -> None:
    version = await finished("version", FLOE_NONSENSE="1")
    usage = await finished("--help")

    assert version[0] == usage[0] == 0
    assert re.match(r"\d+\.\d+", version[1])
    assert "check-config" in usage[1]
