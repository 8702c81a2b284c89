"""Who calls. Until callers can be identified both servers listen on this machine alone, and the caller is its user."""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import cache
from typing import Final

from control_plane.rpc.interceptors.chain import Call

_CALLER: Final[ContextVar[str]] = ContextVar("floe_caller")


def current_caller() -> str:
    """Who makes the call that this task handles, for example `local:alice`."""
    return _CALLER.get()


@asynccontextmanager
async def identity(_call: Call) -> AsyncIterator[None]:
    token = _CALLER.set(_local_user())
    try:
        yield
    finally:
        _CALLER.reset(token)


@cache
def _local_user() -> str:
    try:
        return f"local:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"local:uid-{os.getuid()}"  # A container's user often has no name.
