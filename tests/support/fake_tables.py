"""Tables that are lines in a file: what a fake engine did to them, each line on disk before the next step.

One file serves all executors of a test. Whoever asks whether a table was changed, when and by whom, asks this file and
no process: it is what survives a kill.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "FLOE_TEST_ENGINE_DIRECTORY"
"""Names the directory of the effect log and of the behaviours."""

_NAMES = uuid.UUID("6f6c0d0a-51a8-4b0e-9f06-0f0f6c6f6565")


@dataclass(frozen=True, slots=True)
class Effect:
    """One step of one change. A change without its `effect_end` was cut off: nothing is in the table."""

    f: str
    """`effect_begin` or `effect_end`."""
    table: str
    operation: str
    epoch: int
    snapshot: int
    pid: int
    t_mono: int
    """CLOCK_MONOTONIC in nanoseconds: one clock for all processes of the machine."""


class EffectLog:
    """Appends are single writes followed by fsync, so lines of several processes never mix."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "effects.jsonl"

    def append(self, f: str, *, table: str, operation: str, epoch: int, snapshot: int) -> None:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        effect = Effect(f, table, operation, epoch, snapshot, os.getpid(), now)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(asdict(effect)).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def effects(self, table: str | None = None) -> Sequence[Effect]:
        """All of them, or one table's, as they were written."""
        if not self._path.exists():
            return []
        lines = self._path.read_text().splitlines()
        effects = [Effect(**json.loads(line)) for line in lines]
        return [effect for effect in effects if table in (None, effect.table)]

    def commits(self, table: str) -> Sequence[Effect]:
        """What is in the table."""
        return [effect for effect in self.effects(table) if effect.f == "effect_end"]

    def overlaps(self) -> Sequence[tuple[Effect, Effect]]:
        """Pairs of changes of one table of which the second began before the first had ended. There must be none.

        A change that was cut off by a kill has no end, and cannot overlap.
        """
        found: list[tuple[Effect, Effect]] = []
        open_: dict[str, Effect] = {}
        ends = {(e.table, e.operation, e.epoch) for e in self.effects() if e.f == "effect_end"}
        for effect in sorted(self.effects(), key=lambda each: each.t_mono):
            if (effect.table, effect.operation, effect.epoch) not in ends:
                continue
            if effect.f == "effect_end":
                open_.pop(effect.table, None)
            elif (first := open_.get(effect.table)) is not None:
                found.append((first, effect))
            else:
                open_[effect.table] = effect
        return found


def table_uuid(catalog: str, namespace: Sequence[str], name: str) -> str:
    """The UUID of the fake table of that name."""
    return str(uuid.uuid5(_NAMES, ".".join((catalog, *namespace, name))))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the engine does with an operation. Written before the operation starts, by the test."""

    hang: str = ""
    """`before`, `inside` or `after` the commit: wait there until `release`, or until it is cancelled."""
    ignores_cancel: bool = False
    commits: bool = True
    dies: str = ""
    """`before` or `after` the commit: the executor is killed there, as by kill -9."""
    fails: str = ""
    """A failure class that the result carries."""
    claims: str = ""
    """The effects that the result says it had, whatever they were."""


class Behaviours:
    """Files that tell every fake engine of a test what to do: per operation, per table UUID, or by default."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def set(self, behaviour: Behaviour, name: str = "default") -> None:
        self._write(f"behaviour-{name}.json", json.dumps(asdict(behaviour)))

    def get(self, *names: str) -> Behaviour:
        for name in (*names, "default"):
            path = self._directory / f"behaviour-{name}.json"
            if path.exists():
                return Behaviour(**json.loads(path.read_text()))
        return Behaviour()

    def release(self, operation: str = "all") -> None:
        """Let what hangs go on."""
        self._write(f"release-{operation}", "")

    def is_released(self, operation: str) -> bool:
        return any((self._directory / f"release-{name}").exists() for name in ("all", operation))

    def reached(self, operation: str, epoch: int) -> Path:
        """A file that is there once this attempt hangs where it was told to; it holds the place."""
        return self._directory / f"reached-{operation}-{epoch}"

    def _write(self, name: str, content: str) -> None:
        unfinished = self._directory / f".{name}.{os.getpid()}"
        unfinished.write_text(content)
        unfinished.replace(self._directory / name)
