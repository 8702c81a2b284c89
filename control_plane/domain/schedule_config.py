"""When an operation of a policy comes due, as it is written; docs/semantics.md §4 says what follows from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from control_plane.domain.cron import parsed
from control_plane.domain.document import Broken, Document, repeated
from control_plane.domain.duration import IsoDuration

MAX_ZONE_LENGTH: Final = 64
MIN_INTERVAL: Final = timedelta(seconds=1)
"""A cron comes no more often either."""

# Databases on disk hold more than zones: what the machine is set to, which differs between replicas, and copies of all
# zones, of which those under `right/` count leap seconds.
_OF_THE_MACHINE: Final = frozenset({"localtime", "posixrules"})
_VARIANTS: Final = ("posix/", "right/")
_HOUR: Final = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")


class Weekday(StrEnum):
    MONDAY = "MONDAY"
    TUESDAY = "TUESDAY"
    WEDNESDAY = "WEDNESDAY"
    THURSDAY = "THURSDAY"
    FRIDAY = "FRIDAY"
    SATURDAY = "SATURDAY"
    SUNDAY = "SUNDAY"


class AtWindowEnd(StrEnum):
    """What becomes of an operation that still runs when its window closes."""

    FINISH = "FINISH"
    CANCEL = "CANCEL"


def _cron(text: str) -> str:
    parsed(text)
    return text


def _not_an_integer(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit; write an ISO 8601 duration such as PT6H or P7D")
    return value


def _zone(name: str) -> str:
    if name in _OF_THE_MACHINE or name.startswith(_VARIANTS):
        raise ValueError(_no_zone(name))
    try:
        ZoneInfo(name)
    except (OSError, ValueError) as error:  # An unknown key is a kind of KeyError, a directory an OSError.
        raise ValueError(_no_zone(name)) from error
    except KeyError:
        raise ValueError(_no_zone(name)) from None
    return name


def _no_zone(name: str) -> str:
    return f"{name!r} is no time zone of the IANA database; write one such as Europe/Zurich or UTC"


def _hour(text: str) -> str:
    if not _HOUR.fullmatch(text):
        raise ValueError(f"{text[:16]!r} is no time of day; write HH:mm, from 00:00 to 23:59")
    return text


Zone = Annotated[str, Field(min_length=1, max_length=MAX_ZONE_LENGTH), AfterValidator(_zone)]
TimeOfDay = Annotated[str, AfterValidator(_hour)]


class ScheduleConfig(Document):
    """A cron or an interval, and what narrows it: window, days, jitter. None: the default."""

    cron_expression: Annotated[str, AfterValidator(_cron)] | None = None
    interval: Annotated[IsoDuration | None, BeforeValidator(_not_an_integer)] = None
    time_zone: Zone | None = None
    window_start: TimeOfDay | None = None
    window_end: TimeOfDay | None = None
    allowed_days: Annotated[
        tuple[Annotated[Weekday, Field(strict=False)], ...], Field(strict=False, max_length=len(Weekday))
    ] = ()
    at_window_end: Annotated[AtWindowEnd, Field(strict=False)] | None = None
    timeout: IsoDuration | None = None
    jitter: IsoDuration | None = None
    enabled: bool | None = None

    @property
    def is_enabled(self) -> bool:
        return self.enabled is not False

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone or "UTC")

    @property
    def cancels_at_window_end(self) -> bool:
        return self.at_window_end is AtWindowEnd.CANCEL

    @property
    def interval_length(self) -> timedelta | None:
        return self.interval.length if self.interval is not None else None

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        if (self.cron_expression is None) == (self.interval is None):
            yield "cronExpression", "needs either cronExpression or interval, exactly one of them"
        if self.interval is not None and self.interval.length < MIN_INTERVAL:
            yield "interval", f"must be at least a second, is {self.interval}"
        if self.window_start is None and self.window_end is not None:
            yield "windowStart", "is needed beside windowEnd"
        if self.window_end is None and self.window_start is not None:
            yield "windowEnd", "is needed beside windowStart"
        if self.window_start is not None and self.window_start == self.window_end:
            yield "windowEnd", "must differ from windowStart; leave both out for the whole day"
        if self.at_window_end is not None and self.window_end is None:
            yield "atWindowEnd", "has no meaning without windowStart and windowEnd"
        if self.jitter is not None and self.interval is not None and self.jitter.length >= self.interval.length:
            yield "jitter", f"must be shorter than the interval, which is {self.interval}"
        if twice := repeated(self.allowed_days):
            yield "allowedDays", f"names {twice} more than once"
