"""One tree of processes that is all of Floe on this machine: started, watched and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from floe_client.cli.children import Child, start
from floe_client.cli.dev_programs import (
    DevSettings,
    Refused,
    control_plane_environment,
    executor_environment,
    find_programs,
)
from floe_client.cli.exits import Exit
from floe_client.cli.ports import is_free, listener
from floe_client.client import AsyncFloe
from floe_client.errors import FloeError, NotFound, Unavailable
from floe_client.types import Catalog, CatalogType, ExecutorState

__all__ = ["DevSettings", "run_dev"]

READY_WITHIN: Final = 180.0
"""The first start makes a database and may download what the executor needs."""
STOP_WITHIN: Final = 30.0
_LOOK_EVERY: Final = 0.2


class Died(Exception):
    """A process ended by itself."""

    def __init__(self, child: Child) -> None:
        super().__init__(child.name)
        self.child = child


def run_dev(settings: DevSettings) -> int:
    """Run everything until a signal, or until one of the processes ends by itself."""
    settings = _absolute(settings)
    try:
        with _only_one_in(settings):
            _require_free_ports(settings)
            return asyncio.run(_run(settings))
    except Refused as refusal:
        print(f"floe dev: {refusal}", file=sys.stderr)
        return Exit.CONFLICT


async def _run(settings: DevSettings) -> int:
    return await _Tree(settings).run()


class _Tree:
    """The processes, in the order of their start; they are stopped executor first, control plane last."""

    def __init__(self, settings: DevSettings) -> None:
        self._settings = settings
        self._programs = find_programs(settings)
        self._children: dict[str, Child] = {}
        self._started = time.time()
        self._stop = asyncio.Event()
        self._death: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._watchers = asyncio.TaskGroup()
        self._killed = False

    async def run(self) -> int:
        # Every watcher ends with its child, and every child is stopped before this block ends.
        async with self._watchers:
            return await self._run()

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        try:
            await self._until_stopped(self._start_all())
            await self._until_stopped(self._stop.wait())
        except Died as died:
            self._tell_death(died.child)
            return Exit.FAILED
        except (FloeError, TimeoutError) as error:
            print(f"floe dev: did not get ready: {error or 'no answer in time'}", file=sys.stderr)
            return Exit.FAILED
        finally:
            await self._stop_all()
        return Exit.OK

    async def _start_all(self) -> None:
        async with asyncio.timeout(READY_WITHIN):
            settings, logs = self._settings, self._settings.logs
            # Spark takes longest to start: the executor looks for its control plane until it is there.
            await self._start("catalog", self._programs.catalog, dict(os.environ), answers=True)
            await self._start("control-plane", self._programs.control_plane, control_plane_environment(settings))
            await self._start("executor", self._programs.executor, executor_environment(settings))
            print(f"  logs in {logs}", flush=True)
            async with AsyncFloe(settings.server, timeout=5) as client:
                await self._control_plane_answers(client)
                await self._catalog_answers()
                await self._register_catalog(client)
                await self._executor_attached(client)
        self._tell_ready()

    async def _start(
        self, name: str, command: list[str], environment: dict[str, str], *, answers: bool = False
    ) -> None:
        log = self._settings.logs / f"{name}.log"
        child = await start(name, command, environment=environment, log=log, answers=answers)
        self._children[name] = child
        self._watchers.create_task(self._report_death(child))
        print(f"  {name:<14} starting  pid {child.pid}", flush=True)

    async def _control_plane_answers(self, client: AsyncFloe) -> None:
        while True:
            try:
                await client.system.info()
                break
            except Unavailable:
                await asyncio.sleep(_LOOK_EVERY)
        self._tell("control-plane", "ready")

    async def _catalog_answers(self) -> None:
        output = self._children["catalog"].process.stdout
        assert output is not None, "the catalog was started to answer"
        # It says where it is in one line, once it is ready; an end without it is seen as its death.
        if not await output.readline():
            await asyncio.Event().wait()
        self._tell("catalog", "ready")

    async def _register_catalog(self, client: AsyncFloe) -> None:
        settings = self._settings
        wanted = Catalog(
            name=settings.catalog_name,
            type=CatalogType.CATALOG_TYPE_REST,
            uri=settings.catalog_uri,
            warehouse=settings.warehouse.as_uri(),
            description="The local catalog of floe dev.",
        )
        try:
            known = await client.catalogs.get(settings.catalog_name)
        except NotFound:
            await client.catalogs.create(wanted)
            return
        if (known.uri, known.warehouse) != (wanted.uri, wanted.warehouse):
            await client.catalogs.update(wanted, update_mask=("uri", "warehouse"))

    async def _executor_attached(self, client: AsyncFloe) -> None:
        # One of an earlier start is listed until its silence is noticed: only a new one counts.
        while True:
            async for executor in client.executors.list():
                is_new = executor.attach_time.seconds >= int(self._started)
                if is_new and executor.state == ExecutorState.EXECUTOR_STATE_ATTACHED:
                    self._tell("executor", "ready")
                    return
            await asyncio.sleep(_LOOK_EVERY)

    async def _until_stopped(self, work: Coroutine[Any, Any, object]) -> None:
        """Do the work, unless a signal comes first; the death of a child raises `Died`."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            awaited: set[asyncio.Future[Any]] = {working, stopping, self._death}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if self._death.done():
                raise Died(self._death.result())
            if working.done():
                working.result()
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def _report_death(self, child: Child) -> None:
        await child.process.wait()
        if not self._stop.is_set() and not self._death.done():
            self._death.set_result(child)

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            print("\nstopping; once more kills", flush=True)
            return
        self._killed = True
        for child in self._children.values():
            if child.is_running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)

    async def _stop_all(self) -> None:
        if self._settings.ready_file is not None:
            self._settings.ready_file.unlink(missing_ok=True)
        for name in ("executor", "catalog", "control-plane"):
            child = self._children.get(name)
            if child is None or not child.is_running:
                continue
            in_time = await child.stop(within=STOP_WITHIN)
            self._tell(name, "stopped" if in_time and not self._killed else "killed")

    def _tell(self, name: str, what: str) -> None:
        child = self._children[name]
        print(f"  {name:<14} {what:<9} pid {child.pid}, {child.age():.1f} s", flush=True)

    def _tell_death(self, child: Child) -> None:
        code = child.process.returncode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
        print(f"floe dev: {child.name} {how}; its log, {child.log}, ends:", file=sys.stderr)
        print("\n".join(f"  | {line}" for line in child.last_words().splitlines()), file=sys.stderr)

    def _tell_ready(self) -> None:
        settings = self._settings
        print(
            f"\nFloe is ready.\n"
            f"  public API      {settings.server}\n"
            f"  executor API    127.0.0.1:{settings.executor_port}\n"
            f"  Iceberg catalog {settings.catalog_uri}, registered as {settings.catalog_name!r}\n"
            f"  warehouse       {settings.warehouse}\n"
            f"  everything in   {settings.directory}\n"
            f"Try `floe status` or `floe table list` in another terminal; ^C stops everything.\n",
            flush=True,
        )
        if settings.ready_file is not None:
            document = {
                "server": settings.server,
                "catalog": {
                    "name": settings.catalog_name,
                    "uri": settings.catalog_uri,
                    "warehouse": settings.warehouse.as_uri(),
                },
                "directory": str(settings.directory),
                "pids": {"dev": os.getpid()} | {name: child.pid for name, child in self._children.items()},
            }
            # Whoever waits for the file must never see half of it.
            draft = settings.ready_file.with_name(settings.ready_file.name + ".draft")
            draft.write_text(json.dumps(document, indent=2) + "\n")
            draft.replace(settings.ready_file)


def _absolute(settings: DevSettings) -> DevSettings:
    ready_file = settings.ready_file.absolute() if settings.ready_file is not None else None
    return replace(settings, directory=settings.directory.expanduser().absolute(), ready_file=ready_file)


@contextmanager
def _only_one_in(settings: DevSettings) -> Iterator[None]:
    """Hold the directory's lock, which ends with this process however that ends."""
    try:
        settings.logs.mkdir(parents=True, exist_ok=True)
        lock = (settings.directory / "dev.pid").open("a+")
    except OSError as error:
        raise Refused(f"cannot use {settings.directory}: {error.strerror}; choose another --directory") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise Refused(
                f"{settings.directory} is used by another floe dev, pid {holder}; stop it or choose another --directory"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _require_free_ports(settings: DevSettings) -> None:
    ports = settings.ports
    if len(set(ports.values())) < len(ports):
        raise Refused(f"the ports have to differ: {', '.join(f'{name} {port}' for name, port in ports.items())}")
    for option, port in ports.items():
        if not is_free(port):
            pid = listener(port)
            by = f" by pid {pid}" if pid is not None else ""
            raise Refused(f"port {port} is taken{by}; stop that, or choose another with {option}")
