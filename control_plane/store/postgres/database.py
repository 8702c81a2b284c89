"""Connections to PostgreSQL: a pool with deadlines, and the transaction that a task's calls join."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import asyncpg
import structlog

from control_plane.domain.errors import DomainError, StoreUnavailable
from control_plane.store.postgres.together import Together

if TYPE_CHECKING:
    # Generic for type checkers only.
    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
    PooledConnection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

logger: Final = structlog.get_logger(__name__)

APPLICATION_NAME: Final = "floe-control-plane"
_CACHED_STATEMENTS: Final = 200
_MISSING_KEY: Final = re.compile(r"=\((.*)\) is not present")
_RETRY_AFTER: Final = 1.0
_KEEPALIVE_IDLE: Final = 15
_KEEPALIVE_INTERVAL: Final = 5
_KEEPALIVE_COUNT: Final = 3

# What says that the database could not answer, rather than that the statement is wrong.
_UNAVAILABLE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    # A connection that the server closed while nobody used it, and whose end has not been read yet.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


Item = TypeVar("Item")
Answer = TypeVar("Answer")
Item_contra = TypeVar("Item_contra", contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)


class Ask(Protocol[Item_contra, Answer_co]):
    async def __call__(self, item: Item_contra, /) -> Answer_co: ...


@dataclass(frozen=True, slots=True)
class Connecting:
    """How the store connects.

    `behind_pooler`: a transaction pooler such as PgBouncer stands in front, which keeps neither prepared statements nor
    session settings; set the timeouts on the role there.
    """

    pool_size: int = 10
    timeout: timedelta = timedelta(seconds=10)
    """For each statement, for a free connection, and for a transaction that does nothing."""
    lock_timeout: timedelta = timedelta(seconds=5)
    connect_within: timedelta = timedelta(seconds=30)
    """How long an unreachable database is waited for at the start."""
    behind_pooler: bool = False


class DatabaseUnreachable(StoreUnavailable):
    """It did not answer at the start."""

    def __init__(self, why: str, *, dsn: str, waited: timedelta) -> None:
        DomainError.__init__(
            self,
            f"the database at {_where(dsn)} did not answer within {waited.total_seconds():g} s ({why}); check that it "
            "runs and FLOE_STORE__DSN, or have it waited for longer with FLOE_STORE__CONNECT_WITHIN",
        )


class _PooledConnection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        # Nothing here leaves state in a session, so giving a connection back costs no round trip.
        return ""


@dataclass(frozen=True, slots=True)
class _Ambient:
    """A transaction and the task that began it. Child tasks inherit the context but must not share the connection."""

    connection: PooledConnection
    task: asyncio.Task[Any] | None


_ambient: ContextVar[Mapping[Database, _Ambient] | None] = ContextVar("floe_transactions", default=None)


class Database:
    """A pool of connections. Every statement runs in the task's open transaction if there is one, else by itself."""

    def __init__(self, pool: Pool, connecting: Connecting) -> None:
        self._pool = pool
        self._timeout = connecting.timeout.total_seconds()
        self._joined: list[Together[Any, Any]] = []
        self.statements = 0
        """How many statements were sent, BEGIN and COMMIT included."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit at the end, roll back on an error. Inside an open one of the same task it joins it."""
        if self._current() is not None:
            yield
            return
        self.statements += 2
        with translated():
            connection = await self._pool.acquire(timeout=self._timeout)
        try:
            transaction = connection.transaction()
            with translated():
                await transaction.start()
            token = _ambient.set({**(_ambient.get() or {}), self: _Ambient(connection, asyncio.current_task())})
            try:
                yield
            except BaseException:
                # Whatever hinders the rollback, the connection's end is the transaction's end; the first error is told.
                with suppress(StoreUnavailable), translated():
                    await transaction.rollback()
                raise
            finally:
                _ambient.reset(token)
            with translated():
                await transaction.commit()
        finally:
            with translated():
                await self._pool.release(connection)

    def together(self, answer: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]) -> Ask[Item, Answer]:
        """A call that is answered together with others of its kind; one in a transaction is answered there, alone."""
        joined = Together(answer)
        self._joined.append(joined)

        async def ask(item: Item) -> Answer:
            return (await answer([item]))[0] if self.in_transaction else await joined(item)

        return ask

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer calls that are made together, until the block ends."""
        tasks = [asyncio.create_task(joined.run(), name="together") for joined in self._joined]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def in_transaction(self) -> bool:
        return self._current() is not None

    async def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        async with self._connection() as connection:
            return await connection.fetch(statement, *values)

    async def fetchrow(self, statement: str, *values: object) -> asyncpg.Record | None:
        async with self._connection() as connection:
            return await connection.fetchrow(statement, *values)

    async def fetchval(self, statement: str, *values: object) -> Any:
        async with self._connection() as connection:
            return await connection.fetchval(statement, *values)

    async def execute(self, statement: str, *values: object) -> int:
        """How many rows were changed."""
        async with self._connection() as connection:
            status = await connection.execute(statement, *values)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[PooledConnection]:
        self.statements += 1
        with translated():
            current = self._current()
            if current is not None:
                yield current
                return
            async with self._pool.acquire(timeout=self._timeout) as connection:
                yield connection

    def _current(self) -> PooledConnection | None:
        ambient = (_ambient.get() or {}).get(self)
        if ambient is None or ambient.task is not asyncio.current_task():
            return None
        return ambient.connection


@contextmanager
def translated() -> Iterator[None]:
    """Let a database that cannot answer be told from a statement that is wrong."""
    try:
        yield
    except StoreUnavailable:
        raise
    except _UNAVAILABLE as error:
        raise StoreUnavailable(_why(error)) from error
    except asyncpg.InterfaceError as error:
        # DataError is one too, and says that a value does not fit its column.
        if isinstance(error, ValueError):
            raise
        raise StoreUnavailable(_why(error)) from error


def missing_key(error: asyncpg.ForeignKeyViolationError) -> str:
    """What a row refers to and is not there."""
    found = _MISSING_KEY.search(error.detail or "")
    return found[1] if found is not None else ""


@asynccontextmanager
async def open_pool(dsn: str, connecting: Connecting) -> AsyncIterator[Pool]:
    """The pool, once the database answers. Raises StoreUnavailable if it does not within `connect_within`."""
    pool = await _reach(dsn, connecting)
    try:
        yield pool
    finally:
        # A statement that is still running is given a moment; nothing waits for a database that is gone.
        try:
            async with asyncio.timeout(connecting.timeout.total_seconds()):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()


async def open_connection(dsn: str, *, deadline: timedelta) -> Connection:
    """One connection outside the pool."""
    seconds = deadline.total_seconds()
    connection = await asyncpg.connect(
        dsn, timeout=seconds, command_timeout=seconds, server_settings={"application_name": APPLICATION_NAME}
    )
    keep_alive(connection)
    return connection


def keep_alive(connection: Connection | PooledConnection) -> None:
    """Have a peer that vanished without a word noticed within half a minute, not two hours."""
    # Public asyncpg has no option for it; without the attribute the command timeout still holds.
    transport = getattr(connection, "_transport", None)
    peer = transport.get_extra_info("socket") if transport is not None else None
    if peer is None or peer.family == socket.AF_UNIX:
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", _KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", (_KEEPALIVE_IDLE + _KEEPALIVE_INTERVAL * _KEEPALIVE_COUNT) * 1000),
    ):
        if hasattr(socket, option):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


async def _reach(dsn: str, connecting: Connecting) -> Pool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + connecting.connect_within.total_seconds()
    while True:
        try:
            with translated():
                return await _create_pool(dsn, connecting)
        except StoreUnavailable as error:
            why = _why(error.__cause__ or error)
            if loop.time() + _RETRY_AFTER > deadline:
                raise DatabaseUnreachable(why, dsn=dsn, waited=connecting.connect_within) from error
            logger.warning(
                "database.awaited", address=_where(dsn), error=why, seconds_left=round(deadline - loop.time())
            )
        await asyncio.sleep(_RETRY_AFTER)


async def _create_pool(dsn: str, connecting: Connecting) -> Pool:
    async def prepare(connection: Connection | PooledConnection) -> None:
        keep_alive(connection)

    seconds = connecting.timeout.total_seconds()
    pool: Pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=connecting.pool_size,
        connection_class=_PooledConnection,
        timeout=seconds,
        # A little longer than the server's own timeout, whose error says more.
        command_timeout=seconds + 1,
        max_inactive_connection_lifetime=300,
        init=prepare,
        server_settings=_settings(connecting),
        statement_cache_size=0 if connecting.behind_pooler else _CACHED_STATEMENTS,
    )
    return pool


def _settings(connecting: Connecting) -> dict[str, str]:
    settings = {"application_name": APPLICATION_NAME}
    if connecting.behind_pooler:
        return settings
    return settings | {
        "statement_timeout": _milliseconds(connecting.timeout),
        "lock_timeout": _milliseconds(connecting.lock_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(connecting.timeout),
        "tcp_keepalives_idle": str(_KEEPALIVE_IDLE),
        "tcp_keepalives_interval": str(_KEEPALIVE_INTERVAL),
        "tcp_keepalives_count": str(_KEEPALIVE_COUNT),
        # Nothing is accepted that a crash of the database could take back, whatever its default is.
        "synchronous_commit": "on",
        "jit": "off",
    }


def _milliseconds(duration: timedelta) -> str:
    return str(int(duration / timedelta(milliseconds=1)))


def _where(dsn: str) -> str:
    """The server's address alone: a DSN holds a password."""
    parts = urlsplit(dsn)
    return f"{parts.hostname or 'the local socket'}:{parts.port or 5432}"


def _why(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
