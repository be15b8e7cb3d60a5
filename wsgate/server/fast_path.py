"""The common way of one whole message, in and out: the plain twin of _fast_path.c.

A message that comes whole while the app's task waits for it, and one that the app sends while its
client keeps up: nearly all are of these two kinds, and all that they cost outside the codec and the
app is here. What stands on a lane does the rest. The same tests run over both.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self

from wsgate.asgi.websocket import common_payload
from wsgate.types import Message

if TYPE_CHECKING:
    from wsgate.server.backpressure import Gate, ReceiveQueue
    from wsgate.server.write_batch import Outbox
    from wsgate.ws.frames.codec import FrameCodec
    from wsgate.ws.session import Session

Arrival = asyncio.Future[str | bytes | None]
"""Of a message, or of None where only the session's state has moved."""


class Target(Protocol):
    """What takes the bytes that come in."""

    def data(self, data: bytes) -> None:
        """Take bytes that came in."""


class PlainRelay:
    """Hands what comes in to whoever has the connection: transports keep hold of `data_received`.

    target: has the bytes' way in, its `data`.
    """

    __slots__ = ("target",)

    target: Target

    def data_received(self, data: bytes) -> None:
        """Take bytes from the transport."""
        self.target.data(data)


class Several:
    """Stands for several who wait at once, which is not usual."""

    def done(self) -> bool:
        """Say that no message is to be given to it."""
        return True


SEVERAL = Several()


class PlainLane:
    """What one open WebSocket needs for its usual messages.

    session, gate: those of the connection. receiver: who alone waits for a message. queue: messages
    that nobody waited for, None without any. codec: the session's. most: bytes of a message.
    transport: what is written to, by way of the outbox; waiting: what that holds. create_future:
    the loop's. is_counted: messages are counted one by one, so none goes past the count.
    messages_in, octets_in, messages_out, octets_out: what went this way, past the session's counts.
    """

    __slots__ = (
        "codec",
        "create_future",
        "gate",
        "is_counted",
        "messages_in",
        "messages_out",
        "most",
        "octets_in",
        "octets_out",
        "outbox",
        "queue",
        "receiver",
        "session",
        "transport",
        "waiting",
    )

    session: "Session"
    gate: "Gate"
    codec: "FrameCodec"
    most: int
    transport: asyncio.WriteTransport
    outbox: "Outbox"
    waiting: "dict[asyncio.WriteTransport, bytes | bytearray]"
    create_future: Callable[[], Arrival]
    receiver: Arrival | Several | None
    queue: "ReceiveQueue | None"
    is_counted: bool
    messages_in: int
    octets_in: int
    messages_out: int
    octets_out: int

    def __new__(cls, *arguments: object) -> Self:  # noqa: ARG004  # of the subclass's __init__
        """Make one as C does: complete, so that nobody has to call an __init__ of it."""
        self = super().__new__(cls)
        self.receiver = None
        self.queue = None
        self.is_counted = False
        self.messages_in = self.octets_in = self.messages_out = self.octets_out = 0
        return self

    def data(self, data: bytes) -> None:
        """Take bytes that came in: nearly always one message, which somebody waits for."""
        receiver = self.receiver
        if (
            receiver is None
            or isinstance(receiver, Several)
            or type(data) is not bytes
            or not self.session.is_idle
            or receiver.done()
            or self.is_counted
            or (message := self.codec.read_message(data, self.most)) is None
        ):
            self.feed_other(data)
            return
        self.octets_in += len(data)
        self.messages_in += 1
        self.receiver = None
        receiver.set_result(message)

    def expect(self) -> Arrival | None:
        """Return the arrival of the next message, None where it may be there or another waits."""
        if self.receiver is not None or self.queue is not None or not self.session.is_idle:
            return None
        future = self.create_future()
        self.receiver = future
        return future

    def put(self, message: Message) -> bool:
        """Send a usual `websocket.send` if it can leave now; False where it is still to be sent."""
        if not self.session.can_send or self.gate.is_shut:
            return False
        payload = common_payload(message)
        if payload is None:
            return False
        try:
            frame = self.codec.message(payload)
        except UnicodeEncodeError:
            return False  # the slow way tells the app
        self.messages_out += 1
        self.octets_out += len(frame)
        if not self.outbox.put(self.transport, frame):
            self.broken()
        return True

    def feed_other(self, data: bytes) -> None:
        """Take bytes that are anything else."""
        raise NotImplementedError

    def broken(self) -> None:
        """Take note that the transport broke at a write."""
        raise NotImplementedError
