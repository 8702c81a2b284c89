"""Thirty real tables under three policies: each operation runs when its condition is met, and not before."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from floe.v1 import policy_pb2
from floe_client import AsyncFloe, types
from tests.e2e.test_floe_dev import running
from tests.support.waiting import eventually

pytestmark = [pytest.mark.spark, pytest.mark.timeout(400)]

SCHEMA: Final = Schema(NestedField(1, "id", LongType(), required=False))
TABLES: Final = 10
WORSENED: Final = 5
CALM_WRITES: Final = 2
MORE_WRITES: Final = 6
SUCCEEDED: Final = types.OperationState.OPERATION_STATE_SUCCEEDED
EXPIRED: Final = types.OperationState.OPERATION_STATE_EXPIRED


def policies() -> Iterable[policy_pb2.Policy]:
    """By the number of small files, by the number of snapshots, and by an expression over both."""
    compact = policy_pb2.Policy(name="compact-a", table_pattern="local.a.*")
    compact.rewrite_data_files.min_input_files = 2
    compact.rewrite_data_files_schedule.cron_expression = "*/4 * * * * *"
    compact.trigger_conditions.small_file_count_above = 5
    yield compact

    expire = policy_pb2.Policy(name="expire-b", table_pattern="local.b.*")
    expire.expire_snapshots.retain_last = 1
    expire.expire_snapshots.max_snapshot_age = "PT1S"
    expire.expire_snapshots_schedule.interval = "PT4S"
    expire.trigger_conditions.snapshot_count_above = 5
    yield expire

    both = policy_pb2.Policy(name="compact-c", table_pattern="local.c.*")
    both.rewrite_data_files.min_input_files = 2
    both.rewrite_data_files_schedule.cron_expression = "*/4 * * * * *"
    both.trigger_conditions.expression = "smallFileCount >= 5 && dataFileCount < 100"
    yield both


async def test_operations_run_when_health_gets_worse_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every slot judges the table as it is.
    monkeypatch.setenv("FLOE_HEALTH__MAX_AGE", "PT1S")
    names = [f"{namespace}.t{number}" for namespace in "abc" for number in range(TABLES)]
    worsened = {name for name in names if int(name.partition(".t")[2]) < WORSENED}
    async with running(tmp_path / "dev") as tree:
        ready = await tree.ready()
        catalog = load_catalog("local", type="rest", uri=ready["catalog"]["uri"])
        await asyncio.to_thread(create, catalog, names)
        await asyncio.to_thread(write, catalog, names, times=CALM_WRITES, first=0)
        async with AsyncFloe(ready["server"]) as client:
            for policy in policies():
                await client.policies.create(policy)
            await client.catalogs.check("local", refresh=True)

            await until(lambda: every_table_was_judged(client, names))
            assert not [each async for each in client.operations.list()], "something ran though no condition was met"

            await asyncio.to_thread(write, catalog, worsened, times=MORE_WRITES, first=CALM_WRITES)
            await until(lambda: all_have_succeeded(client, worsened))
            # Two more rounds of slots: what was made healthy, and what always was, is left alone.
            before = await decided(client)
            await until(lambda: everything_was_judged_again(client, before, names))

            ended = [each async for each in client.operations.list()]
            # One that found no executor free before its table's next slot gave way to that one.
            assert {each.state for each in ended} <= {SUCCEEDED, EXPIRED}
            succeeded = Counter(table_of(each) for each in ended if each.state == SUCCEEDED)
            assert set(succeeded) == worsened
            # An expiry leaves what was written in the second before it, and may have to come again for that.
            assert {times for name, times in succeeded.items() if not name.startswith("b.")} == {1}
            assert {table_of(each) for each in ended} == worsened
            async for decision in client.decisions.list(verdicts=["FIRED"]):
                assert decision.reason == "conditions_met"
                assert all(step.passed for step in decision.steps), decision
            counts = await asyncio.to_thread(rows, catalog, names)
    assert counts == {name: CALM_WRITES + MORE_WRITES * (name in worsened) for name in names}


def create(catalog: Catalog, names: Iterable[str]) -> None:
    for namespace in "abc":
        catalog.create_namespace(namespace)
    for name in names:
        catalog.create_table(name, schema=SCHEMA)


def write(catalog: Catalog, names: Iterable[str], *, times: int, first: int) -> None:
    for name in names:
        table = catalog.load_table(name)
        for number in range(first, first + times):
            table.append(pa.table({"id": pa.array([number], pa.int64())}))


def rows(catalog: Catalog, names: Iterable[str]) -> dict[str, int]:
    return {name: catalog.load_table(name).scan().to_arrow().num_rows for name in names}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async def look() -> bool | None:
        return await condition() or None

    await eventually(look, within=120, pause=0.5)


def table_of(about: types.Operation | types.Decision) -> str:
    return f"{about.namespace[0]}.{about.table}"


async def decided(client: AsyncFloe) -> Counter[str]:
    """How many final decisions there are about each table."""
    final = client.decisions.list(verdicts=["FIRED", "SKIPPED"], page_size=1_000)
    return Counter([table_of(each) async for each in final])


async def every_table_was_judged(client: AsyncFloe, names: Iterable[str]) -> bool:
    unmet = client.decisions.list(verdicts=["SKIPPED"], page_size=1_000)
    judged = {table_of(each) async for each in unmet if each.reason == "conditions_not_met"}
    return judged == set(names)


async def everything_was_judged_again(client: AsyncFloe, before: Counter[str], names: Iterable[str]) -> bool:
    now = await decided(client)
    return all(now[name] >= before[name] + 2 for name in names)


async def all_have_succeeded(client: AsyncFloe, names: Iterable[str]) -> bool:
    done = {f"{each.namespace[0]}.{each.table}" async for each in client.operations.list() if each.state == SUCCEEDED}
    return done >= set(names)
