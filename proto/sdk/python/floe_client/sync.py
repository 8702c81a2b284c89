"""The client of Floe for programs without an event loop: the async client, run in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from floe.v1 import (
    catalog_pb2,
    decision_pb2,
    executor_pb2,
    operation_pb2,
    policy_pb2,
    system_pb2,
    table_pb2,
    trigger_pb2,
)
from floe_client.client import AsyncFloe
from floe_client.errors import Unavailable
from floe_client.operations import AsyncOperationHandle
from floe_client.paging import AsyncPager, Pager
from floe_client.policies import Applied
from floe_client.tables import TableName
from floe_client.transport import DEFAULT_TIMEOUT
from floe_client.watching import Update

Result = TypeVar("Result")

_CANCEL_WITHIN = 5.0


class _LoopThread:
    """An event loop in a thread, to which other threads hand work and wait for it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="floe-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of the work, which is cancelled if the wait for it is interrupted."""
        if self._loop.is_closed():
            work.close()
            raise Unavailable("this client is closed; make a new one")
        ended = threading.Event()

        async def until_the_end() -> Result:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(until_the_end(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            # What is cancelled has to have ended before what it used can be closed.
            ended.wait(timeout=_CANCEL_WITHIN)
            raise

    def iterate(self, items: AsyncGenerator[Result, None]) -> Iterator[Result]:
        async def step() -> tuple[Result] | None:
            async for item in items:
                return (item,)
            return None

        try:
            while (found := self.run(step())) is not None:
                yield found[0]
        finally:
            self.run(items.aclose())

    def pager(self, pager: AsyncPager[Result]) -> Pager[Result]:
        return Pager(lambda token: self.run(pager.page(token)))

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class Policies:
    """Which tables are maintained, by which operations, and how."""

    def __init__(self, client: AsyncFloe, loop: _LoopThread) -> None:
        self._policies = client.policies
        self._loop = loop

    def create(
        self, policy: policy_pb2.Policy, *, request_id: str | None = None, validate_only: bool = False
    ) -> policy_pb2.Policy:
        return self._loop.run(self._policies.create(policy, request_id=request_id, validate_only=validate_only))

    def get(self, name: str, *, generation: int = 0) -> policy_pb2.Policy:
        """As it is now, or as it was when a generation began."""
        return self._loop.run(self._policies.get(name, generation=generation))

    def list(self, *, page_size: int = 0) -> Pager[policy_pb2.Policy]:
        return self._loop.pager(self._policies.list(page_size=page_size))

    def update(
        self,
        policy: policy_pb2.Policy,
        *,
        update_mask: tuple[str, ...] = (),
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> policy_pb2.Policy:
        """Change the fields of the mask, `*` for all of them; without a mask those that are set."""
        return self._loop.run(
            self._policies.update(policy, update_mask=update_mask, request_id=request_id, validate_only=validate_only)
        )

    def delete(self, name: str, *, etag: str = "", request_id: str | None = None, validate_only: bool = False) -> None:
        self._loop.run(self._policies.delete(name, etag=etag, request_id=request_id, validate_only=validate_only))

    def apply(self, policy: policy_pb2.Policy, *, validate_only: bool = False) -> Applied:
        """Make the stored policy of this name what `policy` says: created, updated as a whole, or left as it is."""
        return self._loop.run(self._policies.apply(policy, validate_only=validate_only))

    def apply_all(
        self,
        policies: Sequence[policy_pb2.Policy],
        *,
        managed_by: str = "",
        prune: bool = False,
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> policy_pb2.ApplyPoliciesResponse:
        """Make the stored policies what this set says, all of it or nothing."""
        return self._loop.run(
            self._policies.apply_all(
                policies, managed_by=managed_by, prune=prune, request_id=request_id, validate_only=validate_only
            )
        )

    def preview(
        self, policy: policy_pb2.Policy | str, *, page_size: int = 0, page_token: str = ""
    ) -> policy_pb2.PreviewPolicyResponse:
        """What a policy would do, stored under this name or as written here."""
        return self._loop.run(self._policies.preview(policy, page_size=page_size, page_token=page_token))

    def preview_tables(
        self, policy: policy_pb2.Policy | str, *, page_size: int = 0
    ) -> Pager[policy_pb2.PreviewedTable]:
        """Every table that the policy matches, and who would govern it."""
        return self._loop.pager(self._policies.preview_tables(policy, page_size=page_size))


class Catalogs:
    """The Iceberg catalogs that are looked after."""

    def __init__(self, client: AsyncFloe, loop: _LoopThread) -> None:
        self._catalogs = client.catalogs
        self._loop = loop

    def create(
        self, catalog: catalog_pb2.Catalog, *, request_id: str | None = None, validate_only: bool = False
    ) -> catalog_pb2.Catalog:
        return self._loop.run(self._catalogs.create(catalog, request_id=request_id, validate_only=validate_only))

    def get(self, name: str) -> catalog_pb2.Catalog:
        return self._loop.run(self._catalogs.get(name))

    def list(self, *, page_size: int = 0) -> Pager[catalog_pb2.Catalog]:
        return self._loop.pager(self._catalogs.list(page_size=page_size))

    def update(
        self,
        catalog: catalog_pb2.Catalog,
        *,
        update_mask: tuple[str, ...] = (),
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> catalog_pb2.Catalog:
        """Change the fields of the mask, `*` for all that may change; without a mask those that are set."""
        return self._loop.run(
            self._catalogs.update(catalog, update_mask=update_mask, request_id=request_id, validate_only=validate_only)
        )

    def delete(
        self,
        name: str,
        *,
        etag: str = "",
        force: bool = False,
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> None:
        self._loop.run(
            self._catalogs.delete(name, etag=etag, force=force, request_id=request_id, validate_only=validate_only)
        )

    def check(
        self, name: str, *, refresh: bool = False, timeout: float | None = None
    ) -> catalog_pb2.CheckCatalogResponse:
        """Have an executor try the catalog now and, with `refresh`, list its tables too."""
        return self._loop.run(self._catalogs.check(name, refresh=refresh, timeout=timeout))


class Tables:
    """The tables that are known, and how they are."""

    def __init__(self, client: AsyncFloe, loop: _LoopThread) -> None:
        self._tables = client.tables
        self._loop = loop

    def get(self, table: TableName | str, *, timeout: float | None = None) -> table_pb2.Table:
        """The table as it was last seen."""
        return self._loop.run(self._tables.get(table, timeout=timeout))

    def inspect(self, table: TableName | str, *, timeout: float | None = None) -> table_pb2.Table:
        """Have the table measured now."""
        return self._loop.run(self._tables.inspect(table, timeout=timeout))

    def reports(self, table: TableName | str, *, page_size: int = 0) -> Pager[table_pb2.HealthReport]:
        """The kept health reports, newest first."""
        return self._loop.pager(self._tables.reports(table, page_size=page_size))

    def list(self, *, catalog: str = "", pattern: str = "", page_size: int = 0) -> Pager[table_pb2.Table]:
        """The known tables by name, of one catalog or of a pattern if given."""
        return self._loop.pager(self._tables.list(catalog=catalog, pattern=pattern, page_size=page_size))

    def ranking(self, *, catalog: str = "", page_size: int = 0) -> Pager[table_pb2.RankedTable]:
        """Tables by how much maintenance they are owed, the most first; of one catalog if given."""
        return self._loop.pager(self._tables.ranking(catalog=catalog, page_size=page_size))


class Decisions:
    """The answers to every why."""

    def __init__(self, client: AsyncFloe, loop: _LoopThread) -> None:
        self._decisions = client.decisions
        self._loop = loop

    def explain(
        self, table: TableName | str, *, operations: Sequence[str | operation_pb2.OperationType.ValueType] = ()
    ) -> Sequence[trigger_pb2.TriggerExplanation]:
        """Whether each operation type would run on the table now, and why."""
        return self._loop.run(self._decisions.explain(table, operations=operations))

    def plan(
        self,
        table: TableName | str,
        *,
        policy: str = "",
        operations: Sequence[str | operation_pb2.OperationType.ValueType] = (),
    ) -> trigger_pb2.PlanMaintenanceResponse:
        """What a trigger would do to the table, without doing it; `plan_hash` is for `trigger`."""
        return self._loop.run(self._decisions.plan(table, policy=policy, operations=operations))

    def list(
        self,
        *,
        table: TableName | str | None = None,
        catalog: str = "",
        policy: str = "",
        operations: Sequence[str | operation_pb2.OperationType.ValueType] = (),
        verdicts: Sequence[str] = (),
        since: datetime | None = None,
        page_size: int = 0,
    ) -> Pager[decision_pb2.Decision]:
        """The stored decisions, newest first; of one table, catalog or policy if given."""
        return self._loop.pager(
            self._decisions.list(
                table=table,
                catalog=catalog,
                policy=policy,
                operations=operations,
                verdicts=verdicts,
                since=since,
                page_size=page_size,
            )
        )


class Operations:
    """What was asked for and what became of it."""

    def __init__(self, client: AsyncFloe, loop: _LoopThread) -> None:
        self._operations = client.operations
        self._loop = loop

    def get(self, id: str) -> operation_pb2.Operation:
        return self._loop.run(self._operations.get(id))

    def list(
        self, filter: operation_pb2.OperationFilter | None = None, *, page_size: int = 0
    ) -> Pager[operation_pb2.Operation]:
        """The operations that the filter selects, newest first."""
        return self._loop.pager(self._operations.list(filter, page_size=page_size))

    def stats(
        self,
        filter: operation_pb2.OperationFilter | None = None,
        *,
        since: datetime | None = None,
        window: timedelta | None = None,
    ) -> operation_pb2.GetOperationStatsResponse:
        """The operations that the filter selects, in numbers: those asked for since then, or within the window before
        now; with neither, the last 7 days."""
        return self._loop.run(self._operations.stats(filter, since=since, window=window))

    def watch(
        self, filter: operation_pb2.OperationFilter | None = None, *, cursor: str = "", include_progress: bool = True
    ) -> Iterator[Update]:
        """The changes of the operations that the filter selects, from the cursor on (else from now), without end."""
        return self._loop.iterate(self._operations.watch(filter, cursor=cursor, include_progress=include_progress))

    def follow(self, ids: Sequence[str], *, include_progress: bool = True) -> Iterator[Update]:
        """At most 1,000 operations as they are now, then their changes, until each of them has ended."""
        return self._loop.iterate(self._operations.follow(ids, include_progress=include_progress))

    def cancel(
        self, id: str, *, reason: str = "", etag: str = "", request_id: str | None = None
    ) -> operation_pb2.Operation:
        """Ask it to stop. The answer is how it is now: a running operation ends later."""
        return self._loop.run(self._operations.cancel(id, reason=reason, etag=etag, request_id=request_id))

    def retry(self, id: str, *, request_id: str | None = None) -> operation_pb2.Operation:
        """A new operation like this finished one."""
        return self._loop.run(self._operations.retry(id, request_id=request_id))


class Executors:
    """The processes that do the work."""

    def __init__(self, client: AsyncFloe, loop: _LoopThread) -> None:
        self._executors = client.executors
        self._loop = loop

    def get(self, id: str) -> executor_pb2.Executor:
        return self._loop.run(self._executors.get(id))

    def list(self, *, include_detached: bool = False, page_size: int = 0) -> Pager[executor_pb2.Executor]:
        return self._loop.pager(self._executors.list(include_detached=include_detached, page_size=page_size))

    def drain(self, id: str, *, request_id: str | None = None) -> executor_pb2.Executor:
        """Give it no more work; what runs goes on."""
        return self._loop.run(self._executors.drain(id, request_id=request_id))

    def undrain(self, id: str, *, request_id: str | None = None) -> executor_pb2.Executor:
        """Give it work again."""
        return self._loop.run(self._executors.undrain(id, request_id=request_id))


class System:
    """The deployment itself. A scope is all of it, a catalog, or a table of a catalog."""

    def __init__(self, client: AsyncFloe, loop: _LoopThread) -> None:
        self._system = client.system
        self._loop = loop

    def info(self) -> system_pb2.GetServerInfoResponse:
        return self._loop.run(self._system.info())

    def pause(
        self,
        *,
        reason: str,
        catalog: str = "",
        namespace: str = "",
        table: str = "",
        until: datetime | None = None,
        request_id: str | None = None,
    ) -> system_pb2.PauseScope:
        """Start nothing new in the scope, until then or until it is resumed; what runs goes on."""
        return self._loop.run(
            self._system.pause(
                reason=reason, catalog=catalog, namespace=namespace, table=table, until=until, request_id=request_id
            )
        )

    def resume(self, *, catalog: str = "", namespace: str = "", table: str = "", request_id: str | None = None) -> None:
        """End the pause of exactly this scope; ending none changes nothing."""
        self._loop.run(self._system.resume(catalog=catalog, namespace=namespace, table=table, request_id=request_id))


class OperationHandle:
    """One operation, by its id."""

    def __init__(self, handle: AsyncOperationHandle, loop: _LoopThread) -> None:
        self._handle = handle
        self._loop = loop
        self.id = handle.id

    def get(self) -> operation_pb2.Operation:
        """As it is now."""
        return self._loop.run(self._handle.get())

    def watch(self, *, include_progress: bool = True) -> Iterator[Update]:
        """As it is now, then its changes and its progress, until it has ended."""
        return self._loop.iterate(self._handle.watch(include_progress=include_progress))

    def result(self, *, timeout: float | None = None) -> operation_pb2.Operation:
        """Wait for its end. Raises `OperationFailed` unless it SUCCEEDED, and `DeadlineExceeded` if it has not ended
        after `timeout` seconds: the operation goes on."""
        return self._loop.run(self._handle.result(timeout=timeout))

    def cancel(self, *, reason: str = "") -> operation_pb2.Operation:
        """Ask it to stop; `result` says how it ended."""
        return self._loop.run(self._handle.cancel(reason=reason))

    def retry(self) -> OperationHandle:
        """A new operation like this finished one."""
        return OperationHandle(self._loop.run(self._handle.retry()), self._loop)


@dataclass(frozen=True, slots=True)
class Trigger:
    """What one trigger started."""

    id: str
    runs: Sequence[trigger_pb2.Run]
    operations: Sequence[OperationHandle]


class Floe:
    """`AsyncFloe` for programs without an event loop. May be used from any thread; close it, by `with` or `close`."""

    def __init__(self, server: str | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._client = AsyncFloe(server, timeout=timeout)
        self._loop = _LoopThread()
        self.policies = Policies(self._client, self._loop)
        self.catalogs = Catalogs(self._client, self._loop)
        self.tables = Tables(self._client, self._loop)
        self.operations = Operations(self._client, self._loop)
        self.decisions = Decisions(self._client, self._loop)
        self.executors = Executors(self._client, self._loop)
        self.system = System(self._client, self._loop)

    @property
    def server(self) -> str:
        return self._client.server

    def operation(self, id: str) -> OperationHandle:
        """The operation of that id, which is not asked for yet."""
        return OperationHandle(self._client.operation(id), self._loop)

    def trigger(
        self,
        table: TableName | str | None = None,
        *,
        policy: str = "",
        operations: Sequence[str | operation_pb2.OperationType.ValueType] = (),
        request_id: str | None = None,
        validate_only: bool = False,
        pattern: str = "",
        max_tables: int = 0,
        respect_conditions: bool = False,
        plan_hash: str = "",
    ) -> Trigger:
        """Queue maintenance of one table, or of all known tables that a pattern matches: of every type that their
        policies configure, or of those that are named. `respect_conditions`: only what its conditions would run now.
        `plan_hash`, from `decisions.plan`: only if the table and its policies still are as they were.
        """
        answer = self._loop.run(
            self._client.trigger(
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
        )
        handles = [OperationHandle(handle, self._loop) for handle in answer.operations]
        return Trigger(answer.id, answer.runs, handles)

    def close(self) -> None:
        if not self._loop.is_closed:
            self._loop.run(self._client.close())
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
