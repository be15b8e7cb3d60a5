"""The common path of one whole message, in and out: the plain twins of _fast_path.c.

Nearly every message arrives whole while the app waits for it, or is sent while its client keeps up.
The three base classes here do what such a message needs outside the codec and the app. Their
subclasses do everything else. The same tests run over both twins.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from wsgate.asgi.websocket import common_payload
from wsgate.types import Message

if TYPE_CHECKING:
    from wsgate.server.backpressure import Gate
    from wsgate.server.message_meter import PlainMessageMeter
    from wsgate.server.receive_queue import ReceiveQueue
    from wsgate.server.wire import Driver, Wire
    from wsgate.ws.encoded import Encoded
    from wsgate.ws.frames.codec import FrameCodec
    from wsgate.ws.session import Session

Arrival = asyncio.Future[str | bytes | None]
"""Completed with the next message, or with None when only the session's state has changed."""

# From this many bytes on, data goes to the transport at once instead of at the end of the loop
# iteration. Otherwise the transport could not report that its write buffer is full.
MAX_DELAYED = 65_536
# `fd` while the descriptor is not known. It is looked up at the second write, because a lookup
# creates an object that stays. Most connections that write once never write again: an open
# WebSocket without messages is one.
FIRST_WRITE, UNKNOWN, NONE = -3, -2, -1
RECENT = 4  # payloads of one loop iteration whose frames are remembered
MAX_FLUSHED = 1024  # connections that one loop iteration flushes; the others follow in the next


class PlainStream:
    """The hot methods of a connection: `data_received`, `write` and `write_at_once`.

    Subclasses do not override `write`: the compiled message path calls it directly.

    Attributes:
        driver: Receives the bytes from the client.
        transport: The event loop's transport.
        batch: The worker's write batch.
        pending: Bytes to send at the end of this loop iteration, None if there are none.
        fd: The transport's descriptor, or one of FIRST_WRITE, UNKNOWN and NONE.
        is_lost: The connection has ended.
        is_transport_empty: The last bytes all went directly to the kernel, so the transport's
            write buffer is empty. If it is false, the transport has to be asked.
    """

    __slots__ = ("batch", "driver", "fd", "is_lost", "is_transport_empty", "pending", "transport")

    driver: "Driver"
    transport: asyncio.Transport
    batch: "PlainWriteBatch"
    pending: bytes | bytearray | None
    fd: int
    is_lost: bool
    is_transport_empty: bool

    def __new__(cls, *arguments: object) -> Self:  # noqa: ARG004  # of the subclass's __init__
        """Create a stream whose fields are all there, as the compiled twin does."""
        self = super().__new__(cls)
        self.pending = None
        self.fd = FIRST_WRITE
        self.is_lost = self.is_transport_empty = False
        return self

    def data_received(self, data: bytes) -> None:
        """Hand bytes from the transport to the driver."""
        self.driver.data(data)

    def write(self, data: bytes) -> None:
        """Send bytes, without waiting."""
        if data and not self.is_lost and not self.batch.put(self, data):
            self.write_failed()

    def write_at_once(self, data: bytes) -> bool:
        """Send bytes now if none wait before them, else as `write` does.

        It is for callbacks of the loop that write to many connections, one after the other.

        Returns:
            Whether the kernel has taken all of them. If not, `write_failed` may have been called.
        """
        if not self._has_nothing_unsent() or type(data) is not bytes:
            self.write(data)
            return False
        self.pending = data
        if failure := _flush_or_abort(self):
            raise failure
        return self._has_nothing_unsent()

    def _has_nothing_unsent(self) -> bool:
        if self.is_lost or self.pending is not None:
            return False
        return self.is_transport_empty or not self.transport.get_write_buffer_size()

    def write_failed(self) -> None:
        """Process a write to a transport that is broken or closing."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close at once and drop unsent data."""
        raise NotImplementedError

    def find_descriptor(self) -> int:
        """Return the transport's descriptor if bytes may be sent to it directly, else NONE."""
        raise NotImplementedError


