"""What came due while nobody looked. The rows name the sections of docs/semantics.md that they show."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from control_plane.domain.cron import Cron
from control_plane.domain.schedule import (
    Missed,
    missed,
    next_slot,
)
from tests.support.schedules import KEY, at, schedule

MISSED = [
    ("§4.10 Missed: none but itself", {"cronExpression": "0 * * * *"}, "10:00", "10:59:59", 100, ("10:00", 1, True)),
    ("§4.10 Missed: one that is due now", {"cronExpression": "0 * * * *"}, "10:00", "11:00", 100, ("11:00", 2, True)),
    ("§4.10 Missed: three", {"cronExpression": "0 * * * *"}, "10:00", "12:30", 100, ("12:00", 3, True)),
    (
        "§4.10 Missed: as many as are counted",
        {"cronExpression": "* * * * *"},
        "10:00",
        "10:09",
        10,
        ("10:09", 10, True),
    ),
    (
        "§4.10 Missed: more than are counted",
        {"cronExpression": "* * * * *"},
        "10:00",
        "10:10",
        10,
        ("10:10", 10, False),
    ),
    (
        "§4.10 Missed: inside the window only",
        {"cronExpression": "0 * * * *", "windowStart": "10:00", "windowEnd": "12:00"},
        "10:00",
        "23:00",
        100,
        ("11:00", 2, True),
    ),
    ("§4.10 Missed: an interval has one", {"interval": "PT1M"}, "10:00", "23:00", 100, ("10:00", 1, True)),
]


@pytest.mark.parametrize(
    ("written", "slot", "now", "most", "expected"), [row[1:] for row in MISSED], ids=[row[0] for row in MISSED]
)
def test_so_much_was_missed(
    written: dict[str, Any], slot: str, now: str, most: int, expected: tuple[str, int, bool]
) -> None:
    first, last, now_ = (at(f"2026-11-24T{hour}") for hour in (slot, expected[0], now))
    found = missed(schedule(**written), key=KEY, slot=first, now=now_, most=most)
    assert found == Missed(first, last, expected[1], exact=expected[2])


def test_a_slot_is_missed_only_when_its_jitter_is_over() -> None:
    """§4.10."""
    config = schedule(cronExpression="0 * * * *", jitter="PT1H")
    slot = next_slot(config, key=KEY, after=at("2026-11-24T10:00"))
    assert slot is not None
    second = next_slot(config, key=KEY, after=slot.slot)
    assert second is not None
    early = missed(config, key=KEY, slot=slot.slot, now=second.due - timedelta(microseconds=1), most=10)
    assert early == Missed(slot.slot, slot.slot, 1)
    assert missed(config, key=KEY, slot=slot.slot, now=second.due, most=10) == Missed(slot.slot, second.slot, 2)


@pytest.mark.parametrize(
    ("expression", "now", "last"),
    [
        ("* * * * * *", "2026-12-25T10:11:12.5", "2026-12-25T10:11:12"),
        ("* * 23 * * *", "2027-11-24T12:00", "2027-11-23T23:59:59"),
        ("0 0 29 2 *", "2047-01-01T00:00", "2044-02-29T00:00"),
    ],
    ids=["§4.10 Missed: a month of seconds", "§4.10 Missed: a year of hours of seconds", "§4.10 Missed: leap days"],
)
def test_a_long_downtime_costs_a_bounded_number_of_searches(
    expression: str, now: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = 0
    search = Cron.next_after

    def counted(cron: Cron, instant: datetime, zone: ZoneInfo) -> datetime | None:
        nonlocal searches
        searches += 1
        return search(cron, instant, zone)

    monkeypatch.setattr(Cron, "next_after", counted)
    config = schedule(cronExpression=expression)
    slot = next_slot(config, key=KEY, after=at("2026-11-24T10:00"))
    assert slot is not None
    found = missed(config, key=KEY, slot=slot.slot, now=at(now), most=1_000_000)
    assert found.last == at(last)
    assert found.exact == (found.count < 10_000)
    assert searches <= 10_100
