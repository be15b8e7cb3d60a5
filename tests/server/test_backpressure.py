import asyncio
from collections.abc import Awaitable, Callable

import pytest

from wsgate.server.backpressure import Gate, SendOrder, Waiters


async def within_reason(awaitable: Awaitable[None]) -> None:
    await asyncio.wait_for(awaitable, 10)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # the test changes what it checks
            await asyncio.sleep(0)


async def started(waiters: Waiters, count: int) -> list[asyncio.Task[None]]:
    """Return tasks that wait."""
    tasks = [asyncio.create_task(waiters.wait()) for _ in range(count)]
    await until(lambda: len(waiters._futures) == count)
    return tasks


async def test_a_wake_resumes_all_waiters() -> None:
    waiters = Waiters()
    assert not waiters
    tasks = await started(waiters, 3)
    assert waiters
    waiters.wake()
    assert not waiters
    for task in tasks:
        await within_reason(task)


async def test_a_wake_is_not_kept_for_later() -> None:
    waiters = Waiters()
    waiters.wake()
    (task,) = await started(waiters, 1)
    assert not task.done()
    waiters.wake()
    await within_reason(task)


async def test_a_cancelled_waiter_is_removed() -> None:
    waiters = Waiters()
    gone, staying = await started(waiters, 2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within_reason(gone)
    assert len(waiters._futures) == 1
    waiters.wake()
    await within_reason(staying)


async def test_a_waiter_cancelled_and_then_woken_is_cancelled() -> None:
    waiters = Waiters()
    (task,) = await started(waiters, 1)
    task.cancel()
    waiters.wake()  # its future is done already
    with pytest.raises(asyncio.CancelledError):
        await within_reason(task)


async def test_a_waiter_woken_and_then_cancelled_is_cancelled() -> None:
    waiters = Waiters()
    (task,) = await started(waiters, 1)
    waiters.wake()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within_reason(task)
    assert not waiters


async def test_an_open_gate_does_not_wait() -> None:
    gate = Gate()
    assert (gate.is_shut, gate.shut_since) == (False, None)
    await within_reason(gate.wait_until_open())


async def test_a_closed_gate_keeps_its_time_and_its_waiters() -> None:
    gate = Gate()
    gate.shut(7.0)
    assert (gate.is_shut, gate.shut_since) == (True, 7.0)
    task = asyncio.create_task(gate.wait_until_open())
    await until(lambda: bool(gate))
    gate.open()
    assert (gate.is_shut, gate.shut_since) == (False, None)
    await within_reason(task)


async def test_a_gate_closed_at_time_zero_is_closed() -> None:
    gate = Gate()
    gate.shut(0.0)
    assert gate.is_shut


async def test_a_gate_that_closes_again_keeps_its_waiters() -> None:
    gate = Gate()
    gate.shut(1.0)
    task = asyncio.create_task(gate.wait_until_open())
    await until(lambda: bool(gate))
    gate.open()
    gate.shut(2.0)
    await until(lambda: bool(gate))  # it has looked, and waits again
    assert not task.done()
    gate.open()
    await within_reason(task)


async def test_a_wake_alone_does_not_open_a_gate() -> None:
    gate = Gate()
    gate.shut(1.0)
    task = asyncio.create_task(gate.wait_until_open())
    await until(lambda: bool(gate))
    gate.wake()
    await until(lambda: bool(gate))
    assert not task.done()
    gate.open()
    await within_reason(task)


async def test_senders_pass_in_the_order_of_their_calls() -> None:
    gate, passed = Gate(), list[int]()
    order = SendOrder(gate)

    async def send(number: int) -> None:
        await order.enter()
        passed.append(number)
        if number == 2:
            gate.shut(2.0)  # the write buffer is full again
        order.leave()

    gate.shut(1.0)
    tasks = [asyncio.create_task(send(number)) for number in range(5)]
    await until(lambda: bool(gate))
    assert not passed
    tasks[1].cancel()
    gate.open()
    await until(lambda: bool(gate))
    assert passed == [0, 2]
    gate.open()
    await send(5)
    assert passed == [0, 2, 3, 4, 5]
    await send(6)


async def test_a_sender_cancelled_at_the_gate_lets_the_next_one_pass() -> None:
    gate = Gate()
    gate.shut(1.0)
    order = SendOrder(gate)
    gone, staying = (asyncio.create_task(order.enter()) for _ in range(2))
    await until(lambda: bool(gate))
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within_reason(gone)
    gate.open()
    await within_reason(staying)
    order.leave()
