"""How catalogs are followed: what is listed, loaded and inspected, and what comes of the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.discovery_rules import DiscoveryRules
from control_plane.domain.health import HealthMetrics, IssueType, Metric
from control_plane.domain.identifiers import TableName
from control_plane.domain.observation import (
    Answer,
    Measurements,
    Observation,
    ObservationError,
    ObservationKind,
    TableNames,
)
from control_plane.ports.records import Store
from control_plane.services import sightings
from control_plane.store.memory import MemoryStore
from tests.support import factories
from tests.support.clock import ManualClock
from tests.support.factories import EVENTS, LAKE
from tests.support.scheduling_replica import Replica, loaded, measured
from tests.support.stores import RULES

MINUTE: Final = timedelta(minutes=1)
NOT_FOUND: Final = ObservationError("NOT_FOUND", "no such table")
LIST, LOAD, INSPECT = ObservationKind.LIST_TABLES, ObservationKind.LOAD_TABLE, ObservationKind.INSPECT_TABLE


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Store:
    return MemoryStore(clock, rules=RULES)


@pytest.fixture
async def replica(store: Store, clock: ManualClock) -> Replica:
    await store.catalogs.create(factories.catalog())
    return Replica(store, clock, discovery_rules=DiscoveryRules(loads=3, inspections=2))


async def wanted(replica: Replica, kind: ObservationKind) -> Sequence[Observation]:
    """The looks of this kind that a round of discovery asks for, or that wait already."""
    await replica.discovery.ask()
    return [one for one in await replica.asked() if one.request.kind is kind]


async def listing(replica: Replica, answer: Answer) -> None:
    """The next listing of the catalog, five minutes after the last."""
    replica.clock.advance(6 * MINUTE)
    (look,) = await wanted(replica, LIST)
    replica.clock.advance(timedelta(seconds=1))
    await replica.answer(look, answer)


async def state(replica: Replica, table: Table) -> TableState:
    return (await replica.store.tables.get(table.name)).state


def names(*tables: Table | TableName, complete: bool = True, **more: Any) -> TableNames:
    return TableNames([one.name if isinstance(one, Table) else one for one in tables], complete, **more)


async def test_a_catalog_is_listed_again_when_its_listing_is_old(replica: Replica) -> None:
    (first,) = await wanted(replica, LIST)
    await replica.answer(first, names())
    replica.clock.advance(4 * MINUTE)
    assert not await wanted(replica, LIST)
    replica.clock.advance(2 * MINUTE)
    assert len(await wanted(replica, LIST)) == 1


async def test_a_catalog_that_is_down_is_asked_no_more_often(replica: Replica) -> None:
    await listing(replica, ObservationError("UNAVAILABLE", "connection refused"))
    assert (await replica.store.catalogs.get(LAKE)).last_list_error == "connection refused"
    replica.clock.advance(MINUTE)
    assert not await wanted(replica, LIST)


async def test_new_names_are_loaded_so_many_at_a_time(replica: Replica) -> None:
    await listing(replica, names(*(replace(EVENTS, name=f"t{number}") for number in range(5))))
    first = await wanted(replica, LOAD)
    assert len(first) == 3
    assert not await wanted(replica, LOAD), "three wait for an answer"
    for look in first:
        assert look.request.table is not None
        table = factories.table(look.request.table)
        await replica.answer(look, loaded(table))

    rest = await wanted(replica, LOAD)
    assert {one.request.table.name for one in (*first, *rest) if one.request.table} == {f"t{n}" for n in range(5)}


async def test_a_name_that_cannot_be_loaded_holds_up_no_other(replica: Replica) -> None:
    await listing(replica, names(*(replace(EVENTS, name=f"t{number}") for number in range(4))))
    for look in await wanted(replica, LOAD):
        await replica.answer(look, ObservationError("INVALID", "its metadata is broken"))
    asked = [one.request.table.name for one in await wanted(replica, LOAD) if one.request.table]
    assert asked == ["t3"]


async def test_a_table_is_missing_after_two_listings_and_a_load(replica: Replica) -> None:
    table = replica.table()
    await replica.store.tables.seen([table])
    await listing(replica, names())
    assert not await wanted(replica, LOAD)
    await listing(replica, names())
    (look,) = await wanted(replica, LOAD)
    assert await state(replica, table) is TableState.PRESENT
    await replica.answer(look, NOT_FOUND)
    assert await state(replica, table) is TableState.MISSING

    await listing(replica, names(table))
    assert await state(replica, table) is TableState.PRESENT


async def test_a_table_that_two_listings_did_not_name_and_a_load_finds_stays(replica: Replica) -> None:
    table = replica.table()
    await replica.store.tables.seen([table])
    for _ in range(2):
        await listing(replica, names())
    (look,) = await wanted(replica, LOAD)
    await replica.answer(look, loaded(table))
    assert await state(replica, table) is TableState.PRESENT


async def test_a_load_that_finds_nothing_is_not_enough(replica: Replica) -> None:
    table = replica.table()
    await replica.store.tables.seen([table])
    await listing(replica, names())
    await replica.sightings.look_at(factories.look(LOAD, table=table.name))
    (look,) = await wanted(replica, LOAD)
    await replica.answer(look, NOT_FOUND)
    assert await state(replica, table) is TableState.PRESENT


async def test_a_catalog_that_fails_in_the_middle_takes_no_table_and_no_target(replica: Replica) -> None:
    tables = await replica.register(
        replica.policy(rewriteDataFilesSchedule={"interval": "P1D"}), tables=3, catalog=False
    )
    await replica.work()
    for _ in range(4):
        await listing(replica, names(tables[0], complete=False))
    assert not await wanted(replica, LOAD)
    await replica.work()
    assert [await state(replica, table) for table in tables] == [TableState.PRESENT] * 3
    assert all([await replica.store.scheduling.facts(table.name) for table in tables])


async def test_a_listing_that_began_before_a_table_was_seen_says_nothing_of_it(replica: Replica) -> None:
    replica.clock.advance(6 * MINUTE)
    (look,) = await wanted(replica, LIST)
    replica.clock.advance(MINUTE)
    table = replica.table()
    await replica.store.tables.seen([table])
    await replica.answer(look, names())
    await listing(replica, names())
    assert not await wanted(replica, LOAD), "one listing began after it was seen"


async def test_a_renamed_table_is_followed_by_its_uuid(replica: Replica) -> None:
    (table,) = await replica.register(
        replica.policy(rewriteDataFilesSchedule={"interval": "P1D"}), tables=1, catalog=False
    )
    await replica.work()
    renamed = replace(table, name=replace(table.name, name="renamed"))
    await listing(replica, names(renamed))
    (look,) = await wanted(replica, LOAD)
    await replica.answer(look, loaded(renamed))
    await replica.work()
    assert (await replica.store.tables.get(renamed.name)).uuid == table.uuid
    assert [one.name for one in await replica.store.tables.list(catalog=None, after=None, limit=9)] == [renamed.name]
    assert len(await replica.store.scheduling.facts(renamed.name)) == 1


async def test_an_answer_is_kept_once_whoever_else_waited_for_it(replica: Replica) -> None:
    table = replica.table()
    await replica.store.tables.seen([table])
    await replica.sightings.look_at(await replica.sightings.inspection(table.name))
    (look,) = await wanted(replica, INSPECT)
    await replica.answer(look, measured(table, snapshot_count=Metric.exact(3)))
    answered = await replica.store.observations.get(look.id)
    assert answered is not None
    await replica.sightings.keep(answered)
    assert len((await replica.store.tables.reports(table.name, after=None, limit=9)).reports) == 1


async def test_a_report_is_judged_by_the_thresholds_of_the_policy_that_governs(replica: Replica) -> None:
    thresholds: dict[str, Any] = {"healthThresholds": {"snapshotCount": {"warning": 2, "critical": 9}}}
    strict = replica.policy(tablePattern="lake.sales.t0", **thresholds)
    governed, free = await replica.register(strict, tables=2, catalog=False)
    for table in (governed, free):
        await replica.sightings.look_at(await replica.sightings.inspection(table.name))
    for look in await wanted(replica, INSPECT):
        table = governed if look.request.table == governed.name else free
        await replica.answer(look, measured(table, snapshot_count=Metric.exact(3)))

    issues = [
        [issue.type for issue in report.issues]
        for table in (governed, free)
        if (report := (await replica.store.tables.get(table.name)).health) is not None
    ]
    assert issues == [[IssueType.TOO_MANY_SNAPSHOTS], []]


async def test_an_inspection_that_nobody_made_leaves_the_last_report(replica: Replica) -> None:
    table = replica.table()
    await replica.store.tables.seen([table])
    await replica.store.tables.save_report(table.name, table.uuid, factories.health_report("the last one"))
    await replica.sightings.look_at(await replica.sightings.inspection(table.name))
    replica.clock.advance(20 * MINUTE)
    await replica.recovery.sweep_observations()
    await replica.recovery.act_on_answers()
    health = (await replica.store.tables.get(table.name)).health
    assert health is not None and health.error == "the last one"


async def test_tables_are_inspected_shortly_before_their_slots_if_their_conditions_ask(replica: Replica) -> None:
    conditions = {"triggerConditions": {"smallFileCountAbove": 10}}
    noon = {"rewriteDataFilesSchedule": {"cronExpression": "0 13 * * *"}}
    policies = (
        replica.policy("asks", tablePattern="lake.sales.t0", **conditions, **noon),
        replica.policy("asks-not", tablePattern="lake.sales.t1", **noon),
    )
    tables = await replica.register(*policies, tables=2, catalog=False)
    await replica.work()
    assert not await wanted(replica, INSPECT)
    replica.clock.advance(56 * MINUTE)
    (look,) = await wanted(replica, INSPECT)
    assert look.request.table == tables[0].name
    await replica.answer(look, measured(tables[0], small_file_count=Metric.exact(3)))
    replica.clock.advance(MINUTE)
    assert not await wanted(replica, INSPECT)
    replica.clock.advance(3 * MINUTE)
    await replica.work()
    assert Counter(one.reason for one in await replica.decisions()) == {"conditions_not_met": 1, "no_conditions": 1}


async def test_so_many_inspections_wait_at_a_time(replica: Replica) -> None:
    policy = replica.policy(
        triggerConditions={"smallFileCountAbove": 10}, rewriteDataFilesSchedule={"cronExpression": "0 13 * * *"}
    )
    await replica.register(policy, tables=5, catalog=False)
    await replica.work()
    replica.clock.advance(60 * MINUTE)
    await replica.work()
    seen = set()
    for expected in (2, 2, 1):
        looks = await wanted(replica, INSPECT)
        assert len(looks) == expected
        for look in looks:
            assert look.request.table is not None
            seen.add(look.request.table)
            table = await replica.store.tables.get(look.request.table)
            await replica.answer(look, measured(table, small_file_count=Metric.exact(50)))
    assert len(seen) == 5


async def test_what_writers_changed_is_inspected_again_where_listings_tell(replica: Replica) -> None:
    tables = await replica.register(tables=3, catalog=False)
    await listing(replica, names(*tables))
    for table in tables[:2]:
        await replica.sightings.look_at(await replica.sightings.inspection(table.name))
    for look in await wanted(replica, INSPECT):
        table = next(one for one in tables if one.name == look.request.table)
        metrics = HealthMetrics(metadata_location=table.metadata_location, snapshot_count=Metric.exact(1))
        await replica.answer(look, Measurements(loaded(table), metrics))
    moved = {table.name: table.metadata_location for table in tables} | {tables[0].name: "file:///moved.json"}
    await listing(replica, names(*tables, metadata_locations=moved))
    assert [one.request.table for one in await wanted(replica, INSPECT)] == [tables[0].name]


async def test_tables_that_can_never_be_loaded_hide_no_other_that_is_gone(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "_LOOKED_FOR", 2)
    await replica.register(tables=5, catalog=False)
    await listing(replica, names())
    asked = []
    for _ in range(3):
        await listing(replica, names())
        looks = await wanted(replica, LOAD)
        asked.append({look.request.table.name for look in looks if look.request.table})
        for look in looks:
            await replica.answer(look, ObservationError("INVALID", "its metadata is broken"))
    assert asked == [{"t0", "t1"}, {"t2", "t3"}, {"t4", "t0"}]


async def test_tables_that_change_all_the_time_keep_no_other_from_being_inspected(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "_LOOKED_FOR", 2)
    tables = {table.name: table for table in await replica.register(tables=3, catalog=False)}
    for table in tables.values():
        metrics = HealthMetrics(metadata_location="old")
        report = replace(factories.health_report(), metrics=metrics, measure_time=replica.clock.now())
        await replica.store.tables.save_report(table.name, table.uuid, report)
    asked = []
    for number in range(2):
        await listing(replica, names(*tables, metadata_locations=dict.fromkeys(tables, f"v{number}")))
        looks = await wanted(replica, INSPECT)
        asked.append([name.name for look in looks if (name := look.request.table)])
        for look in looks:
            assert look.request.table is not None
            metrics = HealthMetrics(metadata_location=f"v{number}", snapshot_count=Metric.exact(1))
            await replica.answer(look, Measurements(loaded(tables[look.request.table]), metrics))
    assert set(asked[0] + asked[1]) == {"t0", "t1", "t2"}


# -- a catalog that moved


HOURLY: Final[dict[str, Any]] = {"rewriteDataFilesSchedule": {"cronExpression": "0 * * * *"}}


async def move(replica: Replica) -> None:
    """The catalog is elsewhere from now on, as its service stores it."""
    catalog = await replica.store.catalogs.get(LAKE)
    moved = replace(catalog, uri="http://elsewhere", generation=catalog.generation + 1)
    await replica.store.catalogs.update(moved, revision=catalog.revision, unused=True)


async def test_nothing_is_scheduled_in_a_catalog_that_moved_until_it_was_listed_again(replica: Replica) -> None:
    (table,) = await replica.register(replica.policy(**HOURLY), catalog=False)
    await listing(replica, names(table))
    await replica.work()
    await move(replica)
    await replica.pass_time(60 * MINUTE, every=MINUTE)

    (waiting,) = await replica.decisions()
    assert (waiting.verdict, waiting.reason) == ("DEFERRED", "catalog_moved")
    assert "lake was moved" in waiting.text
    assert not await replica.operations()

    await listing(replica, names(complete=False))
    await replica.work()
    assert not await replica.operations(), "some namespaces could not be listed"

    await listing(replica, names(table))
    await replica.work()
    (fired,) = await replica.decisions()
    assert (fired.verdict, fired.slot) == ("FIRED", waiting.slot)
    assert len(await replica.operations()) == 1


async def test_a_namespace_that_nobody_may_list_holds_no_other_table_of_a_catalog_that_moved(replica: Replica) -> None:
    named, hidden = await replica.register(replica.policy(**HOURLY), tables=2, catalog=False)
    await replica.pass_time(MINUTE)
    await move(replica)
    await replica.pass_time(59 * MINUTE, every=MINUTE)
    assert [one.reason for one in await replica.decisions()] == ["catalog_moved"] * 2

    await listing(replica, names(named, complete=False))
    await replica.work()
    assert [one.table for one in await replica.operations()] == [named.name]

    (look,) = await wanted(replica, LOAD)
    assert look.request.table == hidden.name, "what no listing names is looked for"
    await replica.answer(look, NOT_FOUND)
    await listing(replica, names(named, complete=False))
    await replica.work()
    assert [one.verdict for one in await replica.decisions(table=hidden.name)] == ["DEFERRED"]
    assert await state(replica, hidden) is TableState.PRESENT

    (look,) = await wanted(replica, LOAD)
    await replica.answer(look, loaded(hidden))
    await listing(replica, names(named, complete=False))
    await replica.work()
    assert [one.table for one in await replica.operations()] == [named.name, hidden.name]
    assert not await wanted(replica, LOAD)


async def test_a_slot_whose_catalog_was_not_listed_in_its_time_says_so(replica: Replica) -> None:
    (table,) = await replica.register(replica.policy(**HOURLY), catalog=False)
    await listing(replica, names(table))
    await replica.work()
    await move(replica)
    await replica.pass_time(120 * MINUTE, every=MINUTE)

    given_up, waiting = await replica.decisions()
    assert (given_up.verdict, given_up.reason) == ("SKIPPED", "catalog_moved")
    assert (waiting.verdict, waiting.reason) == ("DEFERRED", "catalog_moved")


async def test_what_was_looked_at_before_a_catalog_moved_says_nothing_of_it(replica: Replica) -> None:
    (table,) = await replica.register(catalog=False)
    for _ in range(2):
        await listing(replica, names(table))
    replica.clock.advance(6 * MINUTE)
    (under_way,) = await wanted(replica, LIST)
    await move(replica)

    done = await replica.store.observations.get(under_way.id)
    assert done is not None and isinstance(done.answer, ObservationError)
    await replica.sightings.keep(done)
    catalog = await replica.store.catalogs.get(LAKE)
    assert (catalog.list_begin_time, catalog.earlier_list_begin_time, catalog.last_list_time) == (None, None, None)

    await listing(replica, names())
    replica.clock.advance(MINUTE)
    assert not await wanted(replica, LOAD), "one complete listing of the new place says nothing of a table"
