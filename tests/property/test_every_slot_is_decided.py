"""Every slot of an enabled schedule has exactly one decision, whatever happens to leaders, clocks and policies.

The slots are found here by trying every minute on the wall, with nothing of the product's own evaluation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.domain.scheduling import Decision, SlotVerdict
from control_plane.store.memory import MemoryStore
from tests.support import factories
from tests.support.clock import ManualClock
from tests.support.scheduling_replica import Replica
from tests.support.stores import RULES

MINUTE, SECOND, HOUR = timedelta(minutes=1), timedelta(seconds=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression, and which minutes of a wall clock it means. One for every hour follows the hands, whatever they
    skip or repeat.
    """

    expression: str
    means: Callable[[datetime], bool]
    every_hour: bool = True


CRONS: Final = (
    Cron("* * * * *", lambda wall: True),
    Cron("*/7 * * * *", lambda wall: wall.minute % 7 == 0),
    Cron("15,45 */2 * * *", lambda wall: wall.minute in (15, 45) and wall.hour % 2 == 0, every_hour=False),
    Cron("30 1-5 * * *", lambda wall: wall.minute == 30 and 1 <= wall.hour <= 5, every_hour=False),
    Cron("5 * * * 0,6", lambda wall: wall.minute == 5 and wall.weekday() in (5, 6)),
)
ZONES: Final = ("UTC", "Europe/Zurich", "America/New_York", "Asia/Kolkata")
STARTS: Final = (
    datetime(2026, 10, 24, 22, 13, tzinfo=UTC),  # The hour from 2 to 3 comes twice in Zürich.
    datetime(2027, 3, 13, 23, 50, tzinfo=UTC),  # And does not come in New York, two weeks earlier than in Zürich.
    datetime(2027, 3, 27, 23, 1, 30, tzinfo=UTC),
    datetime(2026, 11, 23, 12, tzinfo=UTC),
)


class SteppedClock(ManualClock):
    """Its wall clock can be set; the monotonic one goes on as if nothing had happened."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self._set_by = timedelta()

    def now(self) -> datetime:
        return super().now() + self._set_by

    def set_by(self, by: timedelta) -> None:
        self._set_by += by


def slots_of(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> Sequence[datetime]:
    """Every minute in between that the cron means."""
    found = _by_the_hands(cron, zone, after, until) if cron.every_hour else _by_the_wall(cron, zone, after, until)
    return [slot for slot in sorted(found) if after < slot <= until]


def _by_the_hands(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> set[datetime]:
    minutes = (until - after) // MINUTE + 2
    instants = (after.replace(second=0, microsecond=0) + number * MINUTE for number in range(minutes))
    return {at for at in instants if cron.means(at.astimezone(zone))}


def _by_the_wall(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> set[datetime]:
    """Each minute once, at the first instant at which it is shown; what is skipped, when the clock goes on."""
    found = set()
    wall = after.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0) - 3 * HOUR
    while wall <= until.astimezone(zone).replace(tzinfo=None) + 3 * HOUR:
        if cron.means(wall):
            shown = wall
            while shown.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != shown:
                shown += MINUTE
            found.add(shown.replace(tzinfo=zone).astimezone(UTC))
        wall += MINUTE
    return found


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens, and then how much time goes by."""

    what: str
    by: timedelta


def events(*kinds: str) -> st.SearchStrategy[list[Event]]:
    lengths = st.integers(1, 5_400).map(lambda seconds: timedelta(seconds=seconds))
    return st.lists(st.builds(Event, st.sampled_from(kinds), lengths), min_size=1, max_size=12)


def covered(decisions: Sequence[Decision], slots: Sequence[datetime]) -> Counter[datetime]:
    """How many decisions speak of each slot. Each says how many it speaks of."""
    found: Counter[datetime] = Counter()
    for decision in decisions:
        last = decision.last_slot or decision.slot
        spoken_of = [slot for slot in slots if decision.slot <= slot <= last]
        assert len(spoken_of) == decision.slots, f"{decision.slots} slots are {spoken_of}"
        found.update(spoken_of)
    return found


async def assert_nothing_fired_twice(replica: Replica, decisions: Sequence[Decision]) -> None:
    fired = [one for one in decisions if one.verdict is SlotVerdict.FIRED]
    operations = [one for one in await replica.operations() if one.state_reason != "policy_changed"]
    assert sorted((one.operation, one.slot) for one in fired) == sorted((one.id, one.slot) for one in operations)


@settings(max_examples=150, deadline=None)
@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(STARTS),
    happens=events("wait", "wait", "down", "elect", "restart", "back", "ahead"),
    conditions=st.booleans(),
)
def test_over_leaders_restarts_and_clock_steps(
    cron: Cron, zone: str, start: datetime, happens: list[Event], conditions: bool
) -> None:
    asyncio.run(_over_leaders(cron, zone, start, happens, conditions))


async def _over_leaders(cron: Cron, zone: str, start: datetime, happens: list[Event], conditions: bool) -> None:
    clock = SteppedClock(start)
    store = MemoryStore(clock, rules=RULES)
    replica = Replica(store, clock)
    await replica.register(replica.policy(**_document(cron, zone, conditions)))
    await replica.work()
    latest = clock.now()
    for number, event in enumerate(happens):
        match event.what:
            case "wait":
                await replica.pass_time(event.by, every=min(event.by, 5 * MINUTE))
            case "down":
                clock.advance(event.by)
            case "elect" | "restart":
                clock.advance(7 * SECOND)
                replica = Replica(store, clock, name=f"r{number}")
            case "back":
                clock.set_by(-min(event.by, HOUR))
            case "ahead":
                clock.set_by(min(event.by, HOUR))
        await replica.work()
        latest = max(latest, clock.now())
        await replica.recovery.sweep()

    decisions = await replica.decisions()
    slots = slots_of(cron, ZoneInfo(zone), start, latest)
    assert covered(decisions, slots) == Counter(slots)
    await assert_nothing_fired_twice(replica, decisions)


