"""Every loop of a replica, with its interval."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from control_plane.loops.periodic import repeat
from control_plane.ports.operations import Retention
from control_plane.ports.records import Store
from control_plane.services.dispatch import Dispatcher
from control_plane.services.recovery import RecoveryService

# The poll is the truth and hints only hurry it, so these bound how late anything is noticed without a hint.
_HAND_OUT: Final = timedelta(seconds=2)
_CANCELS: Final = timedelta(seconds=1)
_SWEEP: Final = timedelta(seconds=1)
_ANSWERS: Final = timedelta(seconds=2)
_TOUCH: Final = timedelta(seconds=5)
_CLEAN: Final = timedelta(hours=1)


async def run_loops(store: Store, dispatcher: Dispatcher, recovery: RecoveryService, *, retention: Retention) -> None:
    """All of them, until cancelled."""
    hints = store.hints
    async with asyncio.TaskGroup() as loops:
        loops.create_task(
            repeat("hand_out", dispatcher.hand_out, every=_HAND_OUT, hints=hints, topic="operations", again=True)
        )
        loops.create_task(
            repeat(
                "hand_out_looks",
                dispatcher.hand_out_looks,
                every=_HAND_OUT,
                hints=hints,
                topic="observations",
                again=True,
            )
        )
        loops.create_task(repeat("cancels", dispatcher.pass_on_cancels, every=_CANCELS, hints=hints, topic="cancels"))
        loops.create_task(repeat("touch", dispatcher.touch, every=_TOUCH))
        loops.create_task(repeat("sweep", recovery.sweep, every=_SWEEP, hints=hints, topic="due"))
        loops.create_task(
            repeat("answers", recovery.act_on_answers, every=_ANSWERS, hints=hints, topic="answers", again=True)
        )
        loops.create_task(repeat("sweep_observations", recovery.sweep_observations, every=_TOUCH))
        loops.create_task(repeat("clean", lambda: store.clean(retention), every=_CLEAN))