class PlainWriteBatch:
    """What all connections of a worker write and encode during one loop iteration.

    streams: the connections with pending bytes. is_scheduled: the loop will call `flush`. has_late:
    earlier iterations have left connections to be flushed. message_meter: counts messages, None
    while metrics are off.
    """

    __slots__ = ("_recent", "has_late", "is_scheduled", "message_meter", "streams")

    streams: list[PlainStream]
    is_scheduled: bool
    has_late: bool
    message_meter: "PlainMessageMeter | None"
    _recent: list[tuple[str | bytes, object, bytes]]

    def __new__(cls, *arguments: object) -> Self:  # noqa: ARG004  # of the subclass's __init__
        """Create an empty batch."""
        self = super().__new__(cls)
        self.streams = []
        self.is_scheduled = self.has_late = False
        self.message_meter = None
        self._recent = []
        return self

    def put(self, stream: PlainStream, data: bytes) -> bool:
        """Send bytes at the end of this iteration; returns False if the transport is broken.

        The first bytes of an iteration are kept without asking the transport whether it is closing:
        `flush` asks, and `put_other` for all further ones.
        """
        if (
            stream.pending is not None
            or type(data) is not bytes
            or len(data) >= MAX_DELAYED
            or (not stream.is_transport_empty and stream.transport.get_write_buffer_size())
        ):
            return self.put_other(stream, data)
        if not self.is_scheduled:
            self.schedule()
        self.streams.append(stream)
        stream.pending = data
        return True

    def frame(self, codec: "FrameCodec", payload: str | bytes) -> bytes:
        """Return a message's frame, made once in this loop iteration for all codecs alike.

        An app that loops over its clients sends the same object to each. It is recognised by its
        identity, which cannot change while it is kept here.
        """
        recent = self._recent
        for known, encoding, frame in recent:
            if known is payload and encoding is codec.encoding:
                return frame
        frame = codec.message(payload)
        if codec.encoding is not None:
            if not self.is_scheduled:
                self.schedule()
            self._recent = [*recent[1 - RECENT :], (payload, codec.encoding, frame)]
        return frame

    def flush(self) -> None:
        """Send everything that is pending, one call for each connection.

        A connection whose transport raises is aborted, because some of its bytes may be lost; the
        others are flushed, and the first exception is raised.
        """
        streams, self.streams = self.streams, []
        self._recent = []
        self.is_scheduled = False
        if self.has_late or len(streams) > MAX_FLUSHED:
            streams = self.take_share(streams)
        failures = [failure for stream in streams if (failure := _flush_or_abort(stream))]
        if failures:
            raise failures[0]

    def take_share(self, streams: list[PlainStream]) -> list[PlainStream]:
        """Return what this iteration flushes of these and of the late ones; keep the others."""
        raise NotImplementedError

    def put_other(self, stream: PlainStream, data: bytes) -> bool:
        """Send bytes in the less common cases; returns False if the transport is broken."""
        raise NotImplementedError

    def schedule(self) -> None:
        """Schedule `flush` for the end of this loop iteration."""
        raise NotImplementedError


def _flush_or_abort(stream: PlainStream) -> Exception | None:
    """Send what is pending for a stream; if that fails, abort it and return the exception."""
    data, stream.pending = stream.pending, None
    try:
        if data is not None and not stream.transport.is_closing():
            _send(stream, data)
    except Exception as failure:  # noqa: BLE001  # the caller flushes others, too
        with contextlib.suppress(Exception):
            stream.abort()  # the first exception says enough
        return failure
    return None


def _send(stream: PlainStream, data: bytes | bytearray) -> None:
    """Send to the descriptor, and hand to the transport what the kernel does not take."""
    sent = 0
    if stream.fd == UNKNOWN:
        stream.fd = stream.find_descriptor()
    if stream.fd >= 0:
        sent = _send_directly(stream.fd, data)
    elif stream.fd == FIRST_WRITE:
        stream.fd = UNKNOWN
    stream.is_transport_empty = sent == len(data)
    if sent < len(data):
        stream.transport.write(data[sent:])


