"""What a schedule means, worked out the slow way: the clock is looked at every minute, or every second.

Nothing here is shared with the product. It is short rather than fast, so that it can be believed.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = ("", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
WARM_UP = timedelta(hours=3)
"""Longer than any repeated hour."""


@dataclass(frozen=True)
class Meaning:
    """A schedule as it is written. `opens` and `closes` as HH:mm; `days` empty: all."""

    cron: str
    zone: str = "UTC"
    opens: str | None = None
    closes: str | None = None
    days: tuple[str, ...] = ()

    @property
    def step(self) -> timedelta:
        return timedelta(minutes=1) if len(self.cron.split()) == 5 else timedelta(seconds=1)

    def slots(self, after: datetime, until: datetime) -> list[datetime]:
        """Those after the one and up to the other."""
        return [
            at
            for at, wall, before, farthest in self._looks(after - WARM_UP, until)
            if at > after and self._fires(wall, before, farthest) and self._open(farthest)
        ]

    def is_open(self, at: datetime) -> bool:
        *_, (_, _, _, farthest) = self._looks(at - WARM_UP, at)
        return self._open(farthest)

    def _looks(self, start: datetime, until: datetime) -> Iterator[tuple[datetime, datetime, datetime, datetime]]:
        """Each look at the clock: when, what it shows, and the latest it had ever shown before and after this look."""
        zone, farthest = ZoneInfo(self.zone), datetime.min
        at = start.replace(second=0, microsecond=0)
        while at <= until:
            wall = at.astimezone(zone).replace(tzinfo=None, fold=0)
            before = farthest if farthest > datetime.min else wall - self.step
            farthest = max(before, wall)
            yield at, wall, before, farthest
            at += self.step

    def _fires(self, wall: datetime, before: datetime, farthest: datetime) -> bool:
        *_, hours, _, _, _ = self.cron.split()
        if values(hours, 0, 23) == set(range(24)):
            return cron_names(self.cron, wall)
        while before < farthest:
            before += self.step
            if cron_names(self.cron, before):
                return True
        return False

    def _open(self, wall: datetime) -> bool:
        opens = time.fromisoformat(self.opens or "00:00")
        closes = time.fromisoformat(self.closes or "00:00")
        for opened in (wall.date(), wall.date() - timedelta(days=1)):
            closed = opened if closes > opens else opened + timedelta(days=1)
            if datetime.combine(opened, opens) <= wall < datetime.combine(closed, closes):
                return not self.days or WEEKDAYS[opened.weekday()] in self.days
        return False


def cron_names(expression: str, wall: datetime) -> bool:
    """Whether the expression names this time of a clock on the wall."""
    second, minute, hour, day, month, weekday = ["0", *expression.split()][-6:]
    by_date, by_weekday = names_date(day, wall.date()), names_weekday(weekday, wall.date())
    either = not day.startswith("*") and not weekday.startswith("*")
    return (
        wall.second in values(second, 0, 59)
        and wall.minute in values(minute, 0, 59)
        and wall.hour in values(hour, 0, 23)
        and wall.month in values(month, 1, 12, MONTHS)
        and ((by_date or by_weekday) if either else (by_date and by_weekday))
    )


def names_date(written: str, day: date) -> bool:
    last = monthrange(day.year, day.month)[1]
    return any((day.day == last) if item == "L" else day.day in values(item, 1, 31) for item in written.split(","))


def names_weekday(written: str, day: date) -> bool:
    number = day.isoweekday() % 7
    last = monthrange(day.year, day.month)[1]
    for item in written.split(","):
        if "#" in item:
            weekday, nth = item.split("#")
            if number in values(weekday, 0, 7, DAYS) and (day.day - 1) // 7 + 1 == int(nth):
                return True
        elif item.endswith("L"):
            if number in values(item[:-1], 0, 7) and day.day > last - 7:
                return True
        elif number in {value % 7 for value in values(item, 0, 7, DAYS)}:
            return True
    return False


def values(written: str, low: int, high: int, names: tuple[str, ...] = ()) -> set[int]:
    """Lists, ranges and steps of one field."""

    def value(text: str) -> int:
        return names.index(text) if text in names else int(text)

    found: set[int] = set()
    for item in written.split(","):
        span, _, step = item.partition("/")
        if span == "*":
            start, end = low, high
        elif "-" in span:
            start, end = map(value, span.split("-"))
        else:
            start, end = value(span), high if step else value(span)
        found.update(range(start, end + 1, int(step or 1)))
    return found


def changes(zone: str, first: int, last: int) -> list[datetime]:
    """The days of these years on which the offset of the zone changes, at 00:00 UTC."""
    noon = datetime(first, 1, 1, tzinfo=UTC)
    found = []
    while noon.year <= last:
        following = noon + timedelta(days=1)
        if noon.astimezone(ZoneInfo(zone)).utcoffset() != following.astimezone(ZoneInfo(zone)).utcoffset():
            found.append(noon)
        noon = following
    return found
