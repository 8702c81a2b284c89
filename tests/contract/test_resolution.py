"""Tables that have to be matched with policies anew, and the targets that come of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.identifiers import CatalogName, OperationType, PolicyName, TableName, TableUuid
from control_plane.domain.scheduling import DecisionReason, Settled, SlotVerdict, Target
from control_plane.ports.scheduling import DecisionFilter
from tests.support import factories
from tests.support.factories import EVENTS, LAKE
from tests.support.scene import Scene
from tests.support.scheduling import Leader, decision, target
from tests.support.stores import lose

HOUR = timedelta(hours=1)
EXPIRY = OperationType.EXPIRE_SNAPSHOTS


@pytest.fixture
async def leader(scene: Scene) -> Leader:
    return await Leader.elected(scene)


def names(found: object) -> list[str]:
    return sorted(table.name.name for table, _ in found)  # type: ignore[attr-defined]  # pairs of a table and targets


async def test_a_new_table_is_matched_once(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    await store.tables.seen([table])
    ((found, targets),) = await leader.unresolved()
    assert (found, list(targets)) == (await store.tables.get(EVENTS), [])

    await leader.resolved(found, target(table))
    await store.tables.seen([replace(table, metadata_location="later")])
    await store.tables.listed(LAKE, [EVENTS])

    assert not await leader.unresolved()


@pytest.mark.parametrize("what", ["learnt its UUID", "was renamed", "went missing", "came back", "was replaced"])
async def test_a_table_is_matched_anew_when_it(leader: Leader, what: str) -> None:
    store, table = leader.scene.store, factories.table()
    if what == "learnt its UUID":
        await store.tables.listed(LAKE, [EVENTS])
    else:
        await store.tables.seen([table])
    if what == "came back":
        await lose(store, EVENTS)
    for found, _ in await leader.unresolved():
        await leader.resolved(found)
    assert not await leader.unresolved()

    match what:
        case "learnt its UUID" | "came back":
            await store.tables.seen([table])
        case "was renamed":
            await store.tables.seen([replace(table, name=replace(EVENTS, name="renamed"))])
        case "went missing":
            await lose(store, EVENTS)
        case "was replaced":
            await store.tables.seen([factories.table()])

    marked = [known.uuid for known, _ in await leader.unresolved()]
    assert table.uuid in marked
    assert len(marked) == (2 if what == "was replaced" else 1)


async def test_targets_follow_a_table_that_learns_its_uuid(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    await store.tables.listed(LAKE, [EVENTS])
    listed = replace(table, uuid=TableUuid(""))
    put_off = target(listed, deferred=True)
    await leader.resolved(listed, put_off)
    waits = decision(put_off, listed, verdict=SlotVerdict.DEFERRED, reason=DecisionReason.NO_HEALTH)
    await leader.settle(Settled(put_off, (waits,)))

    await store.tables.seen([table])

    moved = replace(put_off, table_key=table.uuid)
    ((found, targets),) = await leader.unresolved()
    assert (found.uuid, list(targets)) == (table.uuid, [moved])
    await leader.settle(Settled(moved, (decision(moved, table),)))
    page = await store.scheduling.decisions(DecisionFilter(), after=None, limit=10)
    assert [one.verdict for one in page.decisions] == [SlotVerdict.SKIPPED]


async def test_a_schedule_goes_on_under_the_same_generation_and_begins_anew_under_another(leader: Leader) -> None:
    store, table, now = leader.scene.store, factories.table(), await leader.scene.store.now()
    before = target(table, deferred=True)
    await leader.resolve(table, before)

    def later(**changes: object) -> Target:
        return replace(before, slot=now + HOUR, due=now + HOUR, deferred=False, since=now, **changes)  # type: ignore[arg-type]  # named fields

    async def stored() -> list[Target]:
        return [facts.target for facts in await store.scheduling.facts(EVENTS)]

    await leader.resolved(table, later())
    assert await stored() == [before]
    for anew in (later(policy_generation=2), later(policy=PolicyName("w")), later(policy_create_time=now)):
        await leader.resolved(table, anew)
        assert await stored() == [anew]
    await leader.resolved(table, later(type=EXPIRY))
    assert await stored() == [later(type=EXPIRY)]
    await leader.resolved(table)
    assert await stored() == []


async def test_a_policy_s_life_leaves_what_has_to_be_matched_anew(leader: Leader) -> None:
    store = leader.scene.store
    for change in await store.scheduling.policy_changes(limit=10):
        await store.scheduling.spread(change, marked=(), after=None)
    made = await store.policies.create(factories.policy("hourly", tablePattern="lake.a.*"))
    await store.policies.update(replace(made, etag="2"), etag=None)
    moved = replace(factories.policy("hourly", tablePattern="lake.b.*"), generation=2)
    await store.policies.update(moved, etag=None)
    await store.policies.update(replace(moved, generation=3), etag=None)
    await store.policies.delete(PolicyName("hourly"), etag=None)

    changes = await store.scheduling.policy_changes(limit=10)

    assert [(change.policy, list(change.patterns)) for change in changes] == [
        ("hourly", ["lake.a.*"]),
        ("hourly", ["lake.a.*", "lake.b.*"]),
        ("hourly", ["lake.b.*"]),
        ("hourly", ["lake.b.*"]),
    ]
    assert list(await store.scheduling.policy_changes(limit=1)) == [changes[0]]


async def test_a_policy_change_is_spread_in_parts(leader: Leader) -> None:
    store = leader.scene.store
    tables = [factories.table(replace(EVENTS, name=f"t{number}")) for number in range(3)]
    for table in tables:
        await leader.resolve(table)
    (change,) = await store.scheduling.policy_changes(limit=10)
    async with store.scheduling.in_term(leader.term):
        await store.scheduling.spread(change, marked=[tables[0].name, tables[1].name], after=tables[1].name)
    assert names(await leader.unresolved()) == ["t0", "t1"]
    (change,) = await store.scheduling.policy_changes(limit=10)
    assert change.after == tables[1].name
    async with store.scheduling.in_term(leader.term):
        await store.scheduling.spread(change, marked=[tables[2].name], after=None)
    assert names(await leader.unresolved()) == ["t0", "t1", "t2"]
    assert not await store.scheduling.policy_changes(limit=10)


async def test_the_tables_that_a_pattern_may_touch(leader: Leader) -> None:
    store = leader.scene.store
    await store.catalogs.create(factories.catalog("pond"))
    found = [
        TableName(LAKE, ("sales",), "a"),
        TableName(LAKE, ("sales", "eu"), "b"),
        TableName(LAKE, ("sales", "eu-west"), "c"),
        TableName(LAKE, ("salesman",), "d"),
        TableName(CatalogName("pond"), ("sales",), "e"),
    ]
    gone = TableName(LAKE, ("sales",), "gone")
    await store.tables.seen([factories.table(name) for name in (*found, gone)])
    await lose(store, gone)

    async def touched(**where: object) -> list[str]:
        asked = {"catalog": None, "namespace": None, "after": None, "limit": 10, **where}
        return [name.name for name in await store.scheduling.tables_touched(**asked)]  # type: ignore[arg-type]  # named

    assert await touched() == ["a", "b", "c", "d", "e"]
    assert await touched(limit=2, after=found[1]) == ["c", "d"]
    assert await touched(catalog=LAKE) == ["a", "b", "c", "d"]
    assert await touched(catalog=LAKE, namespace=["sales"]) == ["a", "b", "c"]
    assert await touched(catalog=LAKE, namespace=["sales", "eu"], after=found[0]) == ["b"]


async def test_counts_tell_how_much_there_is_to_do(leader: Leader) -> None:
    table, other = factories.table(), factories.table(replace(EVENTS, name="other"))
    later = await leader.scene.store.now() + HOUR
    await leader.resolve(table, target(table), target(table, type=EXPIRY, due=later, deferred=True))
    await leader.scene.store.tables.seen([other])
    assert dict(await leader.scene.store.scheduling.counts()) == {
        "targets": 2,
        "due": 1,
        "deferred": 1,
        "unresolved": 1,
    }


async def test_a_catalog_goes_with_its_targets(leader: Leader) -> None:
    table = factories.table()
    await leader.resolve(table, target(table))
    await leader.scene.store.catalogs.delete(LAKE, revision=None)
    assert not await leader.due()
    assert (await leader.scene.store.scheduling.counts())["targets"] == 0
