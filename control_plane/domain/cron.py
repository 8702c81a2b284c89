"""Cron expressions: 5 fields, or 6 with seconds in front, read as Debian's cron reads them.

CronSim finds the next matching time on naive clocks; what daylight saving makes of that is decided here:

- A cron that names hours means times of day. Each comes once: in a gap at the first instant that exists, in a fold when
  it is shown first. Times that a gap moves onto one instant are one.
- A cron for every hour means "every so often". It follows the hands: in a fold it goes on through the repeated hour,
  and a skipped hour owes nothing, so that the pauses between its instants stay what they are on any other day.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from control_plane.domain.wall_clock import exists, first_shown, hands_go_back, reached, second_shown

MAX_CRON_LENGTH: Final = 256

_START: Final = datetime(2000, 1, 1)
_SECOND: Final = timedelta(seconds=1)
_ALL_HOURS: Final = set(range(24))
_FIELDS: Final = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L for the last day or LW for the last weekday",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT, 5L for the last Friday or MON#2 for the second Monday",
}


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that fires at some time. Two are equal if they are written alike."""

    text: str
    _search: CronSim = field(repr=False, compare=False)
    """Never advanced itself: every search runs on a copy."""
    _every_hour: bool = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with one sentence that names the field at fault."""
        if len(text) > MAX_CRON_LENGTH or not text.isascii():
            raise ValueError(f"is no cron expression: at most {MAX_CRON_LENGTH} ASCII characters are read")
        fields = ["*" if written == "?" else written for written in text.upper().split()]
        if len(fields) not in (5, 6):
            raise ValueError(
                f"{text!r} has {len(fields)} fields, but a cron expression has 5 (minute, hour, day-of-month, month, "
                "day-of-week), or 6 with the second in front"
            )
        search = _searching(text, fields)
        cron = cls(" ".join(fields), search, search.hours == _ALL_HOURS)
        if cron._following(_START) is None:
            raise ValueError(f"{text!r} never fires: no day-of-month in its months falls on its day-of-week")
        return cron

    def next_after(self, instant: datetime, zone: ZoneInfo) -> datetime | None:
        """The first instant after this one at which it fires, in UTC. None: not within fifty years."""
        return self._by_the_hands(instant, zone) if self._every_hour else self._by_time_of_day(instant, zone)

    def _by_time_of_day(self, instant: datetime, zone: ZoneInfo) -> datetime | None:
        following = self._following(reached(instant, zone))
        return None if following is None else first_shown(following, zone)

    def _by_the_hands(self, instant: datetime, zone: ZoneInfo) -> datetime | None:
        local = instant.astimezone(zone)
        now = local.replace(tzinfo=None, fold=0)
        following = self._following(now)
        while following is not None and not exists(following, zone):
            following = self._following(following)
        if local.fold:
            return None if following is None else second_shown(following, zone)
        back = hands_go_back(now.replace(microsecond=0), zone)
        if back is None or (following is not None and first_shown(following, zone) < back):
            return None if following is None else first_shown(following, zone)
        # Nothing is left of the first pass, and the second begins anew at an earlier reading of the clock.
        again = self._following(back.astimezone(zone).replace(tzinfo=None, fold=0) - _SECOND)
        return None if again is None else second_shown(again, zone)

    def _following(self, wall: datetime) -> datetime | None:
        search = copy.copy(self._search)
        search.dt = wall.replace(microsecond=0)
        try:
            found: datetime = next(search)
        except (StopIteration, OverflowError):
            return None
        return found


@lru_cache(maxsize=4096)
def parsed(text: str) -> Cron:
    """`Cron.parse`, remembered."""
    return Cron.parse(text)


def _searching(text: str, fields: list[str]) -> CronSim:
    try:
        return CronSim(" ".join(fields), _START)
    except (CronSimError, AssertionError, ValueError) as error:
        at_fault = str(error).removeprefix("Bad ")
    names = list(_FIELDS)[-len(fields) :]
    if at_fault not in names:
        raise ValueError(f"{text!r} is no cron expression; write for example 30 2 * * MON-FRI")
    written = fields[names.index(at_fault)]
    if at_fault == "day-of-month" and _reads_alone(written):
        months = fields[names.index("month")]
        raise ValueError(f"{text!r} never fires: its day-of-month {written} is in none of its months {months}")
    raise ValueError(
        f"{text!r} has the {at_fault} {written!r}; it takes * or {_FIELDS[at_fault]}, "
        "with lists (1,15), ranges that rise (1-5) and steps (*/10)"
    )


def _reads_alone(day_of_month: str) -> bool:
    try:
        CronSim(f"0 0 {day_of_month} * *", _START)
    except (CronSimError, AssertionError, ValueError):
        return False
    return True
