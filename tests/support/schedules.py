"""Schedules as they are written, for tests of when they come due."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from control_plane.domain.schedule import next_slot
from control_plane.domain.schedule_config import ScheduleConfig

KEY = "lake/0b8c9a52/REWRITE_DATA_FILES"
ZURICH = {"timeZone": "Europe/Zurich"}
NEW_YORK = {"timeZone": "America/New_York"}
LORD_HOWE = {"timeZone": "Australia/Lord_Howe"}
APIA = {"timeZone": "Pacific/Apia"}
ST_JOHNS = {"timeZone": "America/St_Johns"}
NIGHT = {"windowStart": "22:00", "windowEnd": "04:00"}


def schedule(**written: Any) -> ScheduleConfig:
    return ScheduleConfig.model_validate_json(json.dumps(written))


def at(text: str) -> datetime:
    """UTC, unless an offset is written."""
    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)


@dataclass(frozen=True)
class Slots:
    """The slots that follow an instant, written with the offset of their zone."""

    name: str
    written: dict[str, Any]
    after: str
    slots: Sequence[str] = field(default_factory=tuple)


def cron(name: str, expression: str, after: str, *slots: str, **more: Any) -> Slots:
    return Slots(name, {"cronExpression": expression, **more}, after, slots)


def interval(name: str, length: str, after: str, *slots: str, **more: Any) -> Slots:
    return Slots(name, {"interval": length, **more}, after, slots)


def assert_slots(row: Slots) -> None:
    config, after = schedule(**row.written), at(row.after)
    for expected in row.slots:
        planned = next_slot(config, key=KEY, after=after)
        assert planned is not None
        assert planned.slot.astimezone(config.zone).isoformat() == at(expected).astimezone(config.zone).isoformat()
        assert planned.due == planned.slot
        assert planned.slot.tzinfo is UTC
        after = planned.slot
