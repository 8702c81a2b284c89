"""The commands of `floe` that answer questions, against a scripted server."""

from __future__ import annotations

import re

import grpc

from floe.v1 import operation_pb2, system_pb2, table_pb2, trigger_pb2
from tests.support.command_line import operation, run
from tests.support.scripted_server import Refusal, ScriptedServer

LIST, STATS = "OperationService/ListOperations", "OperationService/GetOperationStats"
TRIGGER = "TriggerService/TriggerMaintenance"


async def test_a_run_is_shown_in_its_order_with_what_it_came_to(server: ScriptedServer) -> None:
    def part(
        id: str, kind: operation_pb2.OperationType.ValueType, metrics: operation_pb2.OperationMetrics
    ) -> operation_pb2.Operation:
        made = operation(operation_pb2.OPERATION_STATE_SUCCEEDED)
        made.id, made.type = id, kind
        made.metrics.CopyFrom(metrics)
        made.finish_time.GetCurrentTime()
        return made

    counted = operation_pb2.OperationMetrics
    expiry = part(
        "op-2", operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS, counted(snapshots_expired=7, duration_ms=1_000)
    )
    compaction = part(
        "op-1", operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES, counted(bytes_rewritten=2**20, duration_ms=89_000)
    )
    manifests = operation(operation_pb2.OPERATION_STATE_QUEUED)
    manifests.id, manifests.type = "op-3", operation_pb2.OPERATION_TYPE_REWRITE_MANIFESTS
    answer = operation_pb2.ListOperationsResponse(operations=[expiry, manifests, compaction])
    server.script(LIST, answer, answer, operation_pb2.ListOperationsResponse())

    shown = await run(server, "op", "run", "run-1")
    machine = await run(server, "op", "run", "run-1", "-o", "json")
    none = await run(server, "op", "run", "run-2")

    assert server.requests(LIST)[0].filter.run_id == "run-1"
    places = [shown.out.index(id) for id in ("op-1", "op-3", "op-2")]
    assert places == sorted(places), "what rewrites comes before what removes"
    for line in ("2 SUCCEEDED, 1 QUEUED; 1 not finished", "1m30s", "1.0 MiB"):
        assert line in shown.out
    assert machine.json["totals"] == {"bytes_rewritten": 2**20, "duration_ms": 90_000, "snapshots_expired": 7}
    assert "no operations of run run-2" in none.out + none.err


async def test_operations_are_listed_by_their_trigger(server: ScriptedServer) -> None:
    server.script(LIST, operation_pb2.ListOperationsResponse())

    await run(server, "op", "list", "--trigger", "trigger-1")

    assert server.requests(LIST)[0].filter.trigger_id == "trigger-1"


async def test_the_ranking_shows_what_makes_up_a_debt(server: ScriptedServer) -> None:
    parts = [
        table_pb2.DebtPart(name="issues.TOO_MANY_SNAPSHOTS", points=100, reducible=True),
        table_pb2.DebtPart(name="staleness", points=3),
    ]
    worst = table_pb2.RankedTable(catalog="lake", namespace=["sales"], name="orders", debt=103, rank=100, parts=parts)
    answer = table_pb2.ListTableRankingResponse(tables=[worst])
    server.script("TableService/ListTableRanking", answer, answer)

    shown = await run(server, "table", "ranking", "--catalog", "lake")
    machine = await run(server, "table", "ranking", "-o", "json")

    assert server.requests("TableService/ListTableRanking")[0].catalog == "lake"
    assert re.search(r"lake\.sales\.orders\s+103\s+100", shown.out)
    assert "issues.TOO_MANY_SNAPSHOTS 100, staleness 3" in shown.out
    assert machine.json["tables"][0]["debt"] == 103


async def test_the_status_says_who_schedules(server: ScriptedServer) -> None:
    led = system_pb2.GetServerInfoResponse(
        scheduler=system_pb2.SchedulerInfo(
            enabled=True, leader_replica_id="r9", term=4, targets=1_200, due_targets=3, deferred_targets=2
        )
    )
    server.script("SystemService/GetServerInfo", led, system_pb2.GetServerInfoResponse())

    with_leader = await run(server, "status")
    without = await run(server, "status")

    assert "replica r9, term 4" in with_leader.out
    assert "1,200, 3 due, 2 waiting" in with_leader.out
    assert "none: no slot is decided until one is elected" in without.out
    assert "turned off here" in without.out


async def test_a_plan_says_what_would_be_done_and_how_to_do_just_that(server: ScriptedServer) -> None:
    compaction = trigger_pb2.PlannedOperation(
        operation_type=operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES,
        policy_name="tidy",
        policy_generation=3,
        input_files=100,
        input_bytes=600 * 2**20,
        output_files=2,
        output_bytes=600 * 2**20,
        duration_seconds=90,
        duration_basis="from the last 4 of this type on this table, by the bytes that it rewrites",
        risks=[trigger_pb2.PlanRisk(code="sampled", text="its figures are estimates")],
        blockers=["paused: moving house"],
        condition_text="would run: no conditions",
    )
    expiry = trigger_pb2.PlannedOperation(
        operation_type=operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS,
        policy_name="tidy",
        policy_generation=3,
        expiring_snapshots=7,
        retained_snapshots=0,
        refusal="gc.enabled is false",
    )
    answer = trigger_pb2.PlanMaintenanceResponse(plan_hash="a.b.c", operations=[compaction, expiry])
    server.script("TriggerService/PlanMaintenance", answer, answer)

    shown = await run(server, "plan", "lake.sales.orders", "--policy", "tidy")
    machine = await run(server, "plan", "lake.sales.orders", "-o", "json")

    (asked, _) = server.requests("TriggerService/PlanMaintenance")
    assert (asked.catalog, asked.namespace, asked.table, asked.policy_name) == ("lake", "sales", "orders", "tidy")
    assert shown.code == 0
    for line in ("100 files, 600.0 MiB", "2 files, 600.0 MiB", "about 1m30s, from the last 4", "its figures are"):
        assert line in shown.out
    for line in ("paused: moving house", "7 expire, 0 stay", "gc.enabled is false", "--plan a.b.c"):
        assert line in shown.out
    assert machine.json["planHash"] == "a.b.c"
    assert "durationSeconds" not in machine.json["operations"][1], "what is not known is not there"


async def test_a_trigger_can_demand_a_plan(server: ScriptedServer) -> None:
    server.script(TRIGGER, Refusal(grpc.StatusCode.FAILED_PRECONDITION, "the plan does not hold", "PLAN_CHANGED"))

    ended = await run(server, "trigger", "lake.sales.orders", "--plan", "a.b.c")

    assert server.requests(TRIGGER)[0].plan_hash == "a.b.c"
    assert ended.code != 0
    assert "the plan does not hold" in ended.err


async def test_a_span_of_time_that_is_none_is_refused_before_the_call(server: ScriptedServer) -> None:
    ended = await run(server, "op", "stats", "--window", "7 years")

    assert ended.code != 0
    assert "'7 years' is no span of time; write a number and m, h, d or w, such as 24h" in ended.err
    assert not server.requests(STATS)
