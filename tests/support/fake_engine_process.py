"""The process in which the fake engine changes its tables: one line of JSON a command, one thread a run."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.fake_tables import Behaviour, Behaviours, EffectLog

_LOOKS_AGAIN_AFTER = 0.01
_OUTLIVES_ITS_EXECUTOR = 60.0


class Worker:
    """`executor` is the process that a behaviour which dies kills."""

    def __init__(self, directory: Path, executor: int) -> None:
        self._log = EffectLog(directory)
        self._behaviours = Behaviours(directory)
        self._executor = executor
        self._cancelled: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def serve(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "cancel" in message:
                self._cancelled.setdefault(message["cancel"], threading.Event()).set()
            else:
                self._cancelled[message["run"]] = threading.Event()
                threading.Thread(target=self._run, args=(message,), daemon=True).start()
        # The executor is gone. An engine at its worst does not care: somebody has to kill it.
        time.sleep(_OUTLIVES_ITS_EXECUTOR)

    def _run(self, message: dict[str, Any]) -> None:
        operation, epoch, table = message["run"], message["epoch"], message["table"]
        behaviour = self._behaviours.get(f"{operation}-{epoch}", operation, table)
        snapshots: list[int] = []
        stopped = self._at("before", behaviour, operation, epoch)
        if not stopped and behaviour.commits and not behaviour.fails:
            snapshot = random.randint(1, 2**62)
            about = {"table": table, "operation": operation, "epoch": epoch, "snapshot": snapshot}
            self._log.append("effect_begin", **about)
            stopped = self._at("inside", behaviour, operation, epoch)
            if not stopped:
                self._log.append("effect_end", **about)
                snapshots.append(snapshot)
                stopped = self._at("after", behaviour, operation, epoch)
        answer = {
            "run": operation,
            "snapshots": snapshots,
            "effects": behaviour.claims or ("COMMITTED" if snapshots else "NONE"),
            "fails": behaviour.fails,
            "cancelled": stopped,
        }
        with self._lock:
            sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
            sys.stdout.buffer.flush()

    def _at(self, place: str, behaviour: Behaviour, operation: str, epoch: int) -> bool:
        """Do what is to be done here. Whether the run was cancelled meanwhile."""
        cancelled = self._cancelled[operation]
        if behaviour.dies == place:
            os.kill(self._executor, signal.SIGKILL)
            # The watchdog ends this process now: nothing more may happen here.
            threading.Event().wait()
        if behaviour.hang == place:
            reached = self._behaviours.reached(operation, epoch)
            unfinished = reached.with_name(f".{reached.name}")
            unfinished.write_text(place)
            unfinished.replace(reached)
            while not self._behaviours.is_released(operation):
                if cancelled.is_set() and not behaviour.ignores_cancel:
                    return True
                time.sleep(_LOOKS_AGAIN_AFTER)
        return cancelled.is_set() and not behaviour.ignores_cancel


if __name__ == "__main__":
    Worker(Path(sys.argv[1]), int(sys.argv[2])).serve()