@settings(max_examples=150, deadline=None)
@given(
    first=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(STARTS),
    happens=events("wait", "down", "restart", "change", "disable"),
    next_crons=st.lists(st.sampled_from(CRONS), min_size=12, max_size=12),
    conditions=st.booleans(),
)
def test_over_generations_of_a_policy(
    first: Cron, zone: str, start: datetime, happens: list[Event], next_crons: list[Cron], conditions: bool
) -> None:
    asyncio.run(_over_generations(first, zone, start, happens, next_crons, conditions))


async def _over_generations(
    cron: Cron, zone: str, start: datetime, happens: list[Event], next_crons: list[Cron], conditions: bool
) -> None:
    clock = SteppedClock(start)
    store = MemoryStore(clock, rules=RULES)
    replica = Replica(store, clock)
    policy = replica.policy(**_document(cron, zone, conditions))
    await replica.register(policy)
    await replica.work()
    slots: list[datetime] = []
    enabled, since = True, start

    def governed_until_now() -> None:
        nonlocal since
        if enabled:
            slots.extend(slots_of(cron, ZoneInfo(zone), since, clock.now()))
        since = clock.now()

    for number, event in enumerate(happens):
        match event.what:
            case "wait":
                await replica.pass_time(event.by, every=min(event.by, 5 * MINUTE))
            case "down":
                clock.advance(event.by)
            case "restart":
                clock.advance(7 * SECOND)
                replica = Replica(store, clock, name=f"r{number}")
            case "change" | "disable":
                clock.advance(event.by)
                governed_until_now()
                cron, enabled = next_crons[number], event.what == "change"
                document = _document(cron, zone, conditions) | {"enabled": enabled, "priority": number}
                policy = await replica.change(policy, **document)
        await replica.work()
        await replica.recovery.sweep()
        await replica.work()
    governed_until_now()

    decisions = await replica.decisions()
    assert covered(decisions, slots) == Counter(slots)
    await assert_nothing_fired_twice(replica, decisions)


@settings(max_examples=60, deadline=None)
@given(
    cron=st.sampled_from(CRONS),
    start=st.sampled_from(STARTS),
    happens=events("wait", "wait", "down", "restart", "edit"),
    tables=st.integers(2, 4),
    limit=st.integers(1, 2),
    unit=st.sampled_from(["operations", "tables"]),
)
def test_over_tables_that_share_a_budget(
    cron: Cron, start: datetime, happens: list[Event], tables: int, limit: int, unit: str
) -> None:
    asyncio.run(_over_a_budget(cron, start, happens, tables, limit, unit))


async def _over_a_budget(cron: Cron, start: datetime, happens: list[Event], tables: int, limit: int, unit: str) -> None:
    """No hour takes more than the budget, and every slot is decided all the same."""
    clock = SteppedClock(start)
    store = MemoryStore(clock, rules=RULES)
    replica = Replica(store, clock)
    document = _document(cron, "UTC", False) | {"budget": {"perHour": {unit: limit}}}
    policy = replica.policy(**document)
    await replica.register(policy, tables=tables)
    holder = await replica.scene.attach()
    await replica.work()
    slots: list[datetime] = []
    since = start
    for number, event in enumerate(happens):
        match event.what:
            case "wait":
                end = clock.now() + event.by
                while clock.now() < end:
                    await replica.pass_time(min(MINUTE, end - clock.now()), every=MINUTE)
                    for leased in await replica.scene.claim(holder, slots=100):
                        running = await replica.scene.ack(leased, holder)
                        await replica.scene.report(running.lease, factories.committed())
                        await replica.scene.verify(leased.id)
            case "down":
                clock.advance(event.by)
            case "restart":
                clock.advance(7 * SECOND)
                replica = Replica(store, clock, name=f"r{number}")
            case "edit":
                slots.extend(slots_of(cron, ZoneInfo("UTC"), since, clock.now()))
                since = clock.now()
                policy = await replica.change(policy, **document, description=f"edit {number}")
        await replica.work()
        await replica.recovery.sweep()
        await replica.work()
    slots.extend(slots_of(cron, ZoneInfo("UTC"), since, clock.now()))

    decisions = await replica.decisions()
    for table in {decision.table for decision in decisions}:
        assert covered([each for each in decisions if each.table == table], slots) == Counter(slots)
    # What expired in the queue never started, and costs nothing.
    spent = {one.id for one in await replica.operations() if one.start_time is not None or not one.is_terminal}
    fired = [
        (each.time, each.table) for each in decisions if each.verdict is SlotVerdict.FIRED and each.operation in spent
    ]
    for time, _ in fired:
        within = [table for at, table in fired if time - HOUR < at <= time]
        assert len(set(within) if unit == "tables" else within) <= limit


def _document(cron: Cron, zone: str, conditions: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"rewriteDataFilesSchedule": {"cronExpression": cron.expression, "timeZone": zone}}
    return document | {"triggerConditions": {"smallFileCountAbove": 1}} if conditions else document
