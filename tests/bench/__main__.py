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
    """Memory is what one call adds, at its peak, to a process that is ready to answer; the whole process is noted."""
    found = bench_inspect()
    for name, side in (("ours", found.ours), ("inspect.files()", found.theirs)):
        report.note(
            f"{name}: {side['time'] * 1e3:.0f} ms; peak {side['added_memory'] / 1024:.0f} MiB above a ready process, "
            f"{side['peak_memory'] / 1024:.0f} MiB in all, the interpreter and its imports included"
        )
    first = report.at_most("inspect_time", found.ratio("time"), 0.3)
    return report.at_most("inspect_memory", found.ratio("added_memory"), 0.3) and first


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
