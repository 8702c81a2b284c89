"""A mutation happens once for each request id: a repeated call gets the answer that the first one got."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from control_plane.domain.errors import DomainError, FieldViolation, InvalidArgument
from control_plane.ports.records import RequestKey, Store
from control_plane.rpc.interceptors.identity import current_caller

Response = TypeVar("Response", bound=Message)


class Once:
    """Runs mutations, each in one transaction with the row of its request id.

    That row is the transaction's first statement, so a concurrent duplicate waits and gets the same answer. A refused
    call stores nothing. With `validate_only` everything is done and then undone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def answer(
        self,
        request: Message,
        response_type: type[Response],
        handle: Callable[[], Awaitable[Response]],
        *,
        hints: Sequence[str] = (),
        one_step: bool = False,
    ) -> Response:
        """The answer of `handle`, or the stored one. `hints` are given once the change can be seen by others.

        With `one_step`, all that `handle` changes is one step of the store: a transaction is only needed where an
        answer is kept with it.
        """
        key = _key(request)
        if getattr(request, "validate_only", False):
            return await self._undone(handle)
        if one_step and key is None:
            response = await handle()
            self._hint(hints)
            return response
        async with self._store.transaction():
            stored = await self._store.requests.begin(key) if key is not None else None
            if stored is not None:
                return response_type.FromString(stored)
            response = await handle()
            if key is not None:
                await self._store.requests.answer(key, response.SerializeToString(deterministic=True))
        self._hint(hints)
        return response

    def _hint(self, topics: Sequence[str]) -> None:
        for topic in topics:
            self._store.hints.give(topic)

    async def stored(self, request: Message, response_type: type[Response]) -> Response | None:
        """The answer that this request id got before, if any; for what must be done ahead of the transaction."""
        key = _key(request)
        if key is None or getattr(request, "validate_only", False):
            return None
        found: bytes | None = None
        try:
            async with self._store.transaction():
                found = await self._store.requests.begin(key)
                raise _Undo
        except _Undo:
            return response_type.FromString(found) if found is not None else None

    async def stored_or_raise(self, request: Message, response_type: type[Response], error: DomainError) -> Response:
        """The stored answer, else `error`: what was answered once is answered again, whatever has changed."""
        stored = await self.stored(request, response_type)
        if stored is None:
            raise error
        return stored

    async def _undone(self, handle: Callable[[], Awaitable[Response]]) -> Response:
        try:
            async with self._store.transaction():
                response = await handle()
                raise _Undo
        except _Undo:
            return response


class _Undo(Exception):
    """Rolls a transaction back without failing the call."""


def _key(request: Any) -> RequestKey | None:
    if not request.request_id:
        return None
    bare = type(request)()
    bare.CopyFrom(request)
    bare.request_id = ""
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()
    return RequestKey(current_caller(), request.DESCRIPTOR.full_name, _request_id(request.request_id), digest)


def _request_id(text: str) -> str:
    try:
        parsed = UUID(text)
        if len(text) != 36 or parsed.int == 0:
            raise ValueError
    except ValueError:
        raise InvalidArgument([FieldViolation("requestId", f"must be a UUID, is {text[:64]!r}")]) from None
    return str(parsed)
