"""The public API beside the least that any durable one has to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import grpc.aio

from floe.execution.v1 import assignment_pb2 as pb
from floe.v1 import policy_pb2, policy_pb2_grpc, trigger_pb2, trigger_pb2_grpc
from tests.bench import report
from tests.bench.bare import INSERT, PING
from tests.bench.planes import bare, compaction, control_plane, prepare, server
from tests.support.scripted_executor import ScriptedExecutor, scripted_executor

CONCURRENCY = 32
CALLS = 640
ROUNDS = 5
LIST_CALLS = 150
MANY, FEW = 5_000, 50


async def trigger_rate() -> bool:
    """Durable triggers at concurrency 32 beside an echo that does one INSERT and commit."""
    async with (
        server() as (postgres, _),
        control_plane(postgres) as plane,
        postgres.database() as dsn,
        bare(dsn) as echo,
        grpc.aio.insecure_channel(plane.public) as ours,
        grpc.aio.insecure_channel(echo) as theirs,
    ):
        await prepare(ours)
        await _know_tables(plane.executors, ours, 1)
        triggers = trigger_pb2_grpc.TriggerServiceStub(ours)
        insert: Any = theirs.unary_unary(INSERT)
        request = trigger_pb2.TriggerMaintenanceRequest(catalog="lake", namespace="db", table="t0")
        ratios = []
        for _ in range(ROUNDS):
            floe = await _rate(lambda: triggers.TriggerMaintenance(request, timeout=30))
            base = await _rate(lambda: insert(b"x" * 200, timeout=30))
            ratios.append(floe / base)
            report.note(f"trigger {floe:.0f}/s, insert {base:.0f}/s")
        kept = await _rate(lambda: triggers.TriggerMaintenance(_with_id(request), timeout=30))
        report.note(f"with request ids, whose answers are kept for a day: trigger {kept:.0f}/s")
    return report.at_least("trigger_rate", median(ratios), 0.5)


def _with_id(request: trigger_pb2.TriggerMaintenanceRequest) -> trigger_pb2.TriggerMaintenanceRequest:
    named = trigger_pb2.TriggerMaintenanceRequest(request_id=str(uuid4()))
    named.MergeFrom(request)
    return named


async def list_flat() -> bool:
    """Pages of 20 and creations with 5,000 policies beside the same with 50."""
    async with (
        server() as (postgres, _),
        control_plane(postgres) as small,
        control_plane(postgres) as large,
        grpc.aio.insecure_channel(small.public) as few,
        grpc.aio.insecure_channel(large.public) as many,
    ):
        for channel, count in ((few, FEW), (many, MANY)):
            stub = policy_pb2_grpc.PolicyServiceStub(channel)
            requests = [policy_pb2.CreatePolicyRequest(policy=compaction(f"p{n:06d}")) for n in range(count)]
            await _all(requests, partial(stub.CreatePolicy, timeout=60))
        listed: dict[str, list[float]] = {"few": [], "many": []}
        created: dict[str, list[float]] = {"few": [], "many": []}
        for n in range(LIST_CALLS):
            for name, channel in (("few", few), ("many", many)):
                stub = policy_pb2_grpc.PolicyServiceStub(channel)
                page = policy_pb2.ListPoliciesRequest(page_size=20)
                listed[name].append(await _timed(stub.ListPolicies(page, timeout=10)))
                new = policy_pb2.CreatePolicyRequest(policy=compaction(f"new{n:06d}"))
                created[name].append(await _timed(stub.CreatePolicy(new, timeout=10)))
    report.note(f"list: 50 {report.shown(listed['few'])}, 5,000 {report.shown(listed['many'])}")
    report.note(f"create: 50 {report.shown(created['few'])}, 5,000 {report.shown(created['many'])}")
    first = report.at_most("list_flat", median(listed["many"]) / median(listed["few"]), 1.3)
    return report.at_most("create_flat", median(created["many"]) / median(created["few"]), 1.3) and first


async def trigger_to_executor() -> bool:
    """From the trigger's row to the assignment at the executor, idle, beside one commit and one stream ping-pong."""
    async with (
        server() as (postgres, _),
        control_plane(postgres) as plane,
        postgres.database() as dsn,
        bare(dsn) as echo,
        grpc.aio.insecure_channel(plane.public) as public,
        grpc.aio.insecure_channel(plane.executors) as executors,
        grpc.aio.insecure_channel(echo) as theirs,
        scripted_executor(executors) as executor,
    ):
        await prepare(public)
        await executor.hello(observation_slots=4)
        await _answer_load(public, executor, 1)
        triggers = trigger_pb2_grpc.TriggerServiceStub(public)
        request = trigger_pb2.TriggerMaintenanceRequest(catalog="lake", namespace="db", table="t0")
        connection, store = await asyncpg.connect(dsn), await asyncpg.connect(plane.dsn)
        ping: Any = theirs.stream_stream(PING)()
        latencies, commits, pings = [], [], []
        for _ in range(200):
            answer = asyncio.ensure_future(triggers.TriggerMaintenance(request, timeout=10))
            assignment = await executor.assignment()
            received = time.time()
            response = await answer
            latencies.append(received - await _commit_time(store, response.runs[0].operations[0].id))
            await executor.send(ack=pb.Ack(lease=assignment.lease))
            await executor.expect("lease_renewed")
            await executor.report(assignment.lease)
            commits.append(await _timed(connection.execute("INSERT INTO bare (payload) VALUES ($1)", b"x")))
            begun = time.perf_counter()
            await ping.write(b"x")
            await ping.read()
            pings.append(time.perf_counter() - begun)
        await connection.close()
        await store.close()
        ping.cancel()
    report.note(
        f"row to assignment {report.shown(latencies)}, commit {report.shown(commits)}, ping-pong {report.shown(pings)}"
    )
    return report.at_most("trigger_to_executor", median(latencies) / (median(commits) + median(pings)), 4)


