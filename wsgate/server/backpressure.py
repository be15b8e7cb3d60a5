"""Backpressure: senders wait while a client reads too slowly."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Waiters:
    """Tasks that wait for a change; once resumed, each checks its condition again.

    True if there are any.
    """

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: Sequence[asyncio.Future[None]] = ()

    def __bool__(self) -> bool:
        return bool(self._futures)

    def wake(self) -> None:
        """Resume all waiting tasks."""
        futures = self._futures
        if not futures:
            return
        self._futures = ()
        for future in futures:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Wait for the next `wake`."""
        future = asyncio.get_running_loop().create_future()
        self._futures = [*self._futures, future]
        try:
            await future
        except asyncio.CancelledError:
            self._futures = [other for other in self._futures if other is not future]
            raise


class Gate(Waiters):
    """Open while the write buffer is below its high-water mark; senders wait while it is shut.

    is_shut: senders have to wait. shut_since: time of the worker's clock in seconds, None while it
    is open.
    """

    __slots__ = ("is_shut", "shut_since")

    def __init__(self) -> None:
        self._futures = ()
        self.is_shut = False  # redundant, but faster to read for each message
        self.shut_since: float | None = None

    def shut(self, now: float) -> None:
        """Make senders wait. now: time of the worker's clock in seconds."""
        self.is_shut, self.shut_since = True, now

    def open(self) -> None:
        """Resume all senders."""
        self.is_shut, self.shut_since = False, None
        self.wake()

    async def wait_until_open(self) -> None:
        """Wait while the gate is shut."""
        while self.is_shut:
            await self.wait()


class SendOrder:
    """Lets the senders of one body pass a gate in the order of their calls.

    Needed once a sender has to wait: those that wait run one loop iteration after the gate opens,
    so a later call in between would overtake them. An `asyncio.Lock` is fair, also if a sender that
    waits is cancelled.
    """

    __slots__ = ("_gate", "_lock")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._lock = asyncio.Lock()

    async def enter(self) -> None:
        """Wait for all earlier senders and for the gate; the sender then has to call `leave`."""
        await self._lock.acquire()
        try:
            await self._gate.wait_until_open()
        except BaseException:
            self._lock.release()
            raise

    def leave(self) -> None:
        """Let the next sender pass: this one has written its part, or failed."""
        self._lock.release()
