"""The embedded PostgreSQL, started for real: it keeps its data, serves one supervisor, and outlives nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from control_plane.store.postgres.embedded import (
    EmbeddedPostgresError,
    embedded_postgres,
    erase_embedded_postgres,
)

_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from control_plane.store.postgres.embedded import embedded_postgres

async def main():
    async with embedded_postgres(Path(sys.argv[1])) as dsn:
        print(dsn, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="floe-pg-") as folder:
        # As on most machines: others may pass. The closed folder has a test of its own.
        os.chmod(folder, 0o711)
        yield Path(folder) / "postgres"
        erase_embedded_postgres(Path(folder) / "postgres")


async def test_a_restart_keeps_data_port_and_password(directory: Path) -> None:
    async with embedded_postgres(directory) as first:
        await _execute(first, "CREATE TABLE kept AS SELECT 42 AS answer")

    async with embedded_postgres(directory) as second:
        answer = await _value(second, "SELECT answer FROM kept")

    assert answer == 42
    assert second == first


async def test_the_server_is_durable_private_and_on_loopback_only(directory: Path) -> None:
    async with embedded_postgres(directory) as dsn:
        settings = [
            await _value(dsn, f"SHOW {name}")
            for name in ("fsync", "listen_addresses", "unix_socket_directories", "password_encryption")
        ]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await _value(dsn.replace("floe:", "floe:x", 1), "SELECT 1")

    assert settings == ["on", "127.0.0.1", "", "scram-sha-256"]
    assert stat.S_IMODE((directory / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((directory / "data").stat().st_mode) == 0o700


async def test_nothing_runs_after_the_context_is_closed(directory: Path) -> None:
    async with embedded_postgres(directory):
        assert _servers(directory)

    assert not _servers(directory)


async def test_a_killed_supervisor_leaves_no_server(directory: Path) -> None:
    async with _supervisor(directory) as (process, dsn):
        await _execute(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await _all_gone(directory)

    async with embedded_postgres(directory) as again:
        assert await _value(again, "SELECT answer FROM kept") == 42


async def test_a_start_right_after_a_kill_takes_over_from_the_dying_server(directory: Path) -> None:
    async with _supervisor(directory) as (process, _):
        # Stopped, the server cannot act on its parent's death: it is what the next start must deal with.
        leftover = _postmaster(directory)
        os.kill(leftover, signal.SIGSTOP)
        process.send_signal(signal.SIGKILL)
        await process.wait()

        starting = asyncio.create_task(_start_and_ask(directory))
        await asyncio.sleep(0)
        os.kill(leftover, signal.SIGCONT)

        assert await starting == 1
    assert not _servers(directory)


async def test_a_second_supervisor_is_refused_by_the_pid_of_the_first(directory: Path) -> None:
    async with _supervisor(directory) as (process, dsn):
        with pytest.raises(EmbeddedPostgresError, match=f"in use by process {process.pid}"):
            async with embedded_postgres(directory):
                pass

        assert await _value(dsn, "SELECT 1") == 1


async def test_a_taken_port_is_replaced(directory: Path) -> None:
    async with embedded_postgres(directory) as first:
        pass
    port = int((directory / "port").read_text())
    occupant = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)

    async with occupant, embedded_postgres(directory) as second:
        assert await _value(second, "SELECT 1") == 1

    assert second != first


async def test_a_broken_cluster_is_reported_with_the_end_of_its_log(directory: Path) -> None:
    async with embedded_postgres(directory):
        pass
    (directory / "data" / "PG_VERSION").write_text("7\n")

    with pytest.raises(EmbeddedPostgresError, match=r"(?s)exited with code 1.*incompatible with server"):
        async with embedded_postgres(directory):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
async def test_under_a_folder_closed_to_the_server_the_data_lies_behind_a_link(directory: Path) -> None:
    closed = directory.parent / "closed"
    closed.mkdir(mode=0o700)
    try:
        async with embedded_postgres(closed / "postgres") as dsn:
            assert await _value(dsn, "SELECT 1") == 1
            data = (closed / "postgres" / "data").resolve()

        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert data.exists()
    finally:
        erase_embedded_postgres(closed / "postgres")
    assert not data.exists()


@asynccontextmanager
async def _supervisor(directory: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Another process that supervises the directory; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUPERVISOR, str(directory), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            dsn = ""
            while not dsn.startswith("postgresql://"):
                line = await process.stdout.readline()
                assert line, "the supervisor ended before its server was ready"
                dsn = line.decode().strip()
        yield process, dsn
    finally:
        if process.returncode is None:
            process.terminate()
        # Reads to the end, which closes the pipe.
        await process.communicate()
        await _all_gone(directory)


async def _start_and_ask(directory: Path) -> object:
    async with embedded_postgres(directory) as dsn:
        return await _value(dsn, "SELECT 1")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def _all_gone(directory: Path) -> None:
    async with asyncio.timeout(30):
        while _servers(directory):  # noqa: ASYNC110 - the end of a process that is not our child sets no event
            await asyncio.sleep(0)


def _postmaster(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().splitlines()[0])


def _servers(directory: Path) -> list[int]:
    """The processes that work in the directory's data folder: the server and its children."""
    data = (directory / "data").resolve()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _works_in(pid, data)]


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")) == folder
    except OSError:
        return False
