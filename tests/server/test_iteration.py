"""The event loop runs while many items are visited."""

import asyncio

from wsgate.server.iteration import AT_ONCE, each


async def test_the_loop_runs_in_between() -> None:
    loop, rounds = asyncio.get_running_loop(), list[int]()
    visited: list[int] = []
    async for item in each(range(3 * AT_ONCE)):
        visited.append(item)
        if item % AT_ONCE == 0:
            loop.call_soon(rounds.append, item)
    assert visited == list(range(3 * AT_ONCE))
    assert rounds == [0, AT_ONCE, 2 * AT_ONCE]


async def test_items_may_change_meanwhile() -> None:
    items = {1, 2}
    async for item in each(items):
        items.discard(item)
    assert items == set()
