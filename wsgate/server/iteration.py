"""Iterates over many items, and lets the event loop run in between."""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import TypeVar

AT_ONCE = 500  # items that are visited in one loop iteration

_Item = TypeVar("_Item")


async def each(items: Collection[_Item]) -> AsyncIterator[_Item]:
    """Yield items as they are now; the event loop runs after every `AT_ONCE` of them."""
    for number, item in enumerate(list(items), 1):
        yield item
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
