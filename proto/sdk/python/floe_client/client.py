"""The client of Floe for asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from floe.v1.operation_pb2 import OperationType
from floe_client.catalogs import AsyncCatalogs
from floe_client.decisions import AsyncDecisions
from floe_client.executors import AsyncExecutors
from floe_client.operations import AsyncOperationHandle, AsyncOperations, AsyncTrigger, trigger
from floe_client.policies import AsyncPolicies
from floe_client.system import AsyncSystem
from floe_client.tables import AsyncTables, TableName
from floe_client.transport import DEFAULT_TIMEOUT, Transport, server_address


class AsyncFloe:
    """A connection to a control plane; made anywhere, used in one event loop, closed by `async with` or `close`.

    The server is the address given, else the environment's FLOE_SERVER, else 127.0.0.1:9090. Every call has a deadline
    of `timeout` seconds unless it says otherwise, is tried again only if nobody answered, and fails with a `FloeError`.
    A mutation is done once however often it is sent: it carries a request id of its own, or the one that is given.
    """

    def __init__(self, server: str | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._transport = Transport(server_address(server), timeout=timeout)
        self.policies = AsyncPolicies(self._transport)
        self.catalogs = AsyncCatalogs(self._transport)
        self.tables = AsyncTables(self._transport)
        self.operations = AsyncOperations(self._transport)
        self.decisions = AsyncDecisions(self._transport)
        self.executors = AsyncExecutors(self._transport)
        self.system = AsyncSystem(self._transport)

    @property
    def server(self) -> str:
        return self._transport.server

    def operation(self, id: str) -> AsyncOperationHandle:
        """The operation of that id, which is not asked for yet."""
        return AsyncOperationHandle(self.operations, id)

    async def trigger(
        self,
        table: TableName | str | None = None,
        *,
        policy: str = "",
        operations: Sequence[str | OperationType.ValueType] = (),
        request_id: str | None = None,
        validate_only: bool = False,
        pattern: str = "",
        max_tables: int = 0,
        respect_conditions: bool = False,
        plan_hash: str = "",
    ) -> AsyncTrigger:
        """Queue maintenance of one table, or of all known tables that a pattern matches: of every type that their
        policies configure, or of those that are named. `respect_conditions`: only what its conditions would run now.
        `plan_hash`, from `decisions.plan`: only if the table and its policies still are as they were.
        """
        answer = await trigger(
            self._transport,
            table,
            policy=policy,
            operations=operations,
            request_id=request_id,
            validate_only=validate_only,
            pattern=pattern,
            max_tables=max_tables,
            respect_conditions=respect_conditions,
            plan_hash=plan_hash,
        )
        handles = [self.operation(operation.id) for run in answer.runs for operation in run.operations]
        return AsyncTrigger(answer.trigger_id, answer.runs, handles)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