def _send_directly(fd: int, data: bytes | bytearray) -> int:
    """Send bytes; returns how many the kernel took, 0 after an error.

    The transport then gets the same error from its own write.
    """
    try:
        return os.write(fd, data)  # the descriptors of a loop's transports never block
    except OSError:
        return 0


class Several:
    """The value of `receiver` while several receivers wait at once, which is rare."""

    def done(self) -> bool:
        """Return True: no message may be handed to this."""
        return True


SEVERAL = Several()


class PlainMessagePath:
    """What one WebSocket needs for its common messages.

    Attributes:
        is_open: The app has accepted, and there is a session.
        session: The session, from the accept on.
        wire: The wire to which frames are written.
        gate: The wire's gate.
        codec: The session's codec.
        batch: The worker's write batch.
        create_future: The event loop's method.
        max_size: Bytes of the largest incoming message.
        receiver: The arrival for which a receiver waits, None if there is none.
        queue: Messages for which no receiver waited, None if there are none.
        counts_each: The subclass counts each incoming message for its rate limit, so all of them
            go to `feed_other`.
        received_messages: Number of incoming data messages.
        received_bytes: Bytes of incoming frames, with their headers.
        sent_messages: Number of outgoing data messages.
        sent_bytes: Bytes of outgoing frames, with their headers.
        handed_at: When the app got its last event, by the message meter's clock; 0 while it waits
            for one, and while metrics are off.
    """

    __slots__ = (
        "batch",
        "codec",
        "counts_each",
        "create_future",
        "gate",
        "handed_at",
        "is_open",
        "max_size",
        "queue",
        "received_bytes",
        "received_messages",
        "receiver",
        "sent_bytes",
        "sent_messages",
        "session",
        "wire",
    )

    is_open: bool
    session: "Session"
    wire: "Wire"
    gate: "Gate"
    codec: "FrameCodec"
    batch: PlainWriteBatch
    create_future: Callable[[], Arrival]
    max_size: int
    receiver: Arrival | Several | None
    queue: "ReceiveQueue | None"
    counts_each: bool
    received_messages: int
    received_bytes: int
    sent_messages: int
    sent_bytes: int
    handed_at: float

    def __new__(cls, *arguments: object) -> Self:  # noqa: ARG004  # of the subclass's __init__
        """Create a path whose fields are all there, as the compiled twin does."""
        self = super().__new__(cls)
        self.is_open = False
        self.receiver = None
        self.queue = None
        self.counts_each = False
        self.received_messages = self.received_bytes = 0
        self.sent_messages = self.sent_bytes = 0
        self.handed_at = 0.0
        return self

    # -- in ----------------------------------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """Process bytes from the client: nearly always one message that a receiver waits for.

        An idle client's Pongs are not parsed.
        """
        if type(data) is not bytes or not self.session.is_idle:
            self.feed_other(data)
        elif self._hand_over(data):
            self.received_bytes += len(data)
            self.received_messages += 1
        elif self.codec.is_pong(data):
            self.received_bytes += len(data)
            self.pong_received()
        else:
            self.feed_other(data)

    def _hand_over(self, data: bytes) -> bool:
        """Complete the arrival with the message that `data` is; returns False if it cannot be."""
        receiver = self.receiver
        if (
            receiver is None
            or isinstance(receiver, Several)
            or receiver.done()
            or self.counts_each
            or (message := self.codec.read_message(data, self.max_size)) is None
        ):
            return False
        self.receiver = None
        if self.batch.message_meter is not None:
            self.batch.message_meter.record_received(message)
        receiver.set_result(message)
        return True

    def pong_received(self) -> None:
        """Note that a Pong has arrived now."""
        raise NotImplementedError

    def expect(self) -> Arrival | None:
        """Return the arrival of the next message, None if `receive_other` has to be used.

        That is so if a message may be available already, if another receiver waits, and before the
        app has accepted.
        """
        if (
            not self.is_open
            or self.receiver is not None
            or self.queue is not None
            or not self.session.is_idle
        ):
            return None
        arrival = self.create_future()
        self.receiver = arrival
        return arrival

    async def receive(self) -> Any:
        """Return the app's next message."""
        meter = self.batch.message_meter
        if meter is None:
            return await self._next_event()
        if self.handed_at:
            meter.record_event(meter.clock() - self.handed_at)
            self.handed_at = 0.0
        event = await self._next_event()
        self.handed_at = meter.clock()
        return event

    async def _next_event(self) -> Any:
        arrival = self.expect()
        if arrival is None:
            return await self.receive_other()
        try:
            payload = await arrival
        except BaseException:
            self.give_back(arrival)
            raise
        if isinstance(payload, str):
            return {"type": "websocket.receive", "text": payload}
        if payload is not None:
            return {"type": "websocket.receive", "bytes": payload}
        return await self.receive_other()

    # -- out ---------------------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """Send the app's message; wait while the client reads too slowly."""
        if not self.put(message):
            await self.send_other(message)
        elif self.gate.is_shut:
            await self.wait_for_reader()

    def put(self, message: Message) -> bool:
        """Send the message if it is a common `websocket.send` and can be sent now.

        Returns:
            False if it was not sent: use `send_other`.
        """
        if not self.is_open or not self.session.can_send or self.gate.is_shut:
            return False
        payload = common_payload(message)
        if payload is None:
            return False
        batch = self.batch
        # Before the frame is made: with context takeover it changes the compressor, so what may
        # raise for an app at its recursion limit comes first.
        if not batch.is_scheduled:
            batch.schedule()
        try:
            frame = batch.frame(self.codec, payload)
        except UnicodeEncodeError:
            return False  # send_other reports it to the app
        self.wire.write(frame)
        self.sent_messages += 1
        self.sent_bytes += len(frame)
        if batch.message_meter is not None:
            batch.message_meter.record_sent(payload)
        return True

    # -- the subclass's part -----------------------------------------------------------------------

    def feed_other(self, data: bytes) -> None:
        """Process bytes that are not one whole message for a waiting receiver."""
        raise NotImplementedError

    def give_back(self, arrival: Arrival) -> None:
        """Keep the message of a receiver that was cancelled or closed before it could take it."""
        raise NotImplementedError

    async def send_other(self, message: Message) -> None:
        """Handle a message that is not a common one, or that has to wait."""
        raise NotImplementedError

    async def receive_other(self) -> Any:
        """Return the app's next event if `expect` returned None, or if the state has changed."""
        raise NotImplementedError

    async def wait_for_reader(self) -> None:
        """Wait until the client has read enough, or will read nothing more."""
        raise NotImplementedError


Path = TypeVar("Path", bound=PlainMessagePath)


def deliver(
    targets: list[Path], encoded: "Encoded", excluded: object, slowly: Callable[[Path], object]
) -> int:
    """Send one message to many WebSockets.

    Args:
        targets: The WebSockets.
        encoded: The message.
        excluded: One of them that does not get it.
        slowly: Called with each one to which it cannot be written now, or not as it is for others.

    Returns:
        To how many it was written.
    """
    count = 0
    for path in targets:
        if path is excluded:
            continue
        try:
            is_sent = _deliver_to(path, encoded)
        except Exception:  # noqa: BLE001  # the function meets it again, and reports it
            is_sent = False
        if is_sent:
            count += 1
        else:
            slowly(path)
    return count


def _deliver_to(path: PlainMessagePath, encoded: "Encoded") -> bool:
    if not path.is_open or not path.session.can_send or path.gate.is_shut:
        return False
    if path.codec.encoding is None:
        return False
    frame = encoded.frame_for(path.codec)
    path.wire.write(frame)
    path.sent_messages += 1
    path.sent_bytes += len(frame)
    return True
