"""Lists that are longer than one answer, read a page at a time as they are gone through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One answer to a list call."""

    items: Sequence[Item]
    next_page_token: str = ""
    """Empty on the last page."""
    watch_cursor: str = ""
    """Of operations: a watch from here misses nothing that happened after the page was read."""


class AsyncPager(Generic[Item]):
    """All items of a list: `async for policy in client.policies.list()`. Nothing is asked before it is gone through."""

    def __init__(self, fetch: Callable[[str], Awaitable[Page[Item]]]) -> None:
        self._fetch = fetch

    async def page(self, page_token: str = "") -> Page[Item]:
        """One page: the first, or the one that the token names."""
        return await self._fetch(page_token)

    async def pages(self, *, page_token: str = "") -> AsyncIterator[Page[Item]]:
        """Page by page, from the first or from the one that the token names."""
        while True:
            page = await self._fetch(page_token)
            yield page
            page_token = page.next_page_token
            if not page_token:
                return

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            for item in page.items:
                yield item


class Pager(Generic[Item]):
    """All items of a list: `for policy in client.policies.list()`. Nothing is asked before it is gone through."""

    def __init__(self, fetch: Callable[[str], Page[Item]]) -> None:
        self._fetch = fetch

    def page(self, page_token: str = "") -> Page[Item]:
        """One page: the first, or the one that the token names."""
        return self._fetch(page_token)

    def pages(self, *, page_token: str = "") -> Iterator[Page[Item]]:
        """Page by page, from the first or from the one that the token names."""
        while True:
            page = self._fetch(page_token)
            yield page
            page_token = page.next_page_token
            if not page_token:
                return

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            yield from page.items
