"""An explanation beside a bare lookup by id, over the same connection and on the same database."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from statistics import median

import asyncpg
import grpc
import grpc.aio

from floe.v1 import operation_pb2, operation_pb2_grpc, policy_pb2, policy_pb2_grpc, trigger_pb2, trigger_pb2_grpc
from tests.bench import report
from tests.bench.planes import compaction, control_plane, prepare, server
from tests.support.waiting import eventually

TABLES = 10_000
POLICIES = 100
CALLS = 300
_ADD_TABLES = """
INSERT INTO tables (catalog, namespace, name, uuid, table_key, location, metadata_location, format_version, state,
                    first_seen_time, last_seen_time, unresolved)
SELECT 'lake', ARRAY['ns' || n / 1000], 't' || n, gen_random_uuid()::text, 'lake.ns' || n / 1000 || '.t' || n,
       's3://bucket/lake/t' || n, '', 2, 'PRESENT', now(), now(), true
FROM generate_series(1, $1::int) AS n
"""
_RESOLVED = "SELECT NOT EXISTS (SELECT FROM tables WHERE unresolved) AND NOT EXISTS (SELECT FROM policy_changes)"
_PREPARED = 300.0


async def explain() -> bool:
    """ExplainTrigger at 10,000 tables and 101 policies beside GetOperation."""
    async with (
        server() as (postgres, _),
        control_plane(postgres) as plane,
        grpc.aio.insecure_channel(plane.public) as channel,
    ):
        await prepare(channel)
        await _write_policies(channel)
        connection = await asyncpg.connect(plane.dsn)
        try:
            await connection.execute(_ADD_TABLES, TABLES, timeout=60)
            await eventually(lambda: connection.fetchval(_RESOLVED), within=_PREPARED, pause=0.5)
            await connection.execute("VACUUM ANALYZE", timeout=60)
        finally:
            await connection.close()
        triggers = trigger_pb2_grpc.TriggerServiceStub(channel)
        operations = operation_pb2_grpc.OperationServiceStub(channel)
        wanted = trigger_pb2.TriggerMaintenanceRequest(catalog="lake", namespace="ns5", table="t5000")
        run = (await triggers.TriggerMaintenance(wanted, timeout=10)).runs[0]
        request = operation_pb2.GetOperationRequest(id=run.operations[0].id)
        explained, fetched = [], []
        for number in range(CALLS):
            table = 1 + number * 31 % TABLES
            ask = trigger_pb2.ExplainTriggerRequest(catalog="lake", namespace=f"ns{table // 1_000}", table=f"t{table}")
            explained.append(await _timed(triggers.ExplainTrigger(ask, timeout=10)))
            fetched.append(await _timed(operations.GetOperation(request, timeout=10)))
    report.note(f"explain {report.shown(explained)}, get {report.shown(fetched)}")
    return report.at_most("explain", median(explained) / median(fetched), 5.0)


async def _write_policies(channel: grpc.aio.Channel) -> None:
    """Policies that do not govern, and one that does, with a schedule and a condition."""
    stub = policy_pb2_grpc.PolicyServiceStub(channel)
    governing = compaction("governing")
    governing.priority = 10
    governing.rewrite_data_files_schedule.cron_expression = "0 3 * * *"
    governing.trigger_conditions.small_file_count_above = 5
    others = [compaction(f"other{number:03d}") for number in range(POLICIES)]
    for policy in (governing, *others):
        await stub.CreatePolicy(policy_pb2.CreatePolicyRequest(policy=policy), timeout=10)


async def _timed(call: Awaitable[object]) -> float:
    begun = time.perf_counter()
    await call
    return time.perf_counter() - begun
