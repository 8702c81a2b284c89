"""The comparators: the least that any service with the same promises has to do. Each runs in a process of its own.

`python -m tests.bench.bare DSN` serves, on a free loopback port that it prints, a unary call that inserts one row and
commits, and a stream that answers each message.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import asyncpg
import grpc
import grpc.aio

INSERT = "/bench.Bare/Insert"
PING = "/bench.Bare/Ping"


class Bare(grpc.GenericRpcHandler):
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        match details.method:
            case "/bench.Bare/Insert":
                return grpc.unary_unary_rpc_method_handler(self._insert)
            case "/bench.Bare/Ping":
                return grpc.stream_stream_rpc_method_handler(self._ping)
        return None

    async def _insert(self, request: bytes, context: object) -> bytes:
        await self._pool.execute("INSERT INTO bare (payload) VALUES ($1)", request)
        return request

    async def _ping(self, requests: Any, context: Any) -> None:
        async for request in requests:
            await context.write(request)


async def main(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=8, max_size=16) as pool:
        await pool.execute("CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, payload bytea)")
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Bare(pool),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
