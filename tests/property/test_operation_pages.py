"""Page after page gives each operation once, whatever finishes in between."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.operation import Operation
from control_plane.ports.operations import OperationFilter
from control_plane.store.memory import MemoryStore
from tests.support import factories
from tests.support.clock import ManualClock
from tests.support.scene import Scene
from tests.support.stores import RULES


@given(ages=st.lists(st.integers(0, 5), max_size=30), size=st.integers(1, 7), finishing=st.lists(st.integers(0, 29)))
def test_every_operation_is_on_one_page(ages: list[int], size: int, finishing: list[int]) -> None:
    async def walk() -> None:
        store = MemoryStore(ManualClock(), rules=RULES)
        await store.catalogs.create(factories.catalog())
        scene = Scene(store)
        now = await store.now()
        made = [await scene.enqueue(create_time=now - timedelta(minutes=age)) for age in ages]
        waiting = [made[index].id for index in dict.fromkeys(finishing) if index < len(made)]
        listed: list[Operation] = []
        after = None
        while True:
            page = await store.operations.list(OperationFilter(), after=after, limit=size)
            assert len(page.operations) <= size
            listed.extend(page.operations)
            if page.next is None:
                break
            after = page.next
            if waiting:
                await scene.cancel(waiting.pop())
        expected = sorted(made, key=lambda operation: (operation.create_time, operation.id), reverse=True)
        assert [operation.id for operation in listed] == [operation.id for operation in expected]

    asyncio.run(walk())
