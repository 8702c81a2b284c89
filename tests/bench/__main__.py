"""`make bench`: every figure, measured beside its comparator in the same run, interleaved. Names as arguments select
some.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from tests.bench import api, report, scheduling
from tests.bench.explain import explain
from tests.bench.inspection import Inspections, bench_inspect
from tests.bench.overhead import operation_overhead
from tests.bench.resolve import resolve_by_index


def inspect() -> bool:
    """Memory is what one call adds, at its peak, to a process that is ready to answer; the whole process is noted."""
    found = bench_inspect()
    _note_sides(found)
    first = report.at_most("inspect_time", found.ratio("time"), 0.3)
    return report.at_most("inspect_memory", found.ratio("added_memory"), 0.3) and first


def inspect_many_manifests() -> bool:
    """20,000 data files in 200 manifests: at first, and again after a commit that added one manifest."""
    found = bench_inspect(files=20_000, manifests=200, rounds=3)
    _note_sides(found)
    ours = found.ours
    report.note(
        f"again with one new manifest: {ours['again'] * 1e3:.1f} ms; in a worker that has just started: "
        f"{ours['restarted'] * 1e3:.0f} ms; what was learnt is kept in {ours['saving'] * 1e3:.0f} ms behind the answer"
    )
    met = [
        report.at_least("inspect_cold", 1 / found.ratio("time"), 10),
        report.at_most("inspect_cold_memory", found.ratio("added_memory"), 0.2),
        report.at_most("inspect_again", ours["again"] / ours["time"], 0.1),
    ]
    return all(met)


def _note_sides(found: Inspections) -> None:
    for name, side in (("ours", found.ours), ("inspect.files()", found.theirs)):
        report.note(
            f"{name}: {side['time'] * 1e3:.0f} ms; peak {side['added_memory'] / 1024:.0f} MiB above a ready process, "
            f"{side['peak_memory'] / 1024:.0f} MiB in all, the interpreter and its imports included"
        )


FIGURES: dict[str, Callable[[], bool]] = {
    "operation_overhead": lambda: asyncio.run(operation_overhead()),
    "trigger_to_executor": lambda: asyncio.run(api.trigger_to_executor()),
    "trigger_rate": lambda: asyncio.run(api.trigger_rate()),
    "idle_sql": lambda: asyncio.run(api.idle_sql()),
    "inspect": inspect,
    "inspect_cold": inspect_many_manifests,
    "resolve": resolve_by_index,
    "tick_idle": lambda: asyncio.run(scheduling.tick_idle()),
    "slots_due": lambda: asyncio.run(scheduling.slots_due()),
    "loop_gap": lambda: asyncio.run(scheduling.loop_gap()),
    "explain": lambda: asyncio.run(explain()),
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
