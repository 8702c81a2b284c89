"""When a schedule comes due: slots, windows, jitter, and what was missed while nobody looked.

Everything is pure, in aware UTC datetimes. A slot is the instant that a schedule means; it is due later by its jitter.
Slots lie inside the window and on the allowed days: a cron instant outside is none, an interval waits for the opening.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

from control_plane.domain.cron import Cron, parsed
from control_plane.domain.schedule_config import ScheduleConfig, Weekday
from control_plane.domain.wall_clock import first_shown, reached

MOST_MISSED: Final = 10_000
"""No more missed slots than this are counted, whatever is asked for."""

_NEVER_DUE_AFTER: Final = timedelta(days=5 * 366)
_HORIZON: Final = timedelta(days=9 * 366)
"""Two leap days can lie eight years apart."""
_REFERENCE: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_LONGEST_CLOSED: Final = 22
"""Days. A window opens once a week at least, but daylight saving can swallow one, and a skipped day another."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A slot, and when it has to be decided: the slot itself, or later by its jitter."""

    slot: datetime
    due: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in which slots may lie; start inclusive, end exclusive. `end` None: it never closes."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """The slots that came due, from `first` to `last`, the one to catch up. `exact` False: more than `count`."""

    first: datetime
    last: datetime
    count: int
    exact: bool = True


ALWAYS: Final = Window()


def first_slot(schedule: ScheduleConfig, *, key: str, since: datetime, last_finish: datetime | None) -> Planned | None:
    """The slot of a table that is governed since then. A cron waits for its next instant.

    An interval is due at once, or when it has passed since the last operation finished. None: nothing will come due.
    """
    if not schedule.is_enabled:
        return None
    plan = _plan(schedule)
    if plan.interval is None:
        return plan.with_jitter(_next_slot(plan, since), key)
    at = since if last_finish is None else max(since, last_finish + plan.interval)
    return plan.with_jitter(plan.open_from(at), key)


def next_slot(schedule: ScheduleConfig, *, key: str, after: datetime) -> Planned | None:
    """The slot of a cron strictly after this instant; that of an interval which begins at this instant."""
    if not schedule.is_enabled:
        return None
    plan = _plan(schedule)
    return plan.with_jitter(_next_slot(plan, after), key)


def missed(schedule: ScheduleConfig, *, key: str, slot: datetime, now: datetime, most: int) -> Missed:
    """The slots from this one, which is due, to the last that is due by now. An interval has one: the next counts from
    what becomes of it.

    The work does not grow with the time that has passed: the last is found by halving, and `most` are counted.
    """
    plan = _plan(schedule)
    following = None if plan.interval is not None else _next_slot(plan, slot)
    if following is None or plan.due(following, key) > now:
        return Missed(slot, slot, 1)
    last = _last_due(plan, key, following, now)
    limit = min(most, MOST_MISSED)
    count = _count(plan, slot, last, limit)
    return Missed(slot, last, min(count, limit), exact=count <= limit)


def slot_end(schedule: ScheduleConfig, *, slot: datetime) -> datetime:
    """When a slot that waits has to be given up: at the end of its window or at the next slot, whichever is earlier."""
    return _plan(schedule).end_of(slot)


def window(schedule: ScheduleConfig, at: datetime) -> Window | None:
    """The window that is open at this instant. None: closed."""
    return _plan(schedule).window(at)


def slot_text(schedule: ScheduleConfig, slot: datetime) -> str:
    """A slot on the wall clock of its zone. In a repeated hour the second pass shows its offset."""
    local = slot.astimezone(schedule.zone)
    shown = local if local.fold else local.replace(tzinfo=None)
    return f"{shown.isoformat(' ', 'seconds')} {schedule.zone.key}"


def never_due(schedule: ScheduleConfig) -> bool:
    """Whether no instant of its cron lies in its window and on its days within five years."""
    plan = _plan(schedule)
    return plan.interval is None and plan.next_cron(_REFERENCE, within=_NEVER_DUE_AFTER) is None


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """A schedule as it is computed with. `opens` equal to `closes`: whole days. Either `cron` or `interval` is set."""

    cron: Cron | None
    interval: timedelta | None
    zone: ZoneInfo
    opens: time
    closes: time
    days: frozenset[int]
    jitter: timedelta

    @property
    def always_open(self) -> bool:
        return self.opens == self.closes and len(self.days) == len(Weekday)

    def day_opened(self, at: datetime) -> date | None:
        """The day on which the window that is open at this instant opened. None: closed."""
        wall = reached(at, self.zone)
        day, hour = wall.date(), wall.time()
        if hour >= self.opens and (hour < self.closes or self.closes <= self.opens):
            return day if day.weekday() in self.days else None
        if self.closes <= self.opens and hour < self.closes and (day - _DAY).weekday() in self.days:
            return day - _DAY
        return None

    def is_open(self, at: datetime) -> bool:
        return self.always_open or self.day_opened(at) is not None

    def window(self, at: datetime) -> Window | None:
        if self.always_open:
            return ALWAYS
        day = self.day_opened(at)
        if day is None:
            return None
        closing = day if self.closes > self.opens else day + _DAY
        while self.opens == self.closes and closing.weekday() in self.days:
            closing += _DAY
        return Window(self._instant(day, self.opens), self._instant(closing, self.closes))

    def open_from(self, at: datetime) -> datetime:
        """This instant if the window is open then, else the next opening."""
        if self.is_open(at):
            return at
        wall = reached(at, self.zone)
        for ahead in range(_LONGEST_CLOSED):
            day = wall.date() + ahead * _DAY
            if day.weekday() in self.days and datetime.combine(day, self.opens) > wall:
                opening = self._instant(day, self.opens)
                # A window that lies in a gap as a whole does not open at all.
                if self.is_open(opening):
                    return opening
        raise AssertionError(f"no window opens within {_LONGEST_CLOSED} days of {at}")

    def next_cron(self, after: datetime, *, within: timedelta) -> datetime | None:
        assert self.cron is not None
        at = self.cron.next_after(after, self.zone)
        while at is not None and at - after <= within:
            opening = self.open_from(at)
            if opening == at:
                return at
            at = self.cron.next_after(opening - _SECOND, self.zone)
        return None

    def end_of(self, slot: datetime) -> datetime:
        following = _next_slot(self, slot) or slot + _HORIZON
        opened = self.window(slot)
        return following if opened is None or opened.end is None else min(following, opened.end)

    def due(self, slot: datetime, key: str) -> datetime:
        """Spread by key over the jitter, as far as the slot reaches."""
        if not self.jitter:
            return slot
        spread = min(self.jitter, self.end_of(slot) - slot) // _MICROSECOND
        part = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
        return slot + (part * spread >> 64) * _MICROSECOND

    def with_jitter(self, slot: datetime | None, key: str) -> Planned | None:
        return None if slot is None else Planned(slot, self.due(slot, key))

    def _instant(self, day: date, hour: time) -> datetime:
        return first_shown(datetime.combine(day, hour), self.zone)


@lru_cache(maxsize=4096)
def _plan(schedule: ScheduleConfig) -> _Plan:
    days = schedule.allowed_days or tuple(Weekday)
    return _Plan(
        cron=None if schedule.cron_expression is None else parsed(schedule.cron_expression),
        interval=None if schedule.interval is None else schedule.interval.length,
        zone=schedule.zone,
        opens=_time(schedule.window_start),
        closes=_time(schedule.window_end),
        days=frozenset(list(Weekday).index(day) for day in days),
        jitter=timedelta(0) if schedule.jitter is None else schedule.jitter.length,
    )


def _time(written: str | None) -> time:
    return time() if written is None else time.fromisoformat(written)


@lru_cache(maxsize=16_384)
def _next_slot(plan: _Plan, after: datetime) -> datetime | None:
    """Remembered: the tables of one policy share the slots of its cron."""
    if plan.interval is not None:
        return plan.open_from(after + plan.interval)
    return plan.next_cron(after, within=_HORIZON)


def _last_due(plan: _Plan, key: str, due: datetime, now: datetime) -> datetime:
    """The last slot that is due by now, from one on that is: by halving the time, for slots lie on whole seconds."""
    last, late = due, (now - due) // _SECOND + 1
    while late > 0:
        ahead = late // 2
        following = _next_slot(plan, last + ahead * _SECOND)
        if following is not None and plan.due(following, key) <= now:
            late -= (following - last) // _SECOND
            last = following
        else:
            late = ahead
    return last


@lru_cache(maxsize=4096)
def _count(plan: _Plan, first: datetime, last: datetime, limit: int) -> int:
    """How many slots there are from first to last; `limit` + 1 stands for more than `limit`."""
    count, slot = 1, first
    while slot < last and count <= limit:
        slot = plan.next_cron(slot, within=_HORIZON) or last
        count += 1
    return count
