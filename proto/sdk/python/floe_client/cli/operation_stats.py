"""How `floe op stats` reads a span of time, and shows operations in numbers."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from floe_client.cli.shell import Shell
from floe_client.errors import FieldViolation, InvalidArgument

if TYPE_CHECKING:
    from floe_client.types import GetOperationStatsResponse, OperationFigures

_SPAN: Final = re.compile(r"([1-9][0-9]{0,4})([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def span(text: str) -> timedelta:
    """`90m`, `24h`, `7d`, `4w`."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        message = f"{text!r} is no span of time; write a number and m, h, d or w, such as 24h"
        raise InvalidArgument(message, reason="INVALID_ARGUMENT", violations=[FieldViolation("window", message)])
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def show(shell: Shell, answer: GetOperationStatsResponse) -> None:
    from floe_client.cli.render import as_json, print_json, print_table, short, when
    from floe_client.types import OperationType

    if shell.as_json:
        print_json(as_json(answer))
        return
    rows = [(short(OperationType.Name(each.type), "OPERATION_TYPE_"), *_cells(each.figures)) for each in answer.types]
    if rows:
        rows.append(("all", *_cells(answer.overall)))
    print_table(
        ("TYPE", "TOTAL", "STATES", "SUCCESS", "MEDIAN", "P95", "REWRITTEN", "FAILURES", "VERIFIED"),
        rows,
        empty=f"no operations since {when(answer.since)}",
    )
    if rows:
        print(f"since {when(answer.since)}", file=sys.stderr)


def _cells(figures: OperationFigures) -> tuple[str, ...]:
    from floe_client.cli.render import number

    return (
        number(figures.total),
        _counts(figures.states),
        f"{figures.success_rate:.1%}" if figures.HasField("success_rate") else "",
        _seconds(figures.median_seconds) if figures.HasField("median_seconds") else "",
        _seconds(figures.p95_seconds) if figures.HasField("p95_seconds") else "",
        _rewritten(figures),
        _counts(figures.failures),
        _counts(figures.verifications),
    )


def _counts(counts: Mapping[str, int]) -> str:
    """The most frequent first."""
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{count} {name}" for name, count in ordered)


def _seconds(duration: float) -> str:
    from floe_client.cli.render import seconds

    return f"{duration:.1f}s" if duration < 10 else seconds(duration)


def _rewritten(figures: OperationFigures) -> str:
    """What nobody measured is left out."""
    from floe_client.cli.render import number, size

    metrics = figures.metrics
    parts = [
        f"{number(metrics.files_rewritten)} files" if metrics.HasField("files_rewritten") else "",
        size(metrics.bytes_rewritten) if metrics.HasField("bytes_rewritten") else "",
    ]
    return ", ".join(part for part in parts if part)
