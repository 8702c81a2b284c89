"""Policies, catalogs, tables, executors, observations, pauses, requests and transactions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from control_plane.domain.catalog import TableState
from control_plane.domain.errors import (
    CatalogExists,
    CatalogInUse,
    CatalogNotFound,
    EtagMismatch,
    ExecutorLeaving,
    ExecutorNotFound,
    PolicyExists,
    PolicyNotFound,
    RequestIdReused,
    TableNotFound,
)
from control_plane.domain.executor import ExecutorState
from control_plane.domain.health import HealthMetrics, Metric
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    OperationId,
    PolicyName,
    SessionId,
    TableName,
    TableUuid,
)
from control_plane.domain.observation import (
    CatalogChecks,
    Evidence,
    ExpiryPlan,
    LoadedTable,
    Measurements,
    ObservationError,
    ObservationKind,
    ObservationState,
    OrphanPlan,
    SnapshotRef,
    Stamp,
    StampedSnapshot,
    TableNames,
    Verdict,
)
from control_plane.domain.operation import Finding, VerificationVerdict
from control_plane.ports.operations import OperationFilter, Retention
from control_plane.ports.records import RequestKey, Store
from control_plane.store.postgres.store import PostgresStore
from tests.support import factories
from tests.support.clock import ManualClock
from tests.support.factories import EVENTS, LAKE
from tests.support.scene import Scene
from tests.support.stores import lose

HOUR = timedelta(hours=1)
LONG = timedelta(minutes=5)


# -- policies


async def test_a_policy_is_kept_as_it_was_written(any_store: Store) -> None:
    policy = factories.policy("compact", priority=7, tags={"team": "x"}, description="a\nb", enabled=False)
    assert await any_store.policies.create(policy) == policy
    assert await any_store.policies.get(policy.name) == policy


async def test_a_policy_exists_once(any_store: Store) -> None:
    created = await asyncio.gather(
        *(any_store.policies.create(factories.policy()) for _ in range(5)), return_exceptions=True
    )

    assert sum(isinstance(answer, PolicyExists) for answer in created) == 4
    with pytest.raises(PolicyNotFound):
        await any_store.policies.get(PolicyName("none"))


async def test_a_policy_is_changed_by_whoever_read_it_last(any_store: Store) -> None:
    policy = await any_store.policies.create(factories.policy())
    newer = replace(policy, etag="newer", generation=2)

    with pytest.raises(EtagMismatch):
        await any_store.policies.update(newer, etag="wrong")
    assert await any_store.policies.get(policy.name) == policy
    assert await any_store.policies.update(newer, etag=policy.etag) == newer
    with pytest.raises(EtagMismatch):
        await any_store.policies.delete(policy.name, etag=policy.etag)
    await any_store.policies.delete(policy.name, etag=None)
    for refused in (any_store.policies.delete(policy.name, etag=None), any_store.policies.update(newer, etag=None)):
        with pytest.raises(PolicyNotFound):
            await refused


async def test_a_policy_may_be_made_again_after_its_end(any_store: Store) -> None:
    await any_store.policies.create(factories.policy())
    await any_store.policies.delete(PolicyName("nightly"), etag=None)
    again = factories.policy()

    assert await any_store.policies.create(again) == again


async def test_the_generations_of_a_policy_are_kept_until_another_takes_its_name(any_store: Store) -> None:
    first = await any_store.policies.create(factories.policy(priority=1))
    second = await any_store.policies.update(
        replace(factories.policy(priority=2), create_time=first.create_time, generation=2, etag="2"), etag=first.etag
    )
    await any_store.policies.update(
        replace(factories.policy(priority=2, description="d"), create_time=first.create_time, generation=2, etag="3"),
        etag="2",
    )

    old = await any_store.policies.generation(first.name, 1)
    current = await any_store.policies.generation(first.name, 2)
    assert (old.spec, old.generation, old.etag, old.create_time) == (first.spec, 1, "", first.create_time)
    assert (current.etag, current.spec.description) == ("3", "d")
    for unknown in ((first.name, 3), (PolicyName("none"), 1)):
        with pytest.raises(PolicyNotFound):
            await any_store.policies.generation(*unknown)

    await any_store.policies.delete(first.name, etag=None)
    assert (await any_store.policies.generation(first.name, 2)).spec == second.spec
    again = await any_store.policies.create(factories.policy(priority=3))
    assert await any_store.policies.generation(first.name, 1) == again
    with pytest.raises(PolicyNotFound):
        await any_store.policies.generation(first.name, 2)


async def test_policies_are_listed_by_name(any_store: Store) -> None:
    for name in ("c", "a-b", "ab", "a", "b"):
        await any_store.policies.create(factories.policy(name, enabled=name != "b"))

    first = await any_store.policies.list(after=None, limit=2)
    rest = await any_store.policies.list(after=first[-1].name, limit=10)

    assert [policy.name for policy in [*first, *rest]] == ["a", "a-b", "ab", "b", "c"]
    assert [policy.name for policy in (await any_store.policies.enabled()).policies] == ["a", "a-b", "ab", "c"]


# -- catalogs


async def test_a_catalog_is_kept_as_it_was_written(any_store: Store) -> None:
    catalog = factories.catalog(properties={"a": "b"}, secrets={"token": "T"}, warehouse="w", description="x")
    assert await any_store.catalogs.create(catalog) == catalog
    assert await any_store.catalogs.get(LAKE) == catalog
    with pytest.raises(CatalogExists):
        await any_store.catalogs.create(catalog)


async def test_a_catalog_s_revision_rises_and_guards(any_store: Store) -> None:
    catalog = await any_store.catalogs.create(factories.catalog())
    changed = replace(catalog, description="new")

    updated = await any_store.catalogs.update(changed, revision=1, unused=False)
    assert (updated.revision, updated.description) == (2, "new")
    with pytest.raises(EtagMismatch):
        await any_store.catalogs.update(changed, revision=1, unused=False)
    with pytest.raises(EtagMismatch):
        await any_store.catalogs.delete(LAKE, revision=1)
    await any_store.catalogs.delete(LAKE, revision=2)
    for refused in (
        any_store.catalogs.get(LAKE),
        any_store.catalogs.update(changed, revision=None, unused=False),
        any_store.catalogs.delete(LAKE, revision=None),
    ):
        with pytest.raises(CatalogNotFound):
            await refused


async def test_a_catalog_in_use_keeps_what_it_points_at(scene: Scene) -> None:
    catalog = await scene.store.catalogs.get(LAKE)
    queued = await scene.enqueue()

    with pytest.raises(CatalogInUse):
        await scene.store.catalogs.update(replace(catalog, uri="http://other"), revision=None, unused=True)
    with pytest.raises(CatalogInUse):
        await scene.store.catalogs.delete(LAKE, revision=None)
    await scene.store.catalogs.update(replace(catalog, description="new"), revision=None, unused=False)
    await scene.cancel(queued.id)
    await scene.store.catalogs.update(replace(catalog, uri="http://other"), revision=None, unused=True)
    await scene.store.catalogs.delete(LAKE, revision=None)


async def test_a_catalog_is_not_deleted_under_what_is_being_queued(scene: Scene) -> None:
    for _ in range(5):
        if not await scene.store.catalogs.list(after=None, limit=1):
            await scene.store.catalogs.create(factories.catalog())
        outcomes = await asyncio.gather(
            scene.enqueue(), scene.store.catalogs.delete(LAKE, revision=None), return_exceptions=True
        )
        refused = [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
        assert refused in ([CatalogNotFound], [CatalogInUse])
        if refused == [CatalogInUse]:
            return


async def test_listings_are_recorded(any_store: Store) -> None:
    await any_store.catalogs.create(factories.catalog())
    await any_store.catalogs.record_listing(LAKE, error="")
    good = await any_store.catalogs.get(LAKE)
    await any_store.catalogs.record_listing(LAKE, error="down")
    bad = await any_store.catalogs.get(LAKE)

    assert good.last_list_time is not None
    assert (bad.last_list_time, bad.last_list_error, bad.revision) == (good.last_list_time, "down", 1)
    updated = await any_store.catalogs.update(factories.catalog(description="x"), revision=None, unused=False)
    assert (updated.last_list_time, updated.last_list_error) == (good.last_list_time, "down")


async def test_catalogs_are_listed_by_name(any_store: Store) -> None:
    for name in ("b", "a", "c"):
        await any_store.catalogs.create(factories.catalog(name))

    assert [c.name for c in await any_store.catalogs.list(after=CatalogName("a"), limit=1)] == ["b"]


# -- tables


async def test_a_table_is_kept_with_its_report_and_what_runs_on_it(scene: Scene) -> None:
    table = factories.table()
    await scene.store.tables.seen([table])
    for error in ("first", "second"):
        await scene.store.tables.save_report(EVENTS, table.uuid, factories.health_report(error))
    leased = await scene.leased(await scene.attach(), table=EVENTS, table_uuid=table.uuid)

    found = await scene.store.tables.get(EVENTS)

    assert found.health is not None
    assert (found.health.error, found.active_operation) == ("second", leased.id)
    assert replace(found, health=None, active_operation=None) == table
    assert await scene.store.tables.list(catalog=None, after=None, limit=5) == [found]


async def test_a_listed_table_learns_its_uuid_when_it_is_loaded(scene: Scene) -> None:
    await scene.store.tables.listed(LAKE, [EVENTS, EVENTS])
    listed = await scene.store.tables.get(EVENTS)
    await scene.store.tables.save_report(EVENTS, TableUuid(""), factories.health_report("kept"))
    table = factories.table()

    await scene.store.tables.seen([table])

    loaded = await scene.store.tables.get(EVENTS)
    assert (listed.uuid, loaded.uuid) == ("", table.uuid)
    assert loaded.first_seen_time == listed.first_seen_time
    assert loaded.health is not None and loaded.health.error == "kept"
    assert len(await scene.store.tables.list(catalog=LAKE, after=None, limit=5)) == 1


async def test_a_new_uuid_under_a_name_is_another_table(scene: Scene) -> None:
    old, new = factories.table(), factories.table()
    await scene.store.tables.seen([old])
    await scene.store.tables.save_report(EVENTS, old.uuid, factories.health_report())

    await scene.store.tables.seen([new])

    found = await scene.store.tables.get(EVENTS)
    assert (found.uuid, found.health) == (new.uuid, None)
    assert [t.uuid for t in await scene.store.tables.list(catalog=None, after=None, limit=5)] == [new.uuid]


async def test_a_known_uuid_under_a_new_name_is_a_rename(scene: Scene) -> None:
    table = factories.table()
    renamed = replace(table, name=TableName(LAKE, ("sales",), "renamed"))
    await scene.store.tables.seen([table])
    await scene.store.tables.listed(LAKE, [renamed.name])
    await scene.store.tables.save_report(EVENTS, table.uuid, factories.health_report())

    await scene.store.tables.seen([renamed])

    assert (await scene.store.tables.get(renamed.name)).health is not None
    with pytest.raises(TableNotFound):
        await scene.store.tables.get(EVENTS)
    assert len(await scene.store.tables.list(catalog=None, after=None, limit=5)) == 1


async def test_a_missing_table_is_shown_until_it_is_back(scene: Scene) -> None:
    table = factories.table()
    await scene.store.tables.seen([table])
    await lose(scene.store, EVENTS)
    assert not await scene.store.tables.missing(TableName(LAKE, ("a",), "unknown"))
    assert (await scene.store.tables.get(EVENTS)).state is TableState.MISSING

    await scene.store.tables.listed(LAKE, [EVENTS])
    assert (await scene.store.tables.get(EVENTS)).state is TableState.PRESENT


async def test_tables_are_listed_by_catalog_namespace_and_name(scene: Scene) -> None:
    await scene.store.catalogs.create(factories.catalog("pond"))
    names = [
        TableName(LAKE, ("a",), "z"),
        TableName(LAKE, ("a", "b"), "a"),
        TableName(LAKE, ("a.b",), "a"),
        TableName(LAKE, ("a",), "é"),
        TableName(LAKE, ("B",), "a"),
    ]
    await scene.store.tables.listed(LAKE, names)
    await scene.store.tables.listed(CatalogName("pond"), [TableName(CatalogName("pond"), ("a",), "z")])

    listed: list[TableName] = []
    while page := await scene.store.tables.list(catalog=LAKE, after=listed[-1] if listed else None, limit=2):
        listed.extend(table.name for table in page)

    assert listed == sorted(names)
    assert len(await scene.store.tables.list(catalog=None, after=None, limit=10)) == 6


async def test_the_last_hundred_reports_of_a_known_table_are_kept(scene: Scene) -> None:
    table = factories.table()
    await scene.store.tables.seen([table])
    for number in range(103):
        await scene.store.tables.save_report(EVENTS, table.uuid, factories.health_report(str(number)))

    found = await scene.store.tables.get(EVENTS)
    assert found.health is not None and found.health.error == "102"
    with pytest.raises(TableNotFound):
        await scene.store.tables.save_report(TableName(LAKE, ("a",), "b"), TableUuid("x"), factories.health_report())


async def test_a_catalog_s_tables_go_with_it(scene: Scene) -> None:
    await scene.store.tables.seen([factories.table()])
    await scene.store.catalogs.delete(LAKE, revision=None)

    assert not await scene.store.tables.list(catalog=None, after=None, limit=5)
    with pytest.raises(CatalogNotFound):
        await scene.store.tables.seen([factories.table()])


# -- executors


async def test_an_executor_is_kept_with_what_it_holds(scene: Scene) -> None:
    holder = await scene.attach("e1", clock_skew=timedelta(seconds=2))
    leased = await scene.leased(holder)

    found = await scene.store.executors.get(holder.id)

    assert found == replace(holder, operations=(leased.id,), last_heartbeat_time=found.last_heartbeat_time)
    assert found.state is ExecutorState.ATTACHED
    with pytest.raises(ExecutorNotFound):
        await scene.store.executors.get(ExecutorId("none"))


async def test_a_new_session_is_the_only_current_one(scene: Scene) -> None:
    old = await scene.attach()
    await scene.store.executors.set_drained(old.id, True)
    new = await scene.attach()
    assert old.session is not None and new.session is not None

    await scene.store.executors.detach(old.session)
    found = await scene.store.executors.get(new.id)
    assert (found.session, found.drained) == (new.session, True)
    await scene.store.executors.detach(new.session)
    assert (await scene.store.executors.get(new.id)).state is ExecutorState.DETACHED


async def test_who_leaves_cannot_be_given_work_again(scene: Scene) -> None:
    holder = await scene.attach()
    assert holder.session is not None
    await scene.store.executors.leave(holder.session)

    assert (await scene.store.executors.get(holder.id)).state is ExecutorState.DRAINING
    assert (await scene.store.executors.set_drained(holder.id, True)).drained
    with pytest.raises(ExecutorLeaving):
        await scene.store.executors.set_drained(holder.id, False)
    with pytest.raises(ExecutorNotFound):
        await scene.store.executors.set_drained(ExecutorId("none"), True)


async def test_executors_are_listed_and_counted(scene: Scene) -> None:
    holders = [await scene.attach(f"e{number}") for number in (2, 1, 3)]
    gone = holders[0].session
    assert gone is not None
    await scene.store.executors.detach(gone)
    await scene.store.executors.touch([h.session for h in holders if h.session])

    assert [e.id for e in await scene.store.executors.list(after=None, limit=5, detached=True)] == ["e1", "e2", "e3"]
    assert [e.id for e in await scene.store.executors.list(after=None, limit=5, detached=False)] == ["e1", "e3"]
    assert [e.id for e in await scene.store.executors.list(after=ExecutorId("e1"), limit=1, detached=True)] == ["e2"]
    assert await scene.store.executors.attached() == 2


# -- observations


async def test_callers_join_the_open_observation_of_a_target(any_store: Store) -> None:
    opened = await asyncio.gather(
        *(any_store.observations.open(factories.look(), within=HOUR, timeout=LONG) for _ in range(5))
    )
    other = await any_store.observations.open(
        factories.look(ObservationKind.LOAD_TABLE), within=HOUR, timeout=LONG, traceparent="00-a"
    )

    assert len({observation.id for observation in opened}) == 1
    assert other.id != opened[0].id
    assert await any_store.observations.get(other.id) == other
    assert other.deadline == other.create_time + HOUR


async def test_an_observation_is_handed_out_once_and_answered_once(any_store: Store) -> None:
    holders = [await any_store.executors.attach(factories.executor(f"e{n}")) for n in range(4)]
    request = factories.look(stamps=(Stamp(OperationId("op"), 3),), expiring=(1, 2), retained=(3,))
    opened = await any_store.observations.open(request, within=HOUR, timeout=LONG)
    assert await any_store.observations.claimable()

    claims = await asyncio.gather(*(any_store.observations.claim(factories.looks_by(h)) for h in holders))

    ((look,),) = [claim for claim in claims if claim]
    assert (look.id, look.epoch, look.request) == (opened.id, 1, request)
    assert look.begin_time is not None and look.lease_expire_time == look.begin_time + LONG + timedelta(seconds=10)
    assert not await any_store.observations.claimable()
    session = next(h.session for h in holders if h.id == look.executor)
    assert session is not None
    late = await any_store.observations.answer(look.id, epoch=2, session=session, answer=TableNames((), True))
    stranger = await any_store.observations.answer(
        look.id, epoch=1, session=SessionId("other"), answer=TableNames((), True)
    )
    assert (late, stranger) == (None, None)
    done = await any_store.observations.answer(look.id, epoch=1, session=session, answer=TableNames((EVENTS,), True))
    assert done is not None
    assert (done.state, done.begin_time, done.answer) == (
        ObservationState.DONE,
        look.begin_time,
        TableNames((EVENTS,), True),
    )
    assert await any_store.observations.get(look.id) == done
    assert not await any_store.observations.answer(look.id, epoch=1, session=session, answer=TableNames((), True))


NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LOADED = LoadedTable(TableUuid("u"), "s3://t", "s3://t/m.json", 2, 2**62)


@pytest.mark.parametrize(
    "answer",
    [
        ObservationError("NOT_FOUND", "gone"),
        TableNames((EVENTS,), False),
        TableNames((EVENTS,), True, {EVENTS: "s3://t/m.json"}),
        LOADED,
        ExpiryPlan(LOADED, (5,), (7,), 1, 1, NOON, NOON, (SnapshotRef("main", 7, True),), "no"),
        OrphanPlan(LOADED, 3, 30, 2, NOON, NOON, 9, 90, 1, ("s3://t/x",), "d", ("maxFiles",), "no"),
        CatalogChecks((Finding("reachable", True, "ok", "hint"),)),
        Measurements(LOADED, HealthMetrics(data_file_count=Metric.exact(5))),
        Evidence(LOADED, (StampedSnapshot(5, Stamp(OperationId("o"), 2)),), (6, 7)),
        Verdict(VerificationVerdict.FAILED, (Finding("rows", False, "5 ≠ 6"),)),
    ],
    ids=lambda answer: type(answer).__name__,
)
async def test_every_kind_of_answer_is_read_as_it_was_given(any_store: Store, answer: object) -> None:
    holder = await any_store.executors.attach(factories.executor())
    await any_store.observations.open(factories.look(), within=HOUR, timeout=LONG)
    (look,) = await any_store.observations.claim(factories.looks_by(holder))
    assert holder.session is not None

    await any_store.observations.answer(look.id, epoch=1, session=holder.session, answer=answer)  # type: ignore[arg-type]  # each of the union

    found = await any_store.observations.get(look.id)
    assert found is not None and found.answer == answer
    assert await any_store.observations.answered([ObservationKind.INSPECT_TABLE], limit=5) == [found]
    assert not await any_store.observations.answered([ObservationKind.LOAD_TABLE], limit=5)
    await any_store.observations.used(look.id)
    assert not await any_store.observations.answered([ObservationKind.INSPECT_TABLE], limit=5)


async def test_an_observation_waits_for_its_time_and_for_a_capable_session(any_store: Store) -> None:
    holder = await any_store.executors.attach(factories.executor())
    now = await any_store.now()
    await any_store.observations.open(factories.look(), within=2 * HOUR, timeout=LONG, not_before=now + HOUR)
    assert not await any_store.observations.claimable()
    assert not await any_store.observations.claim(factories.looks_by(holder))

    await any_store.observations.open(factories.look(ObservationKind.LOAD_TABLE), within=HOUR, timeout=LONG)
    for cannot in (
        {"kinds": (ObservationKind.INSPECT_TABLE,)},
        {"catalogs": (CatalogName("pond"),)},
        {"session": SessionId("old")},
        {"slots": 0},
    ):
        assert not await any_store.observations.claim(factories.looks_by(holder, **cannot))
    assert len(await any_store.observations.claim(factories.looks_by(holder))) == 1


async def test_an_unanswered_observation_is_handed_out_again_until_its_deadline(any_store: Store) -> None:
    holder = await any_store.executors.attach(factories.executor())
    assert holder.session is not None
    await any_store.observations.open(factories.look(), within=HOUR, timeout=-LONG)
    (first,) = await any_store.observations.claim(factories.looks_by(holder))

    assert not await any_store.observations.sweep()
    (second,) = await any_store.observations.claim(factories.looks_by(holder))

    assert (first.id, first.epoch, second.epoch) == (second.id, 1, 2)
    assert not await any_store.observations.answer(
        first.id, epoch=1, session=holder.session, answer=TableNames((), True)
    )


async def test_a_look_whose_session_ended_is_handed_out_again_soon(any_store: Store, clock: ManualClock) -> None:
    holder = await any_store.executors.attach(factories.executor())
    assert holder.session is not None
    await any_store.observations.open(factories.look(), within=HOUR, timeout=LONG)
    (first,) = await any_store.observations.claim(factories.looks_by(holder))
    await any_store.executors.detach(holder.session)

    # The executor may still answer over its next session, for a while.
    await any_store.observations.sweep()
    assert not await any_store.observations.claimable()
    await _later(any_store, clock, timedelta(seconds=11))
    await any_store.observations.sweep()

    again = await any_store.executors.attach(factories.executor(session=SessionId("next")))
    (second,) = await any_store.observations.claim(factories.looks_by(again))
    assert (second.id, second.epoch) == (first.id, 2)


async def _later(store: Store, clock: ManualClock, by: timedelta) -> None:
    """Let the hand-outs lie in the past."""
    if isinstance(store, PostgresStore):
        await store.database.execute("UPDATE observations SET begin_time = begin_time - $1::interval", by)
    else:
        clock.advance(by)


async def test_an_observation_past_its_deadline_says_whose_fault_it_was(any_store: Store) -> None:
    holder = await any_store.executors.attach(factories.executor())
    lost = await any_store.observations.open(factories.look(), within=-HOUR, timeout=LONG)

    (done,) = await any_store.observations.sweep()

    assert (done.id, done.state) == (lost.id, ObservationState.DONE)
    assert isinstance(done.answer, ObservationError) and done.answer.kind == "NO_EXECUTOR"
    assert not await any_store.observations.sweep()
    assert not await any_store.observations.claim(factories.looks_by(holder))
    again = await any_store.observations.open(factories.look(), within=HOUR, timeout=LONG)
    assert again.id != lost.id


# -- pauses, requests, transactions


async def test_one_pause_holds_for_each_scope_until_it_ends(any_store: Store) -> None:
    now = await any_store.now()
    await any_store.pauses.set(factories.pause(reason="first"))
    second = await any_store.pauses.set(factories.pause(reason="second"))
    over = await any_store.pauses.set(factories.pause(catalog=LAKE, until=now - HOUR))
    table = await any_store.pauses.set(factories.pause(table=EVENTS, until=now + HOUR))

    assert await any_store.pauses.list() == [second, table]
    assert [await any_store.pauses.clear(p.scope) for p in (second, second, over, table)] == [True, False, False, True]
    assert not await any_store.pauses.list()


def key(digest: bytes = b"1", request_id: str = "r1") -> RequestKey:
    return RequestKey("local:me", "CreatePolicy", request_id, digest)


async def answer_once(store: Store, request: RequestKey) -> bytes:
    async with store.transaction():
        known = await store.requests.begin(request)
        if known is not None:
            return known
        policy = factories.policy(f"p-{uuid4().hex[:8]}")
        await store.policies.create(policy)
        await store.requests.answer(request, policy.name.encode())
        return policy.name.encode()


async def test_concurrent_duplicates_get_one_answer(any_store: Store) -> None:
    answers = await asyncio.gather(*(answer_once(any_store, key()) for _ in range(6)))

    assert len(set(answers)) == 1
    assert len(await any_store.policies.list(after=None, limit=10)) == 1
    assert await answer_once(any_store, key(request_id="r2")) != answers[0]


async def test_a_request_id_is_for_one_request(any_store: Store) -> None:
    await answer_once(any_store, key())
    with pytest.raises(RequestIdReused):
        await answer_once(any_store, key(b"2"))


async def test_a_refused_request_stores_nothing(any_store: Store) -> None:
    with pytest.raises(PolicyNotFound):
        async with any_store.transaction():
            await any_store.requests.begin(key())
            await any_store.policies.get(PolicyName("none"))
    assert await answer_once(any_store, key(b"2"))


async def test_requests_are_kept_in_transactions_only(any_store: Store) -> None:
    with pytest.raises(RuntimeError):
        await any_store.requests.begin(key())


async def test_an_answer_is_forgotten_after_its_retention(any_store: Store) -> None:
    await answer_once(any_store, key())
    assert await any_store.clean(Retention(requests=-1)) == 1
    assert await answer_once(any_store, key(b"2"))


async def test_a_failed_transaction_undoes_everything(scene: Scene) -> None:
    holder = await scene.attach()
    queued = await scene.enqueue()
    before = await scene.operations.cursor()

    class Interrupted(Exception):
        pass

    with pytest.raises(Interrupted):
        async with scene.store.transaction():
            await scene.store.policies.create(factories.policy("new"))
            await scene.claim(holder)
            async with scene.store.transaction():
                await scene.cancel((await scene.enqueue()).id)
            raise Interrupted

    assert await scene.operations.get(queued.id) == queued
    assert not (await scene.operations.events(before, OperationFilter(), limit=5)).events
    with pytest.raises(PolicyNotFound):
        await scene.store.policies.get(PolicyName("new"))
    assert len(await scene.claim(holder)) == 1, "neither fence nor capacity was kept"


async def test_another_task_does_not_join_a_transaction(any_store: Store) -> None:
    async with any_store.transaction():
        await any_store.policies.create(factories.policy())
        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(any_store.policies.list(after=None, limit=5))
            await asyncio.sleep(0)
            other.cancel()
    assert len(await any_store.policies.list(after=None, limit=5)) == 1


async def test_the_store_s_clock_goes_on(any_store: Store) -> None:
    assert await any_store.now() <= await any_store.now()
    assert (await any_store.now()).tzinfo is not None


async def test_a_hint_is_kept_for_who_has_not_waited_since(any_store: Store) -> None:
    async with asyncio.timeout(10):
        any_store.hints.give("events")
        await any_store.hints.wait("events", HOUR)
        waiting = asyncio.create_task(any_store.hints.wait("events", HOUR))
        await waiting  # Another task: it has not waited yet.
        await any_store.hints.wait("events", timedelta())

        sleeper = asyncio.create_task(any_store.hints.wait("cancels", HOUR))
        any_store.hints.give("cancels")
        await sleeper


async def test_a_wait_ends_without_a_hint_too(any_store: Store) -> None:
    async with asyncio.timeout(10):
        any_store.hints.give("operations")
        await any_store.hints.wait("operations", HOUR)
        await any_store.hints.wait("operations", timedelta(milliseconds=1))
