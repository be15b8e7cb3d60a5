"""What is written in a turn of the loop leaves at its end: each connection's in one call.

An app that sends many small messages at once costs one call of the system for all of them, and the
messages of a turn are all dealt with before the first one leaves: the interpreter and the kernel
each go on with what they have in the caches. For echoes of 16 KiB that is a third of their time.
"""

import asyncio
from collections.abc import Callable

FULL = 65_536  # bytes at which a connection's leave at once, for the write mark to be seen in time


class Outbox:
    """What all connections of a worker have written in this turn of the loop.

    waiting: what there is for each transport. call_soon: has the loop call back. run_outside_app:
    calls something outside the context of the app that writes. Both keep that app's context
    variables out of what is called back later.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        run_outside_app: Callable[[Callable[[bytes | bytearray], None], bytes | bytearray], None],
    ) -> None:
        self.waiting: dict[asyncio.WriteTransport, bytes | bytearray] = {}
        self._call_soon = call_soon
        self._run_outside_app = run_outside_app

    def put(self, transport: asyncio.WriteTransport, data: bytes) -> bool:
        """Send bytes at the turn's end, or at once where they are many.

        At once as well where the transport has not sent all that it got before: then it only keeps
        them, and says when that is too much. False where it is broken or closing: whoever goes on
        without letting the loop have its turn would never be told.
        """
        if transport.is_closing():
            return False
        waiting = self.waiting
        joined = self._joined(transport, data) if transport in waiting else data
        if len(joined) >= FULL or transport.get_write_buffer_size():
            waiting.pop(transport, None)
            self._run_outside_app(transport.write, joined)
            return not transport.is_closing()
        waiting[transport] = joined
        if len(waiting) == 1:
            self.schedule()
        return True

    def _joined(self, transport: asyncio.WriteTransport, data: bytes) -> bytearray:
        before = self.waiting[transport]
        joined = before if isinstance(before, bytearray) else bytearray(before)
        joined += data
        return joined

    def schedule(self) -> None:
        """See that all is sent at the turn's end; to be called with the first there is."""
        self._call_soon(self._flush)

    def _flush(self) -> None:
        due = list(self.waiting.items())
        self.waiting.clear()
        for transport, data in due:
            if not transport.is_closing():
                transport.write(data)

    def flush(self, transport: asyncio.WriteTransport) -> None:
        """Send what there is for a transport now."""
        data = self.waiting.pop(transport, None)
        if data is not None and not transport.is_closing():
            self._run_outside_app(transport.write, data)

    def forget(self, transport: asyncio.WriteTransport) -> None:
        """Drop what there is for a transport: it is gone."""
        self.waiting.pop(transport, None)
