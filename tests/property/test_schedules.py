"""Schedules against an evaluator that looks at the clock every minute, or every second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from control_plane.domain.schedule import Missed, missed, never_due, next_slot, slot_end, window
from control_plane.domain.schedule_config import ScheduleConfig
from tests.support.schedules import schedule
from tests.support.slot_evaluator import WEEKDAYS, Meaning, changes

ZONES = (
    "UTC",
    "Europe/Zurich",
    "America/New_York",
    "America/St_Johns",  # changed at a minute past midnight
    "America/Havana",  # repeats the hour after midnight
    "America/Santiago",  # skips the hour after midnight
    "Australia/Lord_Howe",  # half an hour
    "Antarctica/Troll",  # two hours
    "Africa/Casablanca",  # four changes a year
    "Pacific/Apia",  # skipped a day
    "Asia/Kathmandu",
)


@cache
def days_of_change(zone: str) -> list[datetime]:
    return changes(zone, 2006, 2027) or [datetime(2026, 3, 29, tzinfo=UTC)]


zones = st.sampled_from(ZONES)
minutes = st.one_of(
    st.sampled_from(["*", "*/15", "0", "30", "1,31,59", "5-50/20", "45/5"]), st.integers(0, 59).map(str)
)
hours = st.one_of(
    st.sampled_from(["*", "*/2", "*/6", "0-23", "1-3", "0,1,2", "22/1"]),
    st.integers(0, 4).map(str),
    st.integers(0, 23).map(str),
)
days = st.sampled_from(["*"] * 6 + ["*/2", "1-15", "L", "25,L", "28-31"])
months = st.sampled_from(["*"] * 6 + ["MAR,10", "*/2"])
weekdays = st.sampled_from(["*"] * 6 + ["SUN", "7", "MON-FRI", "0,6", "SUN#5", "0L", "SAT,SUN#1"])
crons = st.builds(" ".join, st.tuples(minutes, hours, days, months, weekdays))
cron_seconds = st.builds(
    " ".join, st.tuples(st.sampled_from(["*", "*/7", "0", "30", "13,59"]), minutes, hours, st.just("*"), st.just("*"),
                        st.just("*"))
)  # fmt: skip
clocks = st.builds("{:02}:{:02}".format, st.one_of(st.integers(0, 4), st.integers(0, 23)), st.sampled_from([0, 15, 30]))
windows = st.one_of(st.just((None, None)), st.tuples(clocks, clocks).filter(lambda written: written[0] != written[1]))
allowed = st.one_of(st.just(()), st.sets(st.sampled_from(WEEKDAYS), min_size=1).map(tuple))
jitters = st.sampled_from([None, "PT1S", "PT7M", "PT45M", "PT3H", "P2D"])


@st.composite
def meanings(draw: st.DrawFn, written: st.SearchStrategy[str] = crons) -> Meaning:
    opens, closes = draw(windows)
    return Meaning(draw(written), draw(zones), opens, closes, draw(allowed))


@st.composite
def instants(draw: st.DrawFn, zone: str) -> datetime:
    """Near a change of the clocks, to the microsecond."""
    day = draw(st.sampled_from(days_of_change(zone)))
    near = draw(st.timedeltas(timedelta(hours=-12), timedelta(hours=36)))
    return day + (near if draw(st.booleans()) else near // timedelta(minutes=15) * timedelta(minutes=15))


def config(meaning: Meaning, **more: Any) -> ScheduleConfig:
    written = {
        "cronExpression": meaning.cron,
        "timeZone": meaning.zone,
        "windowStart": meaning.opens,
        "windowEnd": meaning.closes,
        "allowedDays": meaning.days or None,
        **more,
    }
    return schedule(**{name: value for name, value in written.items() if value is not None})


def following(written: ScheduleConfig, after: datetime, until: datetime) -> list[datetime]:
    found = []
    while (planned := next_slot(written, key="any", after=after)) and planned.slot <= until:
        after = planned.slot
        found.append(after)
    return found


@settings(deadline=None)
@given(st.data(), meanings())
def test_the_slots_are_those_that_are_seen_by_looking_at_the_clock(data: st.DataObject, meaning: Meaning) -> None:
    start = data.draw(instants(meaning.zone))
    until = start + timedelta(days=2)
    found = following(config(meaning), start, until)
    assert found == meaning.slots(start, until)
    assert all(earlier < later for earlier, later in zip([start, *found], found, strict=False))


@settings(deadline=None, max_examples=40)
@given(st.data(), meanings(cron_seconds))
def test_slots_to_the_second_are_those_that_are_seen(data: st.DataObject, meaning: Meaning) -> None:
    start = data.draw(instants(meaning.zone))
    until = start + timedelta(hours=2)
    assert following(config(meaning), start, until) == meaning.slots(start, until)


@settings(deadline=None)
@given(st.data(), meanings())
def test_no_slot_lies_between_an_instant_and_its_next_slot(data: st.DataObject, meaning: Meaning) -> None:
    after = data.draw(instants(meaning.zone))
    planned = next_slot(config(meaning), key="any", after=after)
    seen = meaning.slots(after, after + timedelta(days=2))
    if seen:
        assert planned is not None
        assert planned.slot == seen[0]
    else:
        assert planned is None or planned.slot > after + timedelta(days=2)


@settings(deadline=None)
@given(st.data(), meanings(), st.sampled_from(["PT1M", "PT6H", "P1D", "PT25H0.5S"]))
def test_an_interval_is_due_when_it_has_passed_and_the_window_is_open(
    data: st.DataObject, meaning: Meaning, length: str
) -> None:
    after = data.draw(instants(meaning.zone))
    written = config(meaning, cronExpression=None, interval=length)
    planned = next_slot(written, key="any", after=after)
    assert planned is not None
    assert written.interval is not None
    over = after + written.interval.length
    assert planned.slot >= over
    assert meaning.is_open(planned.slot)
    if planned.slot > over:
        last_closed = planned.slot - timedelta(microseconds=1)
        assert not meaning.is_open(over)
        assert not meaning.is_open(last_closed)
        every_minute = Meaning("* * * * *", meaning.zone, meaning.opens, meaning.closes, meaning.days)
        assert not every_minute.slots(max(over, planned.slot - timedelta(days=2)), last_closed)


@settings(deadline=None)
@given(st.data(), meanings())
def test_a_window_is_open_from_its_start_to_its_end(data: st.DataObject, meaning: Meaning) -> None:
    at = data.draw(instants(meaning.zone))
    found = window(config(meaning), at)
    assert (found is not None) == meaning.is_open(at)
    if found is None or found.start is None or found.end is None:
        return
    assert found.start <= at < found.end
    tick = timedelta(microseconds=1)
    assert meaning.is_open(found.start)
    assert meaning.is_open(found.end - tick)
    # Where a gap swallows the pause between two windows, one begins as the other ends.
    after = window(config(meaning), found.end)
    assert after is None or after.start == found.end
    assert (after is not None) == meaning.is_open(found.end)
    if meaning.opens is not None:
        before = window(config(meaning), found.start - tick)
        assert before is None or before.end == found.start
        assert (before is not None) == meaning.is_open(found.start - tick)


@settings(deadline=None)
@given(st.data(), meanings(), jitters, st.text(max_size=20))
def test_jitter_is_the_same_each_time_and_stays_inside_the_slot(
    data: st.DataObject, meaning: Meaning, jitter: str | None, key: str
) -> None:
    after = data.draw(instants(meaning.zone))
    written, again = config(meaning, jitter=jitter), config(meaning, jitter=jitter)
    planned = next_slot(written, key=key, after=after)
    assume(planned is not None)
    assert planned is not None
    assert planned == next_slot(again, key=key, after=after)
    spread = written.jitter.length if written.jitter else timedelta(microseconds=1)
    assert planned.slot <= planned.due < planned.slot + spread
    assert planned.due < slot_end(written, slot=planned.slot)
    opened = window(written, planned.slot)
    assert opened is not None
    assert opened.end is None or planned.due < opened.end


@settings(deadline=None)
@given(st.data(), meanings())
def test_a_slot_ends_at_the_next_or_with_its_window(data: st.DataObject, meaning: Meaning) -> None:
    after = data.draw(instants(meaning.zone))
    slots = meaning.slots(after, after + timedelta(days=1))
    assume(len(slots) >= 2)
    end = slot_end(config(meaning), slot=slots[0])
    opened = window(config(meaning), slots[0])
    assert opened is not None
    assert end == min([slots[1], *([opened.end] if opened.end else [])])


@settings(deadline=None)
@given(st.data(), meanings(), jitters, st.timedeltas(timedelta(0), timedelta(days=3)), st.integers(1, 5_000))
def test_what_was_missed_is_what_came_due(
    data: st.DataObject, meaning: Meaning, jitter: str | None, down: timedelta, most: int
) -> None:
    written = config(meaning, jitter=jitter)
    first = next_slot(written, key="any", after=data.draw(instants(meaning.zone)))
    assume(first is not None)
    assert first is not None
    now = first.due + down
    came_due, slot = [], first
    while slot.due <= now:
        came_due.append(slot.slot)
        following = next_slot(written, key="any", after=slot.slot)
        if following is None:
            break
        slot = following
    found = missed(written, key="any", slot=first.slot, now=now, most=most)
    assert found == Missed(came_due[0], came_due[-1], min(len(came_due), most), exact=len(came_due) <= most)


@settings(deadline=None)
@given(st.data(), meanings(), st.lists(st.timedeltas(timedelta(hours=-1), timedelta(hours=2)), max_size=12))
def test_a_clock_that_is_set_back_makes_no_slot_come_twice(
    data: st.DataObject, meaning: Meaning, steps: list[timedelta]
) -> None:
    written, now = config(meaning), data.draw(instants(meaning.zone))
    first = next_slot(written, key="any", after=now)
    assume(first is not None)
    assert first is not None
    planned, decided = first, []
    for step in steps:
        now += step
        if planned.due <= now:
            last = missed(written, key="any", slot=planned.slot, now=now, most=10).last
            decided += [planned.slot] if last == planned.slot else [planned.slot, last]
            following = next_slot(written, key="any", after=last)
            if following is None:
                break
            planned = following
    assert decided == sorted(set(decided))


@settings(deadline=None)
@given(meanings())
def test_a_cron_that_is_never_due_has_no_slot_for_years(meaning: Meaning) -> None:
    written = config(meaning)
    planned = next_slot(written, key="any", after=datetime(2026, 1, 1, tzinfo=UTC))
    in_time = planned is not None and planned.slot <= datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=5 * 366)
    assert never_due(written) != in_time
