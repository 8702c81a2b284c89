"""Waking the loops of this process: a hint is remembered for everybody who has not waited since."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import timedelta
from typing import Any, Final
from weakref import WeakKeyDictionary

TOPICS: Final = (
    "operations",
    "observations",
    "answers",
    "events",
    "cancels",
    "due",
    "targets",
    "discovery",
    "leader",
)


class LocalHints:
    """The whole of `ports.records.Hints` within one process. A task's first wait takes every earlier hint."""

    def __init__(self) -> None:
        self._given: Counter[str] = Counter()
        self._seen: WeakKeyDictionary[asyncio.Task[Any], Counter[str]] = WeakKeyDictionary()
        self._waiters: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def give(self, topic: str) -> None:
        if topic not in TOPICS:
            raise ValueError(f"{topic!r} is no topic of hints; there are {', '.join(TOPICS)}")
        self._given[topic] += 1
        for waiter in self._waiters.pop(topic, ()):
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, topic: str, within: timedelta) -> None:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        seen = self._seen.setdefault(task, Counter())
        if self._given[topic] == seen[topic]:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters[topic].add(waiter)
            try:
                async with asyncio.timeout(within.total_seconds()):
                    await waiter
            except TimeoutError:
                pass
            finally:
                self._waiters[topic].discard(waiter)
        seen[topic] = self._given[topic]
