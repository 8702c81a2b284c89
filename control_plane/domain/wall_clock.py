"""What a clock on a wall shows, and when, where daylight saving makes it skip or repeat times.

`reached` and `first_shown` follow a clock that never goes back: while the hands repeat an hour it stands at the last
moment of that hour, and where they skip one it is at the far side at once. On such a clock every time of day comes
exactly once: in a gap at the first instant that exists, in a fold when it is shown first.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_SECOND = timedelta(seconds=1)


def reached(at: datetime, zone: ZoneInfo) -> datetime:
    """The naive time that the clock which never goes back shows at this instant."""
    local = at.astimezone(zone)
    if not local.fold:
        return local.replace(tzinfo=None)
    first, second = _readings(local.replace(tzinfo=None, microsecond=0), zone)
    standstill_ends = _change(first, second, zone) + (second - first)
    return standstill_ends.astimezone(zone).replace(tzinfo=None) - datetime.resolution


def first_shown(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant, in UTC, at which the clock reaches this naive time of whole seconds."""
    first, second = _readings(wall, zone)
    return first if first <= second else _change(second, first, zone)


def second_shown(wall: datetime, zone: ZoneInfo) -> datetime:
    """The last instant, in UTC, at which the hands show this naive time; it exists."""
    return _readings(wall, zone)[1]


def exists(wall: datetime, zone: ZoneInfo) -> bool:
    """Whether the hands ever show this naive time."""
    first, second = _readings(wall, zone)
    return first <= second


def hands_go_back(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """The instant, in UTC, at which the hands go back, if they show this naive time of whole seconds twice."""
    first, second = _readings(wall, zone)
    return _change(first, second, zone) if first < second else None


def _readings(wall: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The instants by the offset before a change and by the one after it; in a gap the first is the later one."""
    local = wall.replace(tzinfo=zone, fold=0)
    first = local.astimezone(UTC)
    if local.utcoffset() == (again := local.replace(fold=1)).utcoffset():
        return first, first
    return first, again.astimezone(UTC)


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The instant between these two at which the offset of the zone changes; it does so once."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2 // _SECOND * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
