"""Which slots a schedule has, row by row. The rows name the sections of docs/semantics.md that they show."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.domain.schedule import (
    first_slot,
    next_slot,
    slot_text,
)
from tests.support.schedules import (
    APIA,
    KEY,
    NEW_YORK,
    NIGHT,
    ZURICH,
    Slots,
    assert_slots,
    at,
    cron,
    interval,
    schedule,
)

ROWS = [
    cron(
        "§4.5 Window: its start is in",
        "0 * * * *",
        "2026-11-24T00:00",
        "2026-11-24T02:00",
        "2026-11-24T03:00",
        "2026-11-25T02:00",
        windowStart="02:00",
        windowEnd="04:00",
    ),
    cron(
        "§4.5 Window: its end is out",
        "30 3,4 * * *",
        "2026-11-24T00:00",
        "2026-11-24T03:30",
        "2026-11-25T03:30",
        windowStart="02:00",
        windowEnd="04:30",
    ),
    cron(
        "§4.5 Window: over midnight",
        "0 * * * *",
        "2026-11-24T21:30",
        "2026-11-24T22:00",
        "2026-11-24T23:00",
        "2026-11-25T00:00",
        "2026-11-25T01:00",
        "2026-11-25T02:00",
        "2026-11-25T03:00",
        "2026-11-25T22:00",
        **NIGHT,
    ),
    cron(
        "§4.5 Window: in its zone",
        "0 * * * *",
        "2026-11-24T12:00",
        "2026-11-25T02:00+01:00",
        windowStart="02:00",
        windowEnd="03:00",
        **ZURICH,
    ),
    cron(
        "§4.5 Days: by the cron's own day",
        "0 12 * * *",
        "2026-11-24T12:00",
        "2026-11-28T12:00",
        "2026-11-29T12:00",
        "2026-12-05T12:00",
        allowedDays=["SATURDAY", "SUNDAY"],
    ),
    cron(
        "§4.5 Days: of the zone",
        "0 23 * * *",
        "2026-11-24T12:00",
        "2026-11-30T23:00-05:00",
        allowedDays=["MONDAY"],
        **NEW_YORK,
    ),
    cron(
        "§4.5 Days: the day on which the window opened",
        "0 1 * * *",
        "2026-11-24T12:00",
        "2026-11-28T01:00",
        "2026-12-05T01:00",
        allowedDays=["FRIDAY"],
        **NIGHT,
    ),
    cron(
        "§4.5 Days: not the day on which it closes",
        "0 3 * * SAT",
        "2026-11-24T12:00",
        "2026-11-28T03:00",
        "2026-12-05T03:00",
        allowedDays=["FRIDAY"],
        **NIGHT,
    ),
    cron(
        "§4.5 Window: it opens in a gap",
        "*/30 * * * *",
        "2026-03-28T12:00",
        "2026-03-29T03:00+02:00",
        "2026-03-29T03:30+02:00",
        "2026-03-30T02:30+02:00",
        windowStart="02:30",
        windowEnd="04:00",
        **ZURICH,
    ),
    cron(
        "§4.5 Window: a gap swallows it",
        "*/30 * * * *",
        "2026-03-28T12:00",
        "2026-03-30T02:00+02:00",
        "2026-03-30T02:30+02:00",
        windowStart="02:00",
        windowEnd="03:00",
        **ZURICH,
    ),
    cron(
        "§4.5 Window: a slot that a gap moves out of it",
        "15 2 * * *",
        "2026-03-28T12:00",
        "2026-03-30T02:15+02:00",
        windowStart="01:00",
        windowEnd="02:30",
        **ZURICH,
    ),
    cron(
        "§4.5 Window: a fold makes it longer",
        "*/30 * * * *",
        "2026-10-25T01:30+02:00",
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:30+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T02:30+01:00",
        "2026-10-26T02:00+01:00",
        windowStart="02:00",
        windowEnd="03:00",
        **ZURICH,
    ),
    cron(
        "§4.5 Window: it opens once in a fold",
        "*/30 * * * *",
        "2026-10-25T01:30+02:00",
        "2026-10-25T02:00+02:00",
        "2026-10-26T02:00+01:00",
        windowStart="02:00",
        windowEnd="02:30",
        **ZURICH,
    ),
    cron(
        "§4.5 Window: it does not open before a fold has ended",
        "*/30 * * * *",
        "2026-10-25T02:00+02:00",
        "2026-10-25T03:00+01:00",
        windowStart="03:00",
        windowEnd="03:30",
        **ZURICH,
    ),
    cron(
        "§4.5 Window: of a day that was skipped",
        "0 * * * *",
        "2011-12-29T12:00-10:00",
        "2011-12-31T00:00+14:00",
        "2011-12-31T01:00+14:00",
        allowedDays=["FRIDAY"],
        windowStart="22:00",
        windowEnd="02:00",
        **APIA,
    ),
    interval("§4.6 Interval: exact time", "PT6H", "2026-11-24T10:07:13.5", "2026-11-24T16:07:13.5"),
    interval("§4.6 Interval: days are 24 hours", "P1D", "2026-10-24T12:00+02:00", "2026-10-25T11:00+01:00", **ZURICH),
    interval("§4.6 Interval: a week over a gap", "P7D", "2026-03-28T12:00+01:00", "2026-04-04T13:00+02:00", **ZURICH),
    interval("§4.6 Interval: outside the window it waits", "PT6H", "2026-11-24T10:00", "2026-11-24T22:00", **NIGHT),
    interval(
        "§4.6 Interval: inside the window", "PT6H", "2026-11-24T18:30", "2026-11-25T00:30", "2026-11-25T22:00", **NIGHT
    ),
    interval("§4.6 Interval: at the end of the window", "PT6H", "2026-11-24T22:00", "2026-11-25T22:00", **NIGHT),
    interval(
        "§4.6 Interval: the next allowed day",
        "P1D",
        "2026-11-28T12:00",
        "2026-11-29T12:00",
        "2026-12-05T00:00",
        allowedDays=["SATURDAY", "SUNDAY"],
    ),
    interval(
        "§4.6 Interval: the opening in a gap",
        "PT1H",
        "2026-03-28T12:00",
        "2026-03-29T03:00+02:00",
        windowStart="02:30",
        windowEnd="04:00",
        **ZURICH,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_these_slots_follow(row: Slots) -> None:
    assert_slots(row)


FIRST = [
    ("§4.7 First: a cron waits", {"cronExpression": "0 2 * * *"}, None, "2026-11-25T02:00"),
    (
        "§4.7 First: a cron waits whatever ran before",
        {"cronExpression": "0 2 * * *"},
        "2026-11-01T00:00",
        "2026-11-25T02:00",
    ),
    ("§4.7 First: an interval that never ran is due at once", {"interval": "P7D"}, None, "2026-11-24T10:00"),
    ("§4.7 First: an interval counts from the finish", {"interval": "P7D"}, "2026-11-20T03:00", "2026-11-27T03:00"),
    (
        "§4.7 First: an interval that is over is due at once",
        {"interval": "P7D"},
        "2026-11-01T00:00",
        "2026-11-24T10:00",
    ),
    ("§4.7 First: at once is at the opening", {"interval": "P7D", **NIGHT}, None, "2026-11-24T22:00"),
    ("§4.7 First: on the next allowed day", {"interval": "PT1H", "allowedDays": ["FRIDAY"]}, None, "2026-11-27T00:00"),
    ("§4.7 First: nothing of a disabled cron", {"cronExpression": "0 2 * * *", "enabled": False}, None, None),
    ("§4.7 First: nothing of a disabled interval", {"interval": "P7D", "enabled": False}, None, None),
]


@pytest.mark.parametrize(("written", "finish", "slot"), [row[1:] for row in FIRST], ids=[row[0] for row in FIRST])
def test_a_table_begins_with_this_slot(written: dict[str, Any], finish: str | None, slot: str | None) -> None:
    last_finish = None if finish is None else at(finish)
    planned = first_slot(schedule(**written), key=KEY, since=at("2026-11-24T10:00"), last_finish=last_finish)
    assert (planned and planned.slot) == (slot and at(slot))


def test_a_disabled_schedule_has_no_next_slot() -> None:
    assert next_slot(schedule(interval="PT1H", enabled=False), key=KEY, after=at("2026-11-24T10:00")) is None


TEXTS = [
    ("§4.11 Text: UTC", {}, "2026-11-24T10:00", "2026-11-24 10:00:00 UTC"),
    ("§4.11 Text: on the clock of the zone", ZURICH, "2026-11-24T10:00", "2026-11-24 11:00:00 Europe/Zurich"),
    ("§4.11 Text: shown for the first time", ZURICH, "2026-10-25T02:30+02:00", "2026-10-25 02:30:00 Europe/Zurich"),
    ("§4.11 Text: shown again", ZURICH, "2026-10-25T02:30+01:00", "2026-10-25 02:30:00+01:00 Europe/Zurich"),
    ("§4.11 Text: an interval's fraction is left out", {}, "2026-11-24T10:00:00.7", "2026-11-24 10:00:00 UTC"),
]


@pytest.mark.parametrize(("zone", "slot", "text"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_a_slot_reads_like_this(zone: dict[str, str], slot: str, text: str) -> None:
    assert slot_text(schedule(interval="PT1H", **zone), at(slot)) == text
