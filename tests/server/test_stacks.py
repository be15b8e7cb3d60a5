"""Stacks of an event loop's thread and of its tasks."""

import asyncio
import threading
from collections.abc import AsyncIterator

from tests.harness.waiting import start_task, turns
from wsgate.server.stacks import MOST_FRAMES, loop_stack, task_stack, thread_stack


def functions(stack: list[str]) -> list[str]:
    """Return the names of the functions; each line has to name a file and a line of it."""
    assert all(line.startswith('File "') and ", line " in line for line in stack)
    return [line.rpartition(" in ")[2] for line in stack]


async def wait_forever() -> None:
    await asyncio.get_running_loop().create_future()


async def generate() -> AsyncIterator[int]:
    await wait_forever()
    yield 1


async def iterate() -> None:
    async for _ in generate():
        pass


async def test_where_a_task_waits_the_innermost_call_first() -> None:
    task = start_task(iterate())
    await turns()
    assert functions(task_stack(task))[:3] == ["wait_forever", "generate", "iterate"]
    task.cancel()
    await asyncio.wait([task])
    assert task_stack(task) == []


async def nest(depth: int) -> None:
    await (nest(depth - 1) if depth else wait_forever())


async def test_of_a_deep_stack_the_innermost_calls() -> None:
    task = start_task(nest(2 * MOST_FRAMES))
    await turns()
    assert functions(task_stack(task)) == ["wait_forever"] + ["nest"] * (MOST_FRAMES - 1)
    task.cancel()
    await asyncio.wait([task])


async def test_what_the_loop_does_while_it_waits() -> None:
    stack = await loop_stack()
    assert "test_what_the_loop_does_while_it_waits" not in functions(stack)  # it is no call of it
    assert stack


async def test_an_answer_that_nobody_waits_for() -> None:
    task = start_task(loop_stack())
    await turns(1)
    task.cancel()
    await asyncio.wait([task])
    assert await loop_stack()


def test_a_thread_and_one_that_has_ended() -> None:
    names = functions(thread_stack(threading.get_ident()))
    assert names[:2] == ["thread_stack", "test_a_thread_and_one_that_has_ended"]
    assert thread_stack(0) == []
