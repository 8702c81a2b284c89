"""TableService.ListTableRanking, recommendations, and the scheduler's part of GetServerInfo over the wire."""

from __future__ import annotations

from dataclasses import replace

from control_plane.domain import health
from control_plane.domain.health import HealthMetrics, Metric
from control_plane.domain.identifiers import ReplicaId
from control_plane.domain.scheduling import LEADER_TTL
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.thresholds import DEFAULT
from control_plane.services.ranking import RankingService
from floe.v1 import operation_pb2, system_pb2
from floe.v1 import table_pb2 as pb
from tests.support import factories
from tests.support.api import ORDERS, Api, know_table, refused, register_catalog
from tests.support.scene import Scene
from tests.support.scheduling import Leader, target


async def measured(api: Api, name: str, **figures: float) -> None:
    table = await know_table(api, replace(ORDERS, name=name))
    metrics = HealthMetrics.measured((figure, Metric.exact(value)) for figure, value in figures.items())
    report = health.assess(metrics, DEFAULT, now=await api.store.now())
    await api.store.tables.save_report(table.name, table.uuid, report)


async def test_tables_are_ranked_by_debt_a_page_at_a_time(api: Api) -> None:
    await register_catalog(api)
    for name, snapshots in (("calm", 1), ("worst", 500), ("warned", 100)):
        await measured(api, name, snapshot_count=snapshots)
    await know_table(api, replace(ORDERS, name="unmeasured"))
    await RankingService(api.store, rules=SchedulingRules()).reckon()

    first = await api.tables.ListTableRanking(pb.ListTableRankingRequest(page_size=2))
    rest = await api.tables.ListTableRanking(
        pb.ListTableRankingRequest(page_size=2, page_token=first.next_page_token, catalog="")
    )

    rows = [*first.tables, *rest.tables]
    assert [(row.name, row.debt, row.rank) for row in rows] == [
        ("worst", 100, 100),
        ("warned", 50, 50),
        ("calm", 0, 0),
    ]
    assert [(part.name, part.points, part.reducible) for part in rows[0].parts] == [
        ("issues.TOO_MANY_SNAPSHOTS", 100, True)
    ]
    assert (rows[0].status, rest.next_page_token) == (pb.HEALTH_STATUS_CRITICAL, "")


async def test_a_ranking_is_asked_for_by_what_exists(api: Api) -> None:
    await register_catalog(api)
    unknown = await refused(api.tables.ListTableRanking(pb.ListTableRankingRequest(catalog="nowhere")))
    token = await refused(api.tables.ListTableRanking(pb.ListTableRankingRequest(page_token="abc")))
    negative = await refused(api.tables.ListTableRanking(pb.ListTableRankingRequest(page_size=-1)))
    assert unknown.reason == "CATALOG_NOT_FOUND"
    assert (token.fields, negative.fields) == (["pageToken"], ["pageSize"])


async def test_a_report_says_what_it_recommends(api: Api) -> None:
    await register_catalog(api)
    await measured(
        api, "orders", data_file_count=100, small_file_count=90, reducible_file_count=88, reducible_bytes=1_000
    )

    table = (await api.tables.GetTable(pb.GetTableRequest(catalog="lake", namespace="sales", table="orders"))).table

    (each,) = table.health.recommendations
    assert each.operation_type == operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES
    assert (list(each.issues), each.reducible_file_count, each.reducible_bytes) == (["TOO_MANY_SMALL_FILES"], 88, 1_000)
    assert "a rewrite would remove 88 files" in each.reason


async def test_the_server_says_who_schedules_and_what(api: Api) -> None:
    await register_catalog(api)
    before = (await api.system.GetServerInfo(system_pb2.GetServerInfoRequest())).scheduler
    table = await know_table(api)
    term = await api.store.leadership.acquire(ReplicaId("r9"), ttl=LEADER_TTL * 100)
    assert term is not None
    leader = Leader(Scene(api.store), term)
    await leader.resolved(table, target(table))

    after = (await api.system.GetServerInfo(system_pb2.GetServerInfoRequest())).scheduler

    assert before.leader_replica_id == "" and before.enabled
    assert (after.leader_replica_id, after.term) == ("r9", term.number)
    assert (after.targets, after.due_targets, after.deferred_targets) == (1, 1, 0)
    assert after.HasField("term_start_time") and after.HasField("next_due_time")


async def test_an_operation_says_what_made_it(api: Api) -> None:
    await register_catalog(api)
    await api.store.policies.create(factories.policy())
    scene = Scene(api.store)
    now = await api.store.now()
    by_hand = await scene.enqueue()
    repeated = await scene.enqueue(retry_of=by_hand.id)
    scheduled = await scene.enqueue(slot=now, table_uuid="another")

    found = {
        each.id: each
        for each in (await api.operations.ListOperations(operation_pb2.ListOperationsRequest())).operations
    }

    assert found[by_hand.id].origin == operation_pb2.OPERATION_ORIGIN_TRIGGER
    assert found[repeated.id].origin == operation_pb2.OPERATION_ORIGIN_RETRY
    assert found[scheduled.id].origin == operation_pb2.OPERATION_ORIGIN_SCHEDULE
    assert found[scheduled.id].slot_time.ToDatetime(tzinfo=now.tzinfo) == now
    assert not found[by_hand.id].HasField("slot_time")
