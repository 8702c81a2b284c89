"""How answers look: tables and durations for people, protobuf JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from floe_client.cli.exits import printable

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.console import Console

_WIDE: Final = 400
_STYLES: Final = {
    "SUCCEEDED": "green",
    "HEALTHY": "green",
    "ATTACHED": "green",
    "ok": "green",
    "RUNNING": "cyan",
    "LEASED": "cyan",
    "VERIFYING": "cyan",
    "RECONCILING": "yellow",
    "WARNING": "yellow",
    "DRAINING": "yellow",
    "CANCELLED": "yellow",
    "EXPIRED": "yellow",
    "FAILED": "bold red",
    "CRITICAL": "bold red",
    "failed": "bold red",
}


def console() -> Console:
    """Standard output. Off a terminal nothing is cut to a width."""
    from rich.console import Console

    plain = Console(highlight=False, soft_wrap=False)
    return plain if plain.is_terminal else Console(highlight=False, width=_WIDE)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Rows under their headings; without any row, `empty` on standard error, so that a pipe gets nothing."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    if table.row_count:
        console().print(table)
    else:
        print(empty, file=sys.stderr)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line; empty values are left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        if value:
            table.add_row(name, Text(printable(value), style=_STYLES.get(value, "")))
    console().print(table)


def print_json(document: Any) -> None:
    """One JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_json_line(document: Any) -> None:
    """One JSON document in one line, out at once."""
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")), flush=True)


def as_json(message: Message, *, complete: bool = True) -> dict[str, Any]:
    """The message in protobuf's JSON mapping; `complete` with the fields that have their default value."""
    from google.protobuf.json_format import MessageToDict

    document: dict[str, Any] = MessageToDict(message, always_print_fields_with_no_presence=complete)
    return document


def short(name: str, prefix: str) -> str:
    """An enum's name without the prefix that all its names have; unspecified is empty."""
    return name.removeprefix(prefix).replace("UNSPECIFIED", "")


def when(timestamp: Timestamp) -> str:
    """A moment, in UTC; empty if unset."""
    return moment(timestamp.seconds) if timestamp.seconds else ""


def moment(epoch_seconds: float) -> str:
    """A moment, in UTC."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def age(timestamp: Timestamp, *, now: datetime | None = None) -> str:
    """How long ago, in the largest unit that says it; empty if unset."""
    if not timestamp.seconds:
        return ""
    passed = (now or datetime.now(UTC)) - timestamp.ToDatetime(tzinfo=UTC)
    return seconds(max(0.0, passed.total_seconds()))


def seconds(duration: float) -> str:
    """`12s`, `3m20s`, `2h05m`, `4d3h`."""
    whole = int(duration)
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600}h"


def size(count: float) -> str:
    """`512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1_024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1_024
    return f"{count:.1f} PiB"


def number(value: float) -> str:
    """`1 234`-like grouping for counts, two digits for fractions."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
