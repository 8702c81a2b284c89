"""`make bench`: every figure, measured beside its comparator in the same run, interleaved. Names as arguments select
some.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from tests.bench import api, report
from tests.bench.inspection import bench_inspect
from tests.bench.overhead import operation_overhead


def inspect() -> bool:
    ratios = bench_inspect()
    first = report.at_most("inspect_time", ratios.time, 0.3)
    return report.at_most("inspect_memory", ratios.peak_memory, 0.3) and first


FIGURES: dict[str, Callable[[], bool]] = {
    "operation_overhead": lambda: asyncio.run(operation_overhead()),
    "trigger_to_executor": lambda: asyncio.run(api.trigger_to_executor()),
    "trigger_rate": lambda: asyncio.run(api.trigger_rate()),
    "idle_sql": lambda: asyncio.run(api.idle_sql()),
    "inspect": inspect,
    "list_flat": lambda: asyncio.run(api.list_flat()),
}


def main() -> int:
    """0 if every figure met its goal."""
    chosen = sys.argv[1:] or list(FIGURES)
    if unknown := [name for name in chosen if name not in FIGURES]:
        sys.stderr.write(f"no figure {', '.join(unknown)}; there are {', '.join(FIGURES)}\n")
        return 2
    return 0 if all([FIGURES[name]() for name in chosen]) else 1


if __name__ == "__main__":
    sys.exit(main())
