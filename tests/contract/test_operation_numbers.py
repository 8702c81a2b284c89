"""Operations in numbers, and the reports of a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.errors import TableNotFound
from control_plane.domain.identifiers import OperationId, OperationType
from control_plane.domain.operation import Change, FailureClass, Operation, OperationState, VerificationVerdict
from control_plane.ports.operations import OperationFilter, Rates, Retention
from control_plane.ports.records import Store
from tests.support import factories
from tests.support.factories import EVENTS
from tests.support.scene import Scene
from tests.support.scheduling import FAILED

HOUR = timedelta(hours=1)
COMPACTION, EXPIRY = OperationType.REWRITE_DATA_FILES, OperationType.EXPIRE_SNAPSHOTS
S = OperationState


async def took(store: Store, operation: OperationId, seconds: float) -> Operation:
    """The ended operation as if it had taken so long."""

    def longer(op: Operation, _now: object) -> Change:
        assert op.finish_time is not None
        return Change(replace(op, start_time=op.finish_time - timedelta(seconds=seconds)))

    changed = await store.operations.change(operation, longer)
    assert changed is not None
    return changed


async def succeeded(scene: Scene, *, seconds: float, moved: int = 0, **changes: object) -> Operation:
    holder = await scene.attach()
    running = await scene.running(holder, **changes)
    await scene.report(running.lease, factories.result(metrics={"bytes_rewritten": moved} if moved else {}))
    return await took(scene.store, running.id, seconds)


async def test_numbers_are_told_over_all_and_for_each_type(scene: Scene) -> None:
    since = await scene.store.now() - HOUR
    for seconds in (10, 20, 30):
        await succeeded(scene, seconds=seconds, moved=5)
    running = await scene.running(await scene.attach(), max_attempts=1)
    await scene.report(running.lease, FAILED)
    await took(scene.store, running.id, 40)
    await scene.enqueue(type=EXPIRY)

    stats = await scene.operations.stats(OperationFilter(), since=since)

    assert list(stats.types) == [COMPACTION, EXPIRY]
    compaction = stats.types[COMPACTION]
    assert dict(compaction.states) == {S.SUCCEEDED: 3, S.FAILED: 1}
    assert compaction.median == timedelta(seconds=25)
    assert compaction.p95 == timedelta(seconds=38.5)
    assert compaction.metrics["bytes_rewritten"] == 15
    waiting = stats.types[EXPIRY]
    assert (dict(waiting.states), waiting.median, waiting.p95, dict(waiting.metrics)) == ({S.QUEUED: 1}, None, None, {})
    assert dict(stats.overall.states) == {S.SUCCEEDED: 3, S.FAILED: 1, S.QUEUED: 1}
    assert stats.overall.median == compaction.median


async def test_numbers_keep_to_the_filter_and_the_time(scene: Scene) -> None:
    now = await scene.store.now()
    await succeeded(scene, seconds=10)
    other = await scene.enqueue(type=EXPIRY)
    stats = await scene.operations.stats(OperationFilter(types=(EXPIRY,)), since=now - HOUR)
    assert list(stats.types) == [EXPIRY]
    stats = await scene.operations.stats(OperationFilter(table=other.table), since=now - HOUR)
    assert dict(stats.overall.states) == {S.QUEUED: 1}
    nothing = await scene.operations.stats(OperationFilter(), since=now + HOUR)
    assert (dict(nothing.types), dict(nothing.overall.states), nothing.overall.median) == ({}, {}, None)


async def test_failures_and_verifications_are_counted_over_all_and_for_each_type(scene: Scene) -> None:
    since = await scene.store.now() - HOUR
    running = await scene.running(await scene.attach(), max_attempts=1)
    await scene.report(running.lease, FAILED)
    kept = await scene.running(await scene.attach(), max_attempts=2)
    await scene.report(kept.lease, FAILED)
    assert await scene.state(kept.id) is S.QUEUED, "it failed once and comes again: that is no failure yet"
    await scene.cancel(kept.id)
    for _ in range(2):
        checked = await scene.running(await scene.attach(), type=EXPIRY)
        await scene.report(checked.lease, factories.committed())
        await scene.verify(checked.id)

    stats = await scene.operations.stats(OperationFilter(), since=since)

    compaction, expiry = stats.types[COMPACTION], stats.types[EXPIRY]
    assert dict(compaction.states) == {S.FAILED: 1, S.CANCELLED: 1}
    assert (dict(compaction.failures), dict(compaction.verifications)) == ({FailureClass.ENGINE: 1}, {})
    assert (dict(expiry.failures), dict(expiry.verifications)) == ({}, {VerificationVerdict.PASSED: 2})
    assert dict(stats.overall.failures) == {FailureClass.ENGINE: 1}
    assert dict(stats.overall.verifications) == {VerificationVerdict.PASSED: 2}
    assert (compaction.success_rate, expiry.success_rate) == (0.0, 1.0)
    assert stats.overall.success_rate == pytest.approx(2 / 3)
    assert stats.overall.total == 4


async def test_a_success_rate_needs_an_end(scene: Scene) -> None:
    await scene.enqueue()
    stats = await scene.operations.stats(OperationFilter(), since=await scene.store.now() - HOUR)
    assert stats.overall.success_rate is None


async def test_rates_are_medians_of_what_succeeded(scene: Scene) -> None:
    ended = [await succeeded(scene, seconds=seconds, moved=100) for seconds in (10, 20, 60)]
    await succeeded(scene, seconds=2)

    async def rates(**where: object) -> Rates:
        asked = {"table_key": None, "type": COMPACTION, "engine": None, **where}
        return await scene.operations.rates(**asked)  # type: ignore[arg-type]  # named arguments

    all_of_them = await rates()
    assert (all_of_them.operations, all_of_them.seconds_per_operation) == (4, 15.0)
    assert all_of_them.seconds_per_byte == pytest.approx(0.2)
    of_one = await rates(table_key=ended[2].table_uuid)
    assert (of_one.operations, of_one.seconds_per_operation) == (1, 60.0)
    assert of_one.seconds_per_byte == pytest.approx(0.6)
    assert await rates(engine="spark") == await rates()
    assert await rates(engine="trino") == Rates()
    assert await rates(type=EXPIRY) == Rates()


# -- reports


async def test_reports_are_paged_newest_first(any_store: Store) -> None:
    await any_store.catalogs.create(factories.catalog())
    table = factories.table()
    await any_store.tables.seen([table])
    assert await any_store.tables.reports(EVENTS, after=None, limit=2) == await any_store.tables.reports(
        EVENTS, after=None, limit=5
    )
    for number in range(5):
        await any_store.tables.save_report(EVENTS, table.uuid, factories.health_report(f"r{number}"))

    first = await any_store.tables.reports(EVENTS, after=None, limit=3)
    rest = await any_store.tables.reports(EVENTS, after=first.next, limit=3)

    assert [report.error for report in [*first.reports, *rest.reports]] == ["r4", "r3", "r2", "r1", "r0"]
    assert rest.next is None
    with pytest.raises(TableNotFound):
        await any_store.tables.reports(replace(EVENTS, name="other"), after=None, limit=3)


async def test_old_reports_are_dropped_but_for_the_newest(any_store: Store) -> None:
    await any_store.catalogs.create(factories.catalog())
    now = await any_store.now()
    tables = [factories.table(replace(EVENTS, name=name)) for name in ("silent", "active")]
    await any_store.tables.seen(tables)
    for table, ages in zip(tables, ((60, 50), (60, 1)), strict=True):
        for days in ages:
            report = replace(factories.health_report(), measure_time=now - timedelta(days=days), error=f"{days}")
            await any_store.tables.save_report(table.name, table.uuid, report)

    await any_store.clean(Retention(reports=30))

    kept = [(await any_store.tables.reports(table.name, after=None, limit=9)).reports for table in tables]
    assert [[report.error for report in reports] for reports in kept] == [["50"], ["1"]]
