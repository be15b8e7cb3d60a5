"""A connection to a hub, or between workers: messages both ways, as an asyncio protocol."""

import asyncio
from collections.abc import Callable
from typing import cast

from wsgate import loggers
from wsgate.topics.messages import Message
from wsgate.topics.wire_format import Decoder, WireError, encode

HIGH_WATER = 1024 * 1024  # bytes that wait for the other end, above which `drain` waits


class FrameConnection(asyncio.Protocol):
    """One end of a connection.

    What is sent in one iteration of the loop leaves in one write. Nothing here bounds what waits
    for the other end: the owner checks `backlog`.

    Args:
        on_start: Called when the connection exists.
        on_message: Called with each message. It may raise WireError to end the connection.
        on_end: Called once when the connection has ended.
    """

    def __init__(
        self,
        on_start: Callable[["FrameConnection"], object],
        on_message: Callable[["FrameConnection", Message], object],
        on_end: Callable[["FrameConnection"], object],
    ) -> None:
        self._on_start = on_start
        self._on_message = on_message
        self._on_end = on_end
        self._decoder = Decoder()
        self._frames: list[bytes] = []
        self._size = 0  # bytes of these
        self._largest = 0  # bytes of the largest frame since nothing waited
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._may_write = asyncio.Event()
        self._may_write.set()

    # -- what the transport calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(HIGH_WATER)
        self._on_start(self)

    def data_received(self, data: bytes) -> None:
        """Read messages."""
        try:
            for message in self._decoder.feed(data):
                if self.is_closing:
                    return
                self._on_message(self, message)
        except WireError as error:
            loggers.error.error("A connection of topics is closed: %s", error)
            self.abort()

    def pause_writing(self) -> None:
        """Have `drain` wait."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Have `drain` return."""
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        del exc
        self._frames.clear()
        self._size = 0
        self._may_write.set()
        self._on_end(self)

    # -- what the owner calls ----------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether nothing is sent and read any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def waiting(self) -> int:
        """Bytes that wait for the other end to read."""
        if self._transport is None:
            return 0
        return self._size + self._transport.get_write_buffer_size()

    @property
    def backlog(self) -> int:
        """Bytes that wait besides one message, however large that is."""
        return self.waiting - self._largest

    @property
    def is_full(self) -> bool:
        """Whether much waits, so that `drain` lets the loop run at least."""
        return self.waiting > HIGH_WATER or not self._may_write.is_set()

    def send(self, message: Message) -> None:
        """Send a message; nothing happens after the end."""
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """Send an encoded message; nothing happens after the end."""
        if self.is_closing:
            return
        if not self._frames:
            self._loop.call_soon(self._flush)
            if not self.waiting:
                self._largest = 0
        self._largest = max(self._largest, len(frame))
        self._frames.append(frame)
        self._size += len(frame)

    def _flush(self) -> None:
        frames, self._frames, self._size = self._frames, [], 0
        if frames and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(frames))

    async def drain(self) -> None:
        """Wait until the other end has read enough, or has gone."""
        await asyncio.sleep(0)  # what was sent in this iteration is written
        await self._may_write.wait()

    async def send_all(self) -> None:
        """Wait until everything has been sent, or the other end has gone."""
        self._flush()
        if not self.is_closing:
            cast("asyncio.Transport", self._transport).set_write_buffer_limits(0)
            await self._may_write.wait()

    def close(self) -> None:
        """Send what waits, and end."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End at once; what waits is dropped."""
        if self._transport is not None:
            self._transport.abort()
