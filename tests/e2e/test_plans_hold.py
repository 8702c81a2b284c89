"""What a plan says is what the operation then does, on real tables, and a plan that does not hold starts nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from floe.v1 import policy_pb2
from floe_client import AsyncFloe, FailedPrecondition, types
from tests.e2e.test_floe_dev import running
from tests.support.waiting import eventually

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

SCHEMA: Final = Schema(NestedField(1, "id", LongType(), required=False))
NAME: Final = "local.sales.orders"
WRITES: Final = 12


async def test_operations_do_what_their_plans_said(tmp_path: Path) -> None:
    async with running(tmp_path / "dev") as tree:
        ready = await tree.ready()
        catalog = load_catalog("local", type="rest", uri=ready["catalog"]["uri"])
        await asyncio.to_thread(write, catalog, WRITES)
        async with AsyncFloe(ready["server"]) as client:
            policy = policy_pb2.Policy(name="tidy", table_pattern="local.**")
            policy.rewrite_data_files.min_input_files = 2
            policy.expire_snapshots.retain_last = 1
            policy.expire_snapshots.max_snapshot_age = "PT1S"
            await client.policies.create(policy)
            await client.tables.inspect(NAME)

            async def all_but_the_newest_are_old_enough() -> types.PlanMaintenanceResponse | None:
                plan = await client.decisions.plan(NAME, operations=["EXPIRE_SNAPSHOTS"])
                return plan if plan.operations[0].expiring_snapshots == WRITES - 1 else None

            first = await eventually(all_but_the_newest_are_old_enough)
            assert first.operations[0].retained_snapshots == 1
            triggered = await client.trigger(NAME, operations=["EXPIRE_SNAPSHOTS"], plan_hash=first.plan_hash)
            expiry = await triggered.operations[0].result()
            assert expiry.metrics.snapshots_expired == WRITES - 1

            with pytest.raises(FailedPrecondition) as refused:
                await client.trigger(NAME, operations=["EXPIRE_SNAPSHOTS"], plan_hash=first.plan_hash)
            assert refused.value.reason == "PLAN_CHANGED"
            assert refused.value.metadata["changed"] == "its metadata file"

            await client.tables.inspect(NAME)
            second = await client.decisions.plan(NAME, operations=["REWRITE_DATA_FILES"])
            (planned,) = second.operations
            assert (planned.input_files, planned.output_files) == (WRITES, 1)
            assert [risk.code for risk in planned.risks] == []
            compaction = (
                await (await client.trigger(NAME, operations=["REWRITE_DATA_FILES"], plan_hash=second.plan_hash))
                .operations[0]
                .result()
            )
            assert compaction.metrics.files_rewritten == planned.input_files
            assert compaction.metrics.files_added == planned.output_files
            assert compaction.metrics.bytes_rewritten == planned.input_bytes

            (again,) = (await client.decisions.plan(NAME, operations=["REWRITE_DATA_FILES"])).operations
            assert [risk.code for risk in again.risks] == ["stale_report"]
            assert again.duration_basis.startswith("from the last 1 of this type on this table")
        assert await asyncio.to_thread(rows, catalog) == WRITES


def write(catalog: Catalog, times: int) -> None:
    catalog.create_namespace("sales")
    table = catalog.create_table("sales.orders", schema=SCHEMA)
    for number in range(times):
        table.append(pa.table({"id": pa.array([number], pa.int64())}))


def rows(catalog: Catalog) -> int:
    return int(catalog.load_table("sales.orders").scan().to_arrow().num_rows)