async def _commit_time(store: asyncpg.Connection[asyncpg.Record], operation: str) -> float:
    """When the transaction that queued the operation was committed, as the database recorded it."""
    committed: float = await store.fetchval(
        "SELECT extract(epoch FROM pg_xact_commit_timestamp((xid::text::bigint % 4294967296)::text::xid))"
        " FROM events WHERE operation_id = $1 AND event = 'queued'",
        operation,
    )
    return float(committed)


async def idle_sql() -> bool:
    """Statements a second of an idle control plane with 10 executors attached, counted in the server's own log."""
    seconds = 30
    async with (
        server() as (postgres, directory),
        control_plane(postgres) as plane,
        grpc.aio.insecure_channel(plane.executors) as channel,
    ):
        beating = [asyncio.ensure_future(_beat(channel)) for _ in range(10)]
        await asyncio.sleep(5)
        connection = await asyncpg.connect(plane.dsn)
        await connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        await connection.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(2)
        logs = [path for path in directory.rglob("*") if path.is_file() and path.name.endswith(".log")]
        before = _statements(logs)
        await asyncio.sleep(seconds)
        counted = _statements(logs) - before
        await connection.execute("ALTER SYSTEM RESET log_statement")
        await connection.close()
        for task in beating:
            task.cancel()
    return report.at_most("idle_sql", counted / seconds, 5)


async def _beat(channel: grpc.aio.Channel) -> None:
    async with scripted_executor(channel) as executor:
        welcome = await executor.hello()
        interval = welcome.heartbeat_interval.ToTimedelta().total_seconds()
        sequence = 0
        while True:
            sequence += 1
            await executor.send(heartbeat=pb.Heartbeat(sequence=sequence))
            await executor.expect("lease_renewed")
            await asyncio.sleep(interval)


def _statements(logs: list[Any]) -> int:
    return sum(
        line.count("LOG:  execute ") + line.count("LOG:  statement: ")
        for log in logs
        for line in log.read_text(errors="replace").splitlines()
    )


async def _know_tables(address: str, public: grpc.aio.Channel, tables: int) -> None:
    async with grpc.aio.insecure_channel(address) as channel, scripted_executor(channel) as executor:
        await executor.hello(slots=0, observation_slots=4)
        await _answer_load(public, executor, tables)


async def _answer_load(public: grpc.aio.Channel, executor: ScriptedExecutor, tables: int) -> None:
    """Have the control plane learn of the tables db.t0, db.t1, …: each is asked for once, and answered."""
    triggers = trigger_pb2_grpc.TriggerServiceStub(public)
    for n in range(tables):
        request = trigger_pb2.TriggerMaintenanceRequest(
            catalog="lake", namespace="db", table=f"t{n}", validate_only=True
        )
        asked = asyncio.ensure_future(triggers.TriggerMaintenance(request, timeout=10))
        while True:
            look = (await executor.expect("observe")).observe
            if look.HasField("load_table"):
                table = pb.TableRef(namespace=["db"], name=f"t{n}", uuid=f"uuid-{n}", location=f"file:///t{n}")
                loaded = pb.LoadedTable(table=table, metadata_location=f"file:///t{n}/m.json", format_version=2)
                answer = pb.Observation(observation_id=look.observation_id, epoch=look.epoch, loaded_table=loaded)
                await executor.send(observation=answer)
                break
            names = pb.TableNames(complete=True)
            answer = pb.Observation(observation_id=look.observation_id, epoch=look.epoch, table_names=names)
            await executor.send(observation=answer)
        await asked


async def _rate(call: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await _all(list(range(CALLS)), lambda _: call())
    return CALLS / (time.perf_counter() - begun)


async def _all(items: list[Any], call: Callable[[Any], Awaitable[object]]) -> None:
    """One call an item, CONCURRENCY at a time."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await call(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENCY):
            tasks.create_task(work())


async def _timed(call: Awaitable[object]) -> float:
    begun = time.perf_counter()
    await call
    return time.perf_counter() - begun
