"""What the service adds to an operation, beside what a cold spark-submit adds to it."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from executor.engines.spark.artifacts import spark_jars
from executor.engines.spark.java import find_java
from floe_client import AsyncFloe, types
from tests.bench import report
from tests.bench.planes import compaction, control_plane, process, server
from tests.support.iceberg import messy_table, running_rest_catalog
from tests.support.waiting import eventually

TABLES = 20
COLD = 3
_ACTION = str(Path(__file__).with_name("spark_action.py"))


async def operation_overhead() -> bool:
    """(Floe − bare warm) / (cold spark-submit − bare warm), medians over tiny tables, in turn."""
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as folder, running_rest_catalog(Path(folder)) as lake:
        catalog = lake.open()
        catalog.create_namespace("tiny")
        names = [
            f"{kind}{n}" for kind, count in (("floe", TABLES), ("bare", TABLES), ("cold", COLD)) for n in range(count)
        ]
        for name in [*names, "floewarm", "barewarm"]:
            messy_table(catalog, ("tiny", name), files=6, commits=1, partitions=1)
        async with (
            server() as (postgres, _),
            control_plane(postgres) as plane,
            _executor(plane.executors, folder),
            AsyncFloe(plane.public) as floe,
            _warm(lake.uri) as warm,
        ):
            await _prepare(floe, lake.uri)
            await _by_floe(floe, "floewarm")
            await _by_bare(warm, "barewarm")
            ours, bare, cold = [], [], []
            for n in range(TABLES):
                ours.append(await _by_floe(floe, f"floe{n}"))
                bare.append(await _by_bare(warm, f"bare{n}"))
                if n < COLD:
                    cold.append(await _by_submit(lake.uri, f"cold{n}"))
    report.note(f"floe {report.shown(ours)}, bare {report.shown(bare)}, cold {report.shown(cold)}")
    return report.at_most("operation_overhead", (median(ours) - median(bare)) / (median(cold) - median(bare)), 0.05)


@asynccontextmanager
async def _executor(address: str, folder: str) -> AsyncIterator[None]:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("FLOE_")},
        "FLOE_EXECUTOR__CONTROL_PLANE": address,
        "FLOE_EXECUTOR__STATE_DIRECTORY": f"{folder}/executor",
        "FLOE_TELEMETRY__LOG_LEVEL": "WARNING",
    }
    async with process("-m", "executor.cli", "serve", environment=environment):
        yield


@asynccontextmanager
async def _warm(uri: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, _ACTION, uri, _jars(), "-"),
        env=_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        assert started.stdin is not None
        started.stdin.close()
        await asyncio.wait_for(started.wait(), 60)


async def _prepare(floe: AsyncFloe, uri: str) -> None:
    await floe.catalogs.create(types.Catalog(name="lake", type=types.CatalogType.CATALOG_TYPE_REST, uri=uri))
    await floe.policies.create(compaction("bench"))

    async def attached() -> bool:
        found = [executor async for executor in floe.executors.list()]
        return bool(found) and found[0].state == types.ExecutorState.EXECUTOR_STATE_ATTACHED

    await eventually(attached, within=120, pause=0.2)


async def _by_floe(floe: AsyncFloe, table: str) -> float:
    begun = time.perf_counter()
    trigger = await floe.trigger(f"lake.tiny.{table}")
    for operation in trigger.operations:
        await operation.result(timeout=120)
    return time.perf_counter() - begun


async def _by_bare(warm: asyncio.subprocess.Process, table: str) -> float:
    assert warm.stdin is not None
    assert warm.stdout is not None
    warm.stdin.write(f"tiny.{table}\n".encode())
    while True:
        line = (await asyncio.wait_for(warm.stdout.readline(), 120)).decode()
        if not line:
            raise RuntimeError("the warm session ended; run spark_action.py by hand to see why")
        if line.startswith("seconds "):
            return float(line.split()[1])


async def _by_submit(uri: str, table: str) -> float:
    submit = Path(sys.executable).with_name("spark-submit")
    begun = time.perf_counter()
    started = await asyncio.create_subprocess_exec(
        *(str(submit), "--master", "local[2]", "--driver-memory", "1g", "--jars", _jars(), _ACTION),
        *(uri, _jars(), f"tiny.{table}"),
        env=_environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    status = await asyncio.wait_for(started.wait(), 180)
    if status != 0:
        raise RuntimeError(f"spark-submit ended with {status}; run spark_action.py by hand to see why")
    return time.perf_counter() - begun


def _environment() -> dict[str, str]:
    return {**os.environ, "JAVA_HOME": str(find_java().home), "PYSPARK_PYTHON": sys.executable}


def _jars() -> str:
    return ",".join(str(jar) for jar in spark_jars())
