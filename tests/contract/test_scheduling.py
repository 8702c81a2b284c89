"""Targets that are due, what is settled about them, and what the end of an operation means for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.errors import TableNotFound
from control_plane.domain.identifiers import CatalogName, OperationType, PolicyName, TableName, TableUuid
from control_plane.domain.operation import FailureClass
from control_plane.domain.scheduling import (
    NO_OUTCOMES,
    DecisionReason,
    PolicyMode,
    Settled,
    SlotVerdict,
    Target,
)
from control_plane.ports.operations import Retention
from control_plane.ports.scheduling import DecisionFilter
from tests.support import factories
from tests.support.factories import EVENTS, LAKE
from tests.support.scene import Scene
from tests.support.scheduling import FAILED, Leader, decision, skip, target

HOUR = timedelta(hours=1)
COMPACTION, EXPIRY = OperationType.REWRITE_DATA_FILES, OperationType.EXPIRE_SNAPSHOTS


@pytest.fixture
async def leader(scene: Scene) -> Leader:
    return await Leader.elected(scene)


# -- what is due


async def test_the_longest_due_comes_first_and_the_future_does_not(leader: Leader) -> None:
    now = await leader.scene.store.now()
    tables = [factories.table(replace(EVENTS, name=f"t{number}")) for number in range(4)]
    dues = [now - HOUR, now - 3 * HOUR, now + HOUR, None]
    for table, due in zip(tables, dues, strict=True):
        await leader.resolve(table, target(table, due=due))

    found = await leader.due()

    assert [facts.table.name.name for facts in found] == ["t1", "t0"]
    assert [facts.target.due for facts in await leader.due(limit=1)] == [dues[1]]
    assert await leader.scene.store.scheduling.next_due() == dues[1]


async def test_nothing_is_due_where_nothing_is_scheduled(leader: Leader) -> None:
    table = factories.table()
    await leader.resolve(table, target(table, slot=None, due=None))
    assert not await leader.due()
    assert await leader.scene.store.scheduling.next_due() is None


async def test_a_target_comes_with_all_that_a_decision_reads(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    await store.tables.save_report(EVENTS, table.uuid, factories.health_report("older"))
    await store.tables.save_report(EVENTS, table.uuid, factories.health_report("newer"))
    await leader.scene.enqueue(table=table.name, table_uuid=table.uuid)
    earlier = await store.now() - HOUR
    older = await leader.scene.enqueue(table=table.name, table_uuid=table.uuid, create_time=earlier)
    await leader.scene.enqueue(table=table.name, table_uuid=table.uuid, type=EXPIRY)

    (facts,) = await leader.due()

    assert facts.target == wanted
    assert facts.table == await store.tables.get(EVENTS)
    assert facts.table.health is not None
    assert facts.table.health.error == "newer"
    assert facts.open_operation == older.id
    assert facts.outcomes == NO_OUTCOMES
    assert list(await store.scheduling.facts(EVENTS)) == [facts]


async def test_the_facts_of_a_table_are_in_the_order_of_a_run(leader: Leader) -> None:
    table = factories.table()
    shadow = target(table, mode=PolicyMode.SHADOW)
    await leader.resolve(table, target(table, type=EXPIRY), shadow, target(table))
    facts = await leader.scene.store.scheduling.facts(EVENTS)
    assert [(one.target.type, one.target.mode) for one in facts] == [
        (COMPACTION, PolicyMode.ACTIVE),
        (COMPACTION, PolicyMode.SHADOW),
        (EXPIRY, PolicyMode.ACTIVE),
    ]
    with pytest.raises(TableNotFound):
        await leader.scene.store.scheduling.facts(replace(EVENTS, name="other"))


async def test_a_report_makes_what_was_put_off_due(leader: Leader) -> None:
    table, now = factories.table(), await leader.scene.store.now()
    deferred = target(table, due=now + HOUR, deferred=True)
    await leader.resolve(table, deferred, target(table, type=EXPIRY, due=now + HOUR))
    assert not await leader.due()

    await leader.scene.store.tables.save_report(EVENTS, table.uuid, factories.health_report())

    assert [facts.target.type for facts in await leader.due()] == [COMPACTION]


# -- settling


async def test_what_is_settled_is_kept(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    before = target(table)
    await leader.resolve(table, before)
    now = await store.now()
    after = replace(before, slot=now + HOUR, due=now + HOUR)
    skipped = decision(before, table, last_slot=before.slot, slots=3, next_eligible=now + HOUR)

    await leader.settle(Settled(after, (skipped,)))

    assert [facts.target for facts in await store.scheduling.facts(EVENTS)] == [after]
    page = await store.scheduling.decisions(DecisionFilter(), after=None, limit=10)
    assert list(page.decisions) == [skipped]
    assert page.next is None


async def test_a_slot_that_fires_queues_its_operation(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)

    fired = await leader.fire(wanted, table, cancel_at=wanted.since + 99 * HOUR)

    assert await store.operations.get(fired.id) == fired
    assert fired.slot == wanted.slot
    assert [event.event for event in await leader.scene.history(fired.id)] == ["queued"]
    (facts,) = await store.scheduling.facts(EVENTS)
    assert (facts.target.awaiting, facts.open_operation) == (fired.id, fired.id)
    assert not await leader.due()
    assert [operation.id for operation in await leader.scene.claim(await leader.scene.attach())] == [fired.id]


async def test_a_second_waiting_operation_of_the_schedule_is_a_defect(leader: Leader) -> None:
    table = factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    first = await leader.fire(wanted, table)
    with pytest.raises(ValueError, match="scheduled already"):
        await leader.fire(wanted, table)
    (facts,) = await leader.scene.store.scheduling.facts(EVENTS)
    assert facts.open_operation == first.id
    # By hand any number may wait.
    await leader.scene.enqueue(table=table.name, table_uuid=table.uuid)


async def test_deciding_a_slot_again_replaces_the_decision(leader: Leader) -> None:
    store, table = leader.scene.store, factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    put_off = decision(wanted, table, verdict=SlotVerdict.DEFERRED, reason=DecisionReason.BUDGET)
    await leader.settle(Settled(replace(wanted, deferred=True), (put_off,)))
    final = decision(wanted, table)
    await leader.settle(Settled(wanted, (final,)))
    page = await store.scheduling.decisions(DecisionFilter(), after=None, limit=10)
    assert list(page.decisions) == [final]


async def test_a_target_that_is_gone_is_not_settled_back(leader: Leader) -> None:
    table = factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    await leader.resolved(table)
    await leader.settle(Settled(wanted, (decision(wanted, table),)))
    assert not await leader.scene.store.scheduling.facts(EVENTS)


async def test_a_target_that_awaits_what_has_ended_already_is_looked_at_again(leader: Leader) -> None:
    table = factories.table()
    wanted = target(table)
    await leader.resolve(table, wanted)
    ended = await leader.scene.cancel((await leader.scene.enqueue()).id)
    await leader.settle(Settled(replace(wanted, slot=None, due=None, awaiting=ended.id)))
    due = await leader.scene.store.scheduling.next_due()
    assert due is not None
    assert due < await leader.scene.store.now() + timedelta(seconds=2)


# -- decisions


async def test_decisions_are_found_by_every_filter_and_paged_newest_first(leader: Leader) -> None:
    store, now = leader.scene.store, await leader.scene.store.now()
    lake = factories.table()
    await store.catalogs.create(factories.catalog("pond"))
    pond = factories.table(TableName(CatalogName("pond"), ("a.b", "c"), 'odd "name"'))
    kept = [
        decision(target(lake), lake, time=now),
        decision(target(lake, mode=PolicyMode.SHADOW), lake, time=now - HOUR),
        decision(target(lake, type=EXPIRY, policy=PolicyName("weekly")), lake, time=now - 2 * HOUR),
        decision(target(pond), pond, verdict=SlotVerdict.FIRED, time=now - 3 * HOUR),
    ]
    for table, one in zip((lake, lake, lake, pond), kept, strict=True):
        await leader.settle(Settled(target(table), (one,)))

    async def found(where: DecisionFilter) -> list[int]:
        page = await store.scheduling.decisions(where, after=None, limit=10)
        return [kept.index(one) for one in page.decisions]

    assert await found(DecisionFilter()) == [0, 1, 2, 3]
    assert await found(DecisionFilter(catalog=CatalogName("pond"))) == [3]
    assert await found(DecisionFilter(table=lake.name)) == [0, 1, 2]
    assert await found(DecisionFilter(policy=PolicyName("weekly"))) == [2]
    assert await found(DecisionFilter(types=(EXPIRY,))) == [2]
    assert await found(DecisionFilter(verdicts=(SlotVerdict.FIRED, SlotVerdict.DEFERRED))) == [3]
    assert await found(DecisionFilter(modes=(PolicyMode.SHADOW,))) == [1]
    assert await found(DecisionFilter(since=now - HOUR)) == [0, 1]
    first = await store.scheduling.decisions(DecisionFilter(), after=None, limit=3)
    rest = await store.scheduling.decisions(DecisionFilter(), after=first.next, limit=3)
    assert [kept.index(one) for one in [*first.decisions, *rest.decisions]] == [0, 1, 2, 3]
    assert rest.next is None


async def test_decisions_past_retention_are_dropped(leader: Leader) -> None:
    store, table, now = leader.scene.store, factories.table(), await leader.scene.store.now()
    old = decision(target(table), table, time=now - timedelta(days=31))
    young = decision(target(table, type=EXPIRY), table, time=now - timedelta(days=29))
    await leader.settle(Settled(target(table), (old, young)))
    await store.clean(Retention(decisions=30))
    page = await store.scheduling.decisions(DecisionFilter(), after=None, limit=10)
    assert list(page.decisions) == [young]


# -- what the end of an operation means


async def test_the_outcomes_of_a_table_count_every_end(leader: Leader) -> None:
    scene, table = leader.scene, factories.table()
    await leader.resolve(table, target(table, due=None))
    holder = await scene.attach()
    mine = {"table": table.name, "table_uuid": table.uuid}

    async def outcomes() -> object:
        (facts,) = await scene.store.scheduling.facts(EVENTS)
        return facts.outcomes

    ends = []
    for result in (factories.result(), factories.result()):
        ends.append((await scene.report((await scene.running(holder, **mine)).lease, result)).operation)
    kept = replace(
        NO_OUTCOMES,
        last_success_time=ends[1].finish_time,
        last_finish_time=ends[1].finish_time,
        last_metadata_location=table.metadata_location,
        consecutive_no_change=2,
        finished=2,
    )
    assert await outcomes() == kept

    failed = (
        await scene.report(
            (await scene.running(holder, **mine, max_attempts=1, policy_generation=1)).lease,
            FAILED,
        )
    ).operation
    kept = replace(
        kept,
        last_finish_time=failed.finish_time,
        consecutive_failures=1,
        last_failure_time=failed.finish_time,
        last_failure_class=FailureClass.ENGINE,
        last_failure_generation=1,
        finished=3,
        failed=1,
    )
    assert await outcomes() == kept

    cancelled = await scene.cancel((await scene.enqueue(**mine)).id)
    kept = replace(kept, last_finish_time=cancelled.finish_time)
    assert await outcomes() == kept

    running = await scene.running(holder, **mine)
    await scene.report(running.lease, factories.committed())
    verified = await scene.verify(running.id)
    assert await outcomes() == replace(
        kept,
        last_success_time=verified.finish_time,
        last_finish_time=verified.finish_time,
        consecutive_failures=0,
        consecutive_no_change=0,
        finished=4,
    )


async def test_the_end_of_an_operation_makes_due_who_waits_for_it(leader: Leader) -> None:
    table, other = factories.table(), factories.table(replace(EVENTS, name="other"))
    for known in (table, other):
        await leader.resolve(known, target(known))
    fired = await leader.fire(target(table), table)
    await leader.fire(target(other), other)
    assert not await leader.due()

    await leader.scene.cancel(fired.id)

    (facts,) = await leader.due()
    assert (facts.table.name, facts.target.slot, facts.open_operation) == (table.name, None, None)


async def test_what_did_not_run_since_its_policy_changed_gives_its_slot_back(leader: Leader) -> None:
    scene, table, now = leader.scene, factories.table(), await leader.scene.store.now()
    wanted = target(table)
    await leader.resolve(table, wanted)
    fired = await leader.fire(wanted, table)
    changed = target(table, policy_generation=2, slot=now + HOUR, due=now + HOUR)
    await leader.resolved(table, changed)
    assert not await leader.due()

    assert await scene.operations.change(fired.id, skip("policy_changed")) is not None

    (facts,) = await leader.due()
    assert facts.target == replace(changed, slot=wanted.slot, due=facts.target.due)


async def test_another_policy_does_not_inherit_the_slot(leader: Leader) -> None:
    scene, table, now = leader.scene, factories.table(), await leader.scene.store.now()
    wanted = target(table)
    await leader.resolve(table, wanted)
    fired = await leader.fire(wanted, table)
    other = target(table, policy=PolicyName("weekly"), slot=now + HOUR, due=now + HOUR)
    await leader.resolved(table, other)
    await scene.operations.change(fired.id, skip("policy_changed"))
    assert [facts.target for facts in await scene.store.scheduling.facts(EVENTS)] == [other]


# -- tables that have to be matched anew


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
        await store.tables.missing(EVENTS)
    for found, _ in await leader.unresolved():
        await leader.resolved(found)
    assert not await leader.unresolved()

    match what:
        case "learnt its UUID" | "came back":
            await store.tables.seen([table])
        case "was renamed":
            await store.tables.seen([replace(table, name=replace(EVENTS, name="renamed"))])
        case "went missing":
            await store.tables.missing(EVENTS)
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
    await store.tables.missing(gone)

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
