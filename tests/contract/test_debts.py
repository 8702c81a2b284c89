"""The kept debts of tables, and what may have changed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.catalog import Table
from control_plane.domain.errors import CatalogNotFound
from control_plane.domain.health import HealthMetrics, HealthReport, Metric, assess
from control_plane.domain.identifiers import CatalogName, OperationType, TableUuid
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.thresholds import DEFAULT
from control_plane.ports.records import Store
from control_plane.services.ranking import RankingService
from tests.support import factories
from tests.support.factories import EVENTS
from tests.support.scene import Scene
from tests.support.scheduling import FAILED

HOUR = timedelta(hours=1)


async def report(store: Store, **figures: float) -> HealthReport:
    metrics = HealthMetrics.measured((name, Metric.exact(value)) for name, value in figures.items())
    return assess(metrics, DEFAULT, now=await store.now())


async def tables(scene: Scene, number: int, catalog: str = "lake") -> Sequence[Table]:
    names = [replace(EVENTS, catalog=CatalogName(catalog), name=f"t{index}") for index in range(number)]
    known = [factories.table(name) for name in names]
    await scene.store.tables.seen(known)
    return known


@pytest.fixture
def ranking(scene: Scene) -> RankingService:
    return RankingService(scene.store, rules=SchedulingRules())


async def test_the_most_indebted_tables_come_first_then_by_name(scene: Scene) -> None:
    debts = scene.store.debts
    known = await tables(scene, 5)
    now = await scene.store.now()
    await debts.keep(list(zip(known, [10.0, 30.5, None, 30.5, 0.0], strict=True)), up_to=now)

    found = await debts.ranking(catalog=None, after=None, limit=10)
    assert [(table.name.name, debt) for table, debt in found] == [("t1", 30.5), ("t3", 30.5), ("t0", 10.0), ("t4", 0.0)]
    pages = [await debts.ranking(catalog=None, after=(debt, table.name), limit=1) for table, debt in found]
    assert [[table.name.name for table, _ in page] for page in pages] == [["t3"], ["t0"], ["t4"], []]
    assert await debts.kept_until() == now


async def test_a_ranking_may_be_of_one_catalog(scene: Scene) -> None:
    await scene.store.catalogs.create(factories.catalog("other"))
    mine, others = await tables(scene, 3), await tables(scene, 3, "other")
    kept = [*zip(mine, [1.0, 2.0, 3.0], strict=True), *zip(others, [9.0, 8.0, 7.0], strict=True)]
    await scene.store.debts.keep(kept, up_to=await scene.store.now())

    first = await scene.store.debts.ranking(catalog=CatalogName("lake"), after=None, limit=2)
    rest = await scene.store.debts.ranking(catalog=CatalogName("lake"), after=(2.0, mine[1].name), limit=2)

    assert [table.name.name for table, _ in (*first, *rest)] == ["t2", "t1", "t0"]


async def test_tables_that_are_gone_are_not_ranked(scene: Scene) -> None:
    (table,) = await tables(scene, 1)
    await scene.store.debts.keep([(table, 5.0)], up_to=await scene.store.now())
    await scene.store.tables.seen([replace(table, uuid=TableUuid("another-table"))])

    assert not await scene.store.debts.ranking(catalog=None, after=None, limit=10)


async def test_what_is_regarded_never_goes_back(scene: Scene) -> None:
    now = await scene.store.now()
    await scene.store.debts.keep([], up_to=now)
    await scene.store.debts.keep([], up_to=now - HOUR)
    assert await scene.store.debts.kept_until() == now


async def test_reports_and_ends_of_operations_change_debts(scene: Scene) -> None:
    store = scene.store
    measured, worked_on, idle = await tables(scene, 3)
    since = await store.now() - HOUR
    await store.tables.save_report(measured.name, measured.uuid, await report(store, snapshot_count=500))
    running = await scene.running(await scene.attach(), table=worked_on.name, table_uuid=worked_on.uuid, max_attempts=1)
    await scene.report(running.lease, FAILED)

    changed = await store.debts.changed(since=since, limit=10)
    later = await store.debts.changed(since=changed.until, limit=10)

    assert {table.name for table in changed.tables} == {measured.name, worked_on.name}
    assert not changed.more and changed.until >= since
    assert not later.tables
    assert idle.name not in {table.name for table in changed.tables}


async def test_changes_are_regarded_in_sets_without_leaving_any_out(scene: Scene) -> None:
    store = scene.store
    known = await tables(scene, 7)
    since = await store.now() - HOUR
    for table in known:
        await store.tables.save_report(table.name, table.uuid, await report(store, snapshot_count=500))
    seen: set[str] = set()
    while True:
        changed = await store.debts.changed(since=since, limit=2)
        seen.update(table.name.name for table in changed.tables)
        since = changed.until
        if not changed.more:
            break
    assert seen == {table.name.name for table in known}


async def test_a_debt_is_reckoned_from_the_report_and_the_outcomes(scene: Scene, ranking: RankingService) -> None:
    store = scene.store
    sound, owing, failing, _ = await tables(scene, 4)
    for table, snapshots in ((sound, 1), (owing, 500), (failing, 1)):
        await store.tables.save_report(table.name, table.uuid, await report(store, snapshot_count=snapshots))
    running = await scene.running(
        await scene.attach(),
        table=failing.name,
        table_uuid=failing.uuid,
        type=OperationType.EXPIRE_SNAPSHOTS,
        max_attempts=1,
    )
    await scene.report(running.lease, FAILED)

    await ranking.reckon()
    found = await ranking.list(catalog=None, after=None, limit=10)

    assert [(each.table.name.name, each.score) for each in found] == [("t2", 120.0), ("t1", 100.0), ("t0", 0.0)]
    parts = [[(part.name, part.points) for part in each.debt.parts] for each in found]
    assert parts == [
        [("failure_rate", 100.0), ("consecutive_failures", 20.0)],
        [("issues.TOO_MANY_SNAPSHOTS", 100.0)],
        [],
    ]
    assert [each.debt.rank for each in found] == [0.0, 100.0, 0.0]


async def test_a_ranking_of_an_unknown_catalog_is_refused(ranking: RankingService) -> None:
    with pytest.raises(CatalogNotFound):
        await ranking.list(catalog=CatalogName("nowhere"), after=None, limit=10)
