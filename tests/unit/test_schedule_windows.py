"""Windows, the ends of slots, and jitter. The rows name the sections of docs/semantics.md that they show."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control_plane.domain.schedule import (
    Window,
    never_due,
    next_slot,
    slot_end,
    window,
)
from tests.support.schedules import KEY, LORD_HOWE, NIGHT, ZURICH, at, schedule

WINDOWS = [
    ("§4.5 Window: none is written", {}, "2026-11-24T10:00", (None, None)),
    (
        "§4.5 Window: every day is allowed",
        {"allowedDays": ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]},
        "2026-11-24T10:00",
        (None, None),
    ),
    ("§4.5 Window: open at its start", NIGHT, "2026-11-24T22:00", ("2026-11-24T22:00", "2026-11-25T04:00")),
    ("§4.5 Window: open before its end", NIGHT, "2026-11-25T03:59:59.9", ("2026-11-24T22:00", "2026-11-25T04:00")),
    ("§4.5 Window: closed at its end", NIGHT, "2026-11-25T04:00", None),
    ("§4.5 Window: closed before its start", NIGHT, "2026-11-24T21:59:59", None),
    (
        "§4.5 Days: the night of an allowed day",
        {**NIGHT, "allowedDays": ["TUESDAY"]},
        "2026-11-25T03:00",
        ("2026-11-24T22:00", "2026-11-25T04:00"),
    ),
    ("§4.5 Days: the night before an allowed day", {**NIGHT, "allowedDays": ["WEDNESDAY"]}, "2026-11-25T03:00", None),
    (
        "§4.5 Days: allowed days in a row are one window",
        {"allowedDays": ["SATURDAY", "SUNDAY"]},
        "2026-11-28T10:00",
        ("2026-11-28T00:00", "2026-11-30T00:00"),
    ),
    (
        "§4.5 Window: a night with a gap is short",
        {**NIGHT, **ZURICH},
        "2026-03-29T01:00+01:00",
        ("2026-03-28T22:00+01:00", "2026-03-29T04:00+02:00"),
    ),
    (
        "§4.5 Window: a night with a fold is long",
        {**NIGHT, **ZURICH},
        "2026-10-25T02:30+01:00",
        ("2026-10-24T22:00+02:00", "2026-10-25T04:00+01:00"),
    ),
    (
        "§4.5 Window: an end in a gap",
        {"windowStart": "01:00", "windowEnd": "02:30", **ZURICH},
        "2026-03-29T01:59+01:00",
        ("2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
    ),
    (
        "§4.5 Window: an end in a fold",
        {"windowStart": "01:00", "windowEnd": "02:30", **ZURICH},
        "2026-10-25T02:29+02:00",
        ("2026-10-25T01:00+02:00", "2026-10-25T02:30+02:00"),
    ),
    (
        "§4.5 Window: closed in the second pass",
        {"windowStart": "01:00", "windowEnd": "02:30", **ZURICH},
        "2026-10-25T02:15+01:00",
        None,
    ),
    (
        "§4.5 Window: a start in a fold",
        {"windowStart": "02:30", "windowEnd": "04:00", **ZURICH},
        "2026-10-25T02:15+01:00",
        ("2026-10-25T02:30+02:00", "2026-10-25T04:00+01:00"),
    ),
    (
        "§4.5 Window: a fold of half an hour",
        {"windowStart": "01:30", "windowEnd": "02:00", **LORD_HOWE},
        "2026-04-05T01:45+10:30",
        ("2026-04-05T01:30+11:00", "2026-04-05T02:00+10:30"),
    ),
]


@pytest.mark.parametrize(("written", "instant", "span"), [row[1:] for row in WINDOWS], ids=[row[0] for row in WINDOWS])
def test_this_window_is_open(written: dict[str, Any], instant: str, span: tuple[str | None, str | None] | None) -> None:
    expected = span and Window(*(None if edge is None else at(edge) for edge in span))
    assert window(schedule(interval="PT1H", **written), at(instant)) == expected


ENDS = [
    ("§4.8 End: at the next slot", {"cronExpression": "0 * * * *"}, "2026-11-24T10:00", "2026-11-24T11:00"),
    (
        "§4.8 End: at the end of the window",
        {"cronExpression": "0 3 * * *", **NIGHT},
        "2026-11-24T03:00",
        "2026-11-24T04:00",
    ),
    (
        "§4.8 End: at the next slot inside the window",
        {"cronExpression": "0 * * * *", **NIGHT},
        "2026-11-24T22:00",
        "2026-11-24T23:00",
    ),
    ("§4.8 End: of an interval, one more later", {"interval": "PT6H"}, "2026-11-24T10:00", "2026-11-24T16:00"),
    (
        "§4.8 End: of an interval, at the end of the window",
        {"interval": "PT6H", **NIGHT},
        "2026-11-24T22:00",
        "2026-11-25T04:00",
    ),
    (
        "§4.8 End: of an interval, next opening of a closed one",
        {"interval": "PT1H", "allowedDays": ["MONDAY"]},
        "2026-11-23T23:30",
        "2026-11-24T00:00",
    ),
]


@pytest.mark.parametrize(("written", "slot", "end"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_a_slot_that_waits_is_given_up(written: dict[str, Any], slot: str, end: str) -> None:
    assert slot_end(schedule(**written), slot=at(slot)) == at(end)


JITTER = [
    ("§4.9 Jitter: inside its length", {"cronExpression": "0 2 * * *", "jitter": "PT30M"}, "2026-11-25T02:30"),
    (
        "§4.9 Jitter: not past the window",
        {"cronExpression": "50 3 * * *", "jitter": "PT1H", **NIGHT},
        "2026-11-25T04:00",
    ),
    ("§4.9 Jitter: not past the next slot", {"cronExpression": "0 * * * *", "jitter": "P1D"}, "2026-11-24T12:00"),
    ("§4.9 Jitter: of an interval", {"interval": "PT1H", "jitter": "PT10M"}, "2026-11-24T11:10"),
    ("§4.9 Jitter: a microsecond is none", {"interval": "PT1H", "jitter": "PT0.000001S"}, "2026-11-24T11:00:00.000001"),
]


@pytest.mark.parametrize(("written", "limit"), [row[1:] for row in JITTER], ids=[row[0] for row in JITTER])
def test_jitter_spreads_tables_up_to_here(written: dict[str, Any], limit: str) -> None:
    config, after = schedule(**written), at("2026-11-24T10:00")
    plain = schedule(**{name: value for name, value in written.items() if name != "jitter"})
    slot = next_slot(plain, key=KEY, after=after)
    assert slot is not None
    planned = [next_slot(config, key=f"lake/{table}/EXPIRE_SNAPSHOTS", after=after) for table in range(400)]
    assert {one.slot for one in planned if one} == {slot.slot}
    parts = sorted((one.due - slot.slot) / (at(limit) - slot.slot) for one in planned if one)
    assert parts[0] >= 0
    assert parts[-1] < 1
    if at(limit) - slot.slot > timedelta(seconds=1):
        tenths = [sum(1 for part in parts if tenth <= part * 10 < tenth + 1) for tenth in range(10)]
        assert min(tenths) >= 15, f"of 400 tables about 40 belong into each tenth: {tenths}"


def test_jitter_is_of_the_table_and_not_of_the_day() -> None:
    """§4.9: golden, because every replica and every version has to agree."""
    config = schedule(cronExpression="0 2 * * *", jitter="PT1H")
    first = next_slot(config, key=KEY, after=at("2026-11-24T10:00"))
    assert first is not None
    second = next_slot(config, key=KEY, after=first.slot)
    assert second is not None
    assert first.due - first.slot == second.due - second.slot == timedelta(minutes=51, seconds=42, microseconds=291_772)


NEVER = [
    ("§4.5 Never due: not in its window", {"cronExpression": "0 5 * * *", **NIGHT}, True),
    ("§4.5 Never due: not on its days", {"cronExpression": "0 5 * * MON", "allowedDays": ["TUESDAY"]}, True),
    (
        "§4.5 Never due: its night belongs to another day",
        {"cronExpression": "0 3 * * MON", "allowedDays": ["MONDAY"], **NIGHT},
        True,
    ),
    ("§4.5 Never due: seconds before it opens", {"cronExpression": "59 59 21 * * *", **NIGHT}, True),
    ("§4.5 Due: at its start", {"cronExpression": "0 22 * * *", **NIGHT}, False),
    ("§4.5 Due: after four years", {"cronExpression": "0 0 29 2 *"}, False),
    (
        "§4.5 Due: once a year, in a gap",
        {"cronExpression": "30 2 * * *", "windowStart": "03:00", "windowEnd": "04:00", **ZURICH},
        False,
    ),
    ("§4.5 Due: an interval always", {"interval": "P30D", "windowStart": "02:00", "windowEnd": "02:01"}, False),
]


@pytest.mark.parametrize(("written", "never"), [row[1:] for row in NEVER], ids=[row[0] for row in NEVER])
def test_a_cron_that_never_meets_its_window_is_found(written: dict[str, Any], never: bool) -> None:
    assert never_due(schedule(**written)) == never
