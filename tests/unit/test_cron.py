"""What cron expressions say, and which are refused. The rows name the sections of docs/semantics.md that they show."""

from __future__ import annotations

import re

import pytest

from control_plane.domain.cron import Cron
from tests.support.schedules import (
    LORD_HOWE,
    NEW_YORK,
    ZURICH,
    Slots,
    assert_slots,
    cron,
)

ROWS = [
    # 2026-11-24 is a Tuesday.
    cron("§4.1 Cron: every minute", "* * * * *", "2026-11-24T10:00", "2026-11-24T10:01", "2026-11-24T10:02"),
    cron("§4.1 Cron: strictly after its own instant", "0 10 * * *", "2026-11-24T10:00", "2026-11-25T10:00"),
    cron("§4.1 Cron: a fraction of a second before", "0 10 * * *", "2026-11-24T09:59:59.999999", "2026-11-24T10:00"),
    cron("§4.1 Cron: a fraction of a second after", "0 10 * * *", "2026-11-24T10:00:00.000001", "2026-11-25T10:00"),
    cron("§4.1 Cron: a step", "*/20 * * * *", "2026-11-24T10:00", "2026-11-24T10:20", "2026-11-24T10:40"),
    cron("§4.1 Cron: a step from a start", "50/5 * * * *", "2026-11-24T10:00", "2026-11-24T10:50", "2026-11-24T10:55"),
    cron("§4.1 Cron: a list", "5,35 1,3 * * *", "2026-11-24T01:05", "2026-11-24T01:35", "2026-11-24T03:05"),
    cron(
        "§4.1 Cron: a range with a step", "0 8-12/2 * * *", "2026-11-24T08:30", "2026-11-24T10:00", "2026-11-24T12:00"
    ),
    cron("§4.1 Cron: names of days", "0 0 * * mon-WED", "2026-11-24T12:00", "2026-11-25T00:00", "2026-11-30T00:00"),
    cron("§4.1 Cron: names of months", "0 0 1 JAN,jul *", "2026-11-24T12:00", "2027-01-01T00:00", "2027-07-01T00:00"),
    cron("§4.1 Cron: 0 is Sunday", "0 0 * * 0", "2026-11-24T12:00", "2026-11-29T00:00"),
    cron("§4.1 Cron: 7 is Sunday", "0 0 * * 7", "2026-11-24T12:00", "2026-11-29T00:00"),
    cron("§4.1 Cron: L is the last day", "0 0 L * *", "2027-02-01T00:00", "2027-02-28T00:00", "2027-03-31T00:00"),
    cron("§4.1 Cron: LW is the last weekday", "0 0 LW * *", "2027-01-31T00:00", "2027-02-26T00:00"),
    cron("§4.1 Cron: 5L is the last Friday", "0 0 * * 5L", "2026-11-24T12:00", "2026-11-27T00:00", "2026-12-25T00:00"),
    cron("§4.1 Cron: # is the nth", "0 0 * * MON#2", "2026-11-24T12:00", "2026-12-14T00:00", "2027-01-11T00:00"),
    cron("§4.1 Cron: a fifth Sunday", "0 0 * * SUN#5", "2026-11-29T00:00", "2027-01-31T00:00"),
    cron("§4.1 Cron: ? is *", "0 0 ? * MON", "2026-11-24T12:00", "2026-11-30T00:00"),
    cron("§4.1 Cron: ? as the day of the week", "0 12 1 * ?", "2026-11-24T12:00", "2026-12-01T12:00"),
    cron("§4.1 Cron: either day where both are named", "0 0 13 * FRI", "2026-11-24T12:00", "2026-11-27T00:00"),
    cron("§4.1 Cron: either day, by its date", "0 0 13 * FRI", "2026-12-11T12:00", "2026-12-13T00:00"),
    cron("§4.1 Cron: both days where one starts with *", "0 0 */2 * MON", "2026-11-24T12:00", "2026-12-07T00:00"),
    cron("§4.1 Cron: 29 February", "0 0 29 2 *", "2026-11-24T12:00", "2028-02-29T00:00", "2032-02-29T00:00"),
    cron("§4.1 Cron: 29 February over 2100", "0 0 29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"),
    cron("§4.1 Cron: six fields have seconds", "15 30 2 * * *", "2026-11-24T12:00", "2026-11-25T02:30:15"),
    cron(
        "§4.1 Cron: every ten seconds",
        "*/10 * * * * *",
        "2026-11-24T10:00:55",
        "2026-11-24T10:01",
        "2026-11-24T10:01:10",
    ),
    cron("§4.2 Zone: UTC unless written", "0 2 * * *", "2026-07-01T00:00", "2026-07-01T02:00+00:00"),
    cron("§4.2 Zone: Zurich in winter", "0 2 * * *", "2026-11-24T00:00", "2026-11-24T02:00+01:00", **ZURICH),
    cron("§4.2 Zone: Zurich in summer", "0 2 * * *", "2026-07-01T12:00", "2026-07-02T02:00+02:00", **ZURICH),
    cron("§4.2 Zone: New York", "0 2 * * *", "2026-11-24T00:00", "2026-11-24T02:00-05:00", **NEW_YORK),
    cron("§4.2 Zone: the day of the zone", "0 23 * * MON", "2026-11-24T00:00", "2026-11-23T23:00-05:00", **NEW_YORK),
    cron("§4.2 Zone: Lord Howe", "0 9 * * *", "2026-07-01T00:00", "2026-07-02T09:00+10:30", **LORD_HOWE),
    cron("§4.2 Zone: half an hour", "0 * * * *", "2026-07-01T00:00", "2026-07-01T00:30", timeZone="Asia/Kolkata"),
    cron(
        "§4.2 Zone: a quarter of an hour",
        "0 * * * *",
        "2026-07-01T00:00",
        "2026-07-01T00:15",
        timeZone="Asia/Kathmandu",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_cron_fires_at_these_instants(row: Slots) -> None:
    assert_slots(row)


REFUSED = [
    ("§4.1 Refused: nothing", "", "has 0 fields"),
    ("§4.1 Refused: one word", "daily", "has 1 fields"),
    ("§4.1 Refused: an alias", "@daily", "has 1 fields"),
    ("§4.1 Refused: four fields", "0 2 * *", "has 4 fields"),
    ("§4.1 Refused: a year", "0 0 2 * * ? 2027", "has 7 fields"),
    ("§4.1 Refused: minute 60", "60 2 * * *", "the minute '60'"),
    ("§4.1 Refused: hour 24", "0 24 * * *", "the hour '24'"),
    ("§4.1 Refused: day 0", "0 0 0 * *", "the day-of-month '0'"),
    ("§4.1 Refused: day 32", "0 0 32 * *", "the day-of-month '32'"),
    ("§4.1 Refused: month 13", "0 0 1 13 *", "the month '13'"),
    ("§4.1 Refused: day of the week 8", "0 0 * * 8", "the day-of-week '8'"),
    ("§4.1 Refused: a name that is none", "0 0 * * MONTAG", "the day-of-week 'MONTAG'"),
    ("§4.1 Refused: an hour in the seconds of six fields", "75 0 2 * * *", "the second '75'"),
    ("§4.1 Refused: a minute too many of six fields", "0 90 2 * * *", "the minute '90'"),
    ("§4.1 Refused: five fields read as six", "0 2 * * MON *", "the month 'MON'"),
    ("§4.1 Refused: a falling range", "0 0 * * FRI-MON", "the day-of-week 'FRI-MON'"),
    ("§4.1 Refused: a step of nothing", "*/0 * * * *", "the minute '*/0'"),
    ("§4.1 Refused: a negative number", "-5 * * * *", "the minute '-5'"),
    ("§4.1 Refused: a sixth Monday", "0 0 * * MON#6", "the day-of-week 'MON#6'"),
    ("§4.1 Refused: days before the last", "0 0 L-3 * *", "the day-of-month 'L-3'"),
    ("§4.1 Refused: 30 February", "0 0 30 2 *", "30 is in none of its months 2"),
    ("§4.1 Refused: 31 in short months", "0 0 31 APR,6,9,11 ?", "31 is in none of its months APR,6,9,11"),
    ("§4.1 Refused: the first as the fifth Monday", "0 0 */40 * MON#5", "never fires"),
    ("§4.1 Refused: signs that only look like digits", "٣ * * * *", "ASCII"),
    ("§4.1 Refused: a book", "1," * 200 + "1 * * * *", "at most 256"),
]


@pytest.mark.parametrize(("text", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_this_cron_is_refused_with_the_field_at_fault(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        Cron.parse(text)


def test_a_cron_is_kept_as_it_is_read() -> None:
    assert Cron.parse(" 0  2 ? * mon ") == Cron.parse("0 2 * * MON")
    assert Cron.parse("0 2 * * MON").text == "0 2 * * MON"
