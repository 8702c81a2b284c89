"""One line a call, at the level that its end deserves. What is not a refusal is logged here, once, with traceback."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc
import grpc.aio
import structlog

from control_plane.rpc.errors import ServerLeaving, find_domain_error, status_of
from control_plane.rpc.interceptors.chain import Call

logger: Final = structlog.get_logger(__name__)


@asynccontextmanager
async def logging(call: Call) -> AsyncIterator[None]:
    begun = time.monotonic()

    def took() -> float:
        return round(time.monotonic() - begun, 4)

    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        status = status_of(error)
        if find_domain_error(error) is None and not isinstance(error, ServerLeaving):
            logger.exception("rpc.failed", rpc=call.method, code=status.code.name, seconds=took())
        elif status.code is grpc.StatusCode.UNAVAILABLE and status.reason:
            logger.warning(
                "rpc.refused", rpc=call.method, code=status.code.name, reason=status.reason, why=status.message
            )
        else:
            logger.info("rpc.refused", rpc=call.method, code=status.code.name, reason=status.reason, seconds=took())
        raise
    else:
        logger.debug("rpc.answered", rpc=call.method, seconds=took())
