"""What discovery asks the store: listings and their begins, names without a UUID, tables unseen, answers used once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.domain.catalog import TableState
from control_plane.domain.identifiers import ObservationId, TableName
from control_plane.domain.observation import ObservationError, ObservationKind
from control_plane.domain.scheduling import Settled
from control_plane.ports.records import Store
from tests.support import factories
from tests.support.factories import EVENTS, LAKE
from tests.support.scene import Scene
from tests.support.scheduling import Leader, target
from tests.support.stores import lose

MINUTE = timedelta(minutes=1)


async def test_the_begins_of_the_last_two_complete_listings_are_kept(any_store: Store) -> None:
    await any_store.catalogs.create(factories.catalog())
    first, second = factories.now() - 2 * MINUTE, factories.now() - MINUTE

    await any_store.catalogs.record_listing(LAKE, error="", began=first)
    await any_store.catalogs.record_listing(LAKE, error="some namespaces could not be listed")
    recorded = await any_store.catalogs.record_listing(LAKE, error="", began=second)

    assert recorded is not None
    assert (recorded.list_begin_time, recorded.earlier_list_begin_time) == (second, first)
    updated = await any_store.catalogs.update(factories.catalog(description="x"), revision=None, unused=False)
    assert (updated.list_begin_time, updated.earlier_list_begin_time) == (second, first)
    await any_store.catalogs.delete(LAKE, revision=None)
    assert await any_store.catalogs.record_listing(LAKE, error="", began=second) is None


async def test_names_without_a_uuid_are_found_page_by_page(scene: Scene) -> None:
    names = [replace(EVENTS, name=f"t{number}") for number in range(3)]
    await scene.store.tables.listed(LAKE, names)
    await scene.store.tables.seen([factories.table(names[1])])
    await lose(scene.store, names[2])
    await scene.store.tables.listed(LAKE, [replace(EVENTS, name="t9")])

    first = await scene.store.tables.unloaded(after=None, limit=1)
    rest = await scene.store.tables.unloaded(after=first[0], limit=5)

    assert [name.name for name in (*first, *rest)] == ["t0", "t9"]


async def test_tables_that_were_not_seen_since_are_found(scene: Scene) -> None:
    now = await scene.store.now()
    gone, old, young = (
        factories.table(TableName(LAKE, ("a",), name), last_seen_time=now - age)
        for name, age in (("gone", 3 * MINUTE), ("old", 2 * MINUTE), ("young", MINUTE))
    )
    await scene.store.tables.seen([gone, old, young])
    await lose(scene.store, gone.name)

    async def unseen(since: datetime, limit: int, after: TableName | None = None) -> Sequence[TableName]:
        return await scene.store.tables.unseen(LAKE, since=since, after=after, limit=limit)

    assert await unseen(now - 1.5 * MINUTE, 5) == [old.name]
    assert await unseen(now, 1) == [old.name]
    assert await unseen(now, 5, after=old.name) == [young.name]
    assert not await unseen(now, 5, after=young.name)


async def test_a_load_alone_takes_no_table_nor_does_one_after_a_single_listing(scene: Scene) -> None:
    table = factories.table()
    await scene.store.tables.seen([table])
    assert not await scene.store.tables.missing(table.name)
    for number in (1, 2):
        began = table.last_seen_time + number * MINUTE
        await scene.store.catalogs.record_listing(LAKE, error="", began=began)
        assert (await scene.store.tables.get(table.name)).state is TableState.PRESENT
        assert await scene.store.tables.missing(table.name) == (number == 2)

    assert (await scene.store.tables.get(table.name)).state is TableState.MISSING
    assert not await scene.store.tables.missing(table.name), "it is missing already"


async def test_an_answer_is_used_by_one_caller(scene: Scene) -> None:
    holder = await scene.attach()
    assert holder.session is not None
    opened = await scene.store.observations.open(factories.look(), within=MINUTE, timeout=MINUTE)
    assert await scene.store.observations.unanswered(ObservationKind.INSPECT_TABLE) == 1
    assert await scene.store.observations.unanswered(ObservationKind.LOAD_TABLE) == 0
    (claimed,) = await scene.store.observations.claim(factories.looks_by(holder))
    answer = ObservationError("UNAVAILABLE", "down")
    await scene.store.observations.answer(opened.id, epoch=claimed.epoch, session=holder.session, answer=answer)

    firsts = await asyncio.gather(*(scene.store.observations.used(opened.id) for _ in range(5)))

    assert sorted(firsts) == [False, False, False, False, True]
    assert await scene.store.observations.unanswered(ObservationKind.INSPECT_TABLE) == 0


async def test_targets_that_become_due_soon_are_read_in_their_order(scene: Scene) -> None:
    leader = await Leader.elected(scene)
    now = await scene.store.now()
    targets = []
    for number in range(4):
        table = factories.table(replace(EVENTS, name=f"t{number}"))
        targets.append(target(table, due=now + number * MINUTE))
        await leader.resolve(table, targets[-1])

    async def found(limit: int, after: int | None = None) -> list[str]:
        begin = targets[after] if after is not None else None
        facts = await scene.store.scheduling.approaching(after=begin, before=now + 3 * MINUTE, limit=limit)
        return [one.table.name.name for one in facts]

    assert await found(10) == ["t0", "t1", "t2"]
    assert await found(1) == ["t0"]
    assert await found(10, after=1) == ["t2"]


async def looks(scene: Scene, answered: ObservationKind, under_way: ObservationKind) -> tuple[ObservationId, ...]:
    """One that was answered and not used yet, and one that an executor is at."""
    holder = await scene.attach()
    assert holder.session is not None
    for kind in (answered, under_way):
        await scene.store.observations.open(factories.look(kind), within=MINUTE, timeout=MINUTE)
    handed = {one.request.kind: one for one in await scene.store.observations.claim(factories.looks_by(holder))}
    first, answer = handed[answered], ObservationError("UNAVAILABLE", "down")
    await scene.store.observations.answer(first.id, epoch=first.epoch, session=holder.session, answer=answer)
    return first.id, handed[under_way].id


async def test_a_catalog_that_moves_forgets_its_listings_and_holds_its_targets_until_the_next(scene: Scene) -> None:
    leader = await Leader.elected(scene)
    store, now = scene.store, await scene.store.now()
    table = factories.table(last_seen_time=now)
    await leader.resolve(table, target(table, due=now, deferred=True))
    await store.catalogs.record_listing(LAKE, error="", began=now)
    answered, under_way = await looks(scene, ObservationKind.LIST_TABLES, ObservationKind.LOAD_TABLE)

    catalog = await store.catalogs.get(LAKE)
    described = await store.catalogs.update(replace(catalog, description="x"), revision=None, unused=False)
    assert described.list_begin_time == now
    moved = await store.catalogs.update(replace(described, uri="u", generation=2), revision=None, unused=True)

    assert (moved.last_list_time, moved.list_begin_time, moved.earlier_list_begin_time) == (None, None, None)
    assert moved.is_moving
    assert not await store.observations.used(answered), "what it says is of another place"
    ended = await store.observations.get(under_way)
    assert ended is not None and isinstance(ended.answer, ObservationError) and "moved" in ended.answer.message
    assert not await store.observations.answered(list(ObservationKind), limit=9)
    assert [one.catalog_moved for one in await leader.due()] == [True]
    assert [one.catalog_moved for one in await store.scheduling.facts(table.name)] == [True]

    later = now + timedelta(days=1)
    await leader.settle(Settled(target(table, due=later, deferred=True)))
    await store.catalogs.record_listing(LAKE, error="some namespaces could not be listed")
    assert not await leader.due()
    listed = await store.catalogs.record_listing(LAKE, error="", began=now)
    assert listed is not None and not listed.is_moving
    assert [one.catalog_moved for one in await leader.due()] == [False]


async def test_a_table_that_was_seen_after_its_catalog_moved_is_let_go_by_the_next_listing(scene: Scene) -> None:
    leader = await Leader.elected(scene)
    store = scene.store
    before = await store.now() - MINUTE
    named, hidden = (
        factories.table(replace(EVENTS, name=name), first_seen_time=before, last_seen_time=before) for name in "ab"
    )
    for table in (named, hidden):
        await leader.resolve(table, target(table, due=before + timedelta(days=1), deferred=True))
    catalog = await store.catalogs.get(LAKE)
    moved = await store.catalogs.update(replace(catalog, uri="u", generation=2), revision=None, unused=True)
    assert moved.move_time is not None and moved.move_time > before
    await store.tables.seen([replace(named, last_seen_time=moved.move_time + MINUTE)])
    assert not await leader.due()

    await store.catalogs.record_listing(LAKE, error="some namespaces could not be listed")

    assert [(one.table.name, one.catalog_moved) for one in await leader.due()] == [(named.name, False)]
    assert [one.catalog_moved for one in await store.scheduling.facts(hidden.name)] == [True]
    again = await store.catalogs.get(LAKE)
    described = await store.catalogs.update(replace(again, description="x"), revision=None, unused=False)
    assert described.move_time == moved.move_time


async def test_targets_that_become_due_at_one_instant_are_read_page_by_page(scene: Scene) -> None:
    leader = await Leader.elected(scene)
    now = await scene.store.now()
    for number in range(5):
        table = factories.table(replace(EVENTS, name=f"t{number}"))
        await leader.resolve(table, target(table, due=now))

    found: list[str] = []
    after = None
    while page := await scene.store.scheduling.approaching(after=after, before=now + MINUTE, limit=2):
        found += [one.table.name.name for one in page]
        after = page[-1].target

    assert sorted(found) == ["t0", "t1", "t2", "t3", "t4"]
