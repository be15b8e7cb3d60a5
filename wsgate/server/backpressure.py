"""Backpressure: the gate at which senders wait while a client reads too slowly."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Waiters:
    """Tasks that wait until something may have changed, and then check for themselves."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: Sequence[asyncio.Future[None]] = ()

    def __bool__(self) -> bool:
        return bool(self._futures)

    def wake(self) -> None:
        """Resume all that wait."""
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
    """Open while the write buffer is below its mark; senders wait while it is shut.

    is_shut: a sender has to wait. shut_since: when it was shut, in seconds of the worker's clock;
    None while it is open.
    """

    __slots__ = ("is_shut", "shut_since")

    def __init__(self) -> None:
        self._futures = ()
        self.is_shut = False  # beside the time, because each message asks for it
        self.shut_since: float | None = None

    def shut(self, now: float) -> None:
        """Make senders wait from now on."""
        self.is_shut, self.shut_since = True, now

    def open(self) -> None:
        """Let all senders go on."""
        self.is_shut, self.shut_since = False, None
        self.wake()

    async def passed(self) -> None:
        """Wait until it is open."""
        while self.is_shut:
            await self.wait()
