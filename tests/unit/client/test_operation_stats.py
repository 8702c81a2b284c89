"""Spans of time as `floe op stats` reads them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from floe_client import InvalidArgument
from floe_client.cli.operation_stats import span


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90m", timedelta(minutes=90)),
        ("24h", timedelta(days=1)),
        (" 7d ", timedelta(days=7)),
        ("4w", timedelta(days=28)),
    ],
)
def test_a_span_of_time_is_a_number_and_a_unit(text: str, time: timedelta) -> None:
    assert span(text) == time


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1.5h", "1y", "7 days", "1d2h", "999999d", "٣d"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no span of time") as refusal:
        span(text)

    assert [violation.field for violation in refusal.value.violations] == ["window"]
