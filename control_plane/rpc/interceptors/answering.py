"""Outermost: turns what a handler raised into a status. Nobody else aborts a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

from control_plane.rpc.errors import status_of
from control_plane.rpc.interceptors.chain import Call


@asynccontextmanager
async def answering(call: Call) -> AsyncIterator[None]:
    try:
        yield
    except grpc.aio.AbortError:
        raise  # gRPC's own health and reflection services answer for themselves.
    except Exception as error:
        status = status_of(error)
        await call.context.abort(status.code, status.message, status.trailers)
