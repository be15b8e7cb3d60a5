"""Reads the messages of a WebSocket: parsed lazily, with reading paused while there is no room."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsgate.server.fast_path import SEVERAL, Arrival, PlainMessagePath, Several
from wsgate.server.receive_queue import ReceiveQueue
from wsgate.ws.rate import MessageRate
from wsgate.ws.session import CLOSED, CLOSING, OPEN, Session

if TYPE_CHECKING:
    from wsgate.server.wire import Wire
    from wsgate.server.worker import Worker

try:
    from wsgate.server._fast_path import MessagePath
except ImportError:  # no compiler was found where wsgate was installed
    MessagePath = PlainMessagePath  # type: ignore[assignment, misc]  # the same class

# Limits of parsing for one connection in one loop iteration, so that others do not have to wait:
MAX_PARSING = 0.005  # seconds
MAX_TAKES = 64  # calls of `Session.take`


class MessageReader(MessagePath):
    """Reads the messages of one session; common ones are handled by the message path.

    is_over_rate: the client has sent more messages than --ws-max-message-rate allows; those over it
    are dropped.
    """

    __slots__ = ("_is_scheduled", "_rate", "_receivers", "is_over_rate", "worker")

    def __init__(self, worker: "Worker", wire: "Wire") -> None:
        self.worker = worker
        self.wire = wire
        self.gate = wire.gate
        self.batch = worker.batch
        self.create_future = worker.create_future
        self.max_size = worker.config.ws_max_size
        self._receivers: Sequence[Arrival] = ()  # all, while several wait and `receiver` is SEVERAL
        self._is_scheduled = False
        self._rate: MessageRate | None = None
        self.is_over_rate = False

    def open(self, session: Session) -> None:
        """Read the messages of a session from now on."""
        self.is_open = True
        self.session = session
        self.codec = session.codec
        if self.worker.config.ws_max_message_rate:
            self._rate = _message_rate(self.worker)
            self.counts_each = True

    def session_changed(self) -> None:
        """Act on a state other than OPEN, or on a rate that is exceeded."""
        raise NotImplementedError

    # -- the app's side ----------------------------------------------------------------------------

    def pop_message(self) -> str | bytes:
        """Return the next message of the queue, which is not empty.

        Unparsed bytes wait for another loop iteration. Otherwise an app whose queue is always full
        would keep all other connections waiting.
        """
        assert self.queue is not None  # the caller has checked
        if self.session.pending or self.wire.paused_since is not None:
            self._continue_soon()  # first: if it raises, the message stays in the queue
        message = self.queue.pop()
        if not self.queue:
            self.queue = None
        return message

    def add_receiver(self) -> Arrival:
        """Add a receiver after those that already wait, and return its arrival."""
        arrival = self.create_future()
        if self._receivers or (self.receiver is not None and not self.receiver.done()):
            self._receivers = [*self._waiting_receivers(), arrival]
            self.receiver = SEVERAL
        else:
            self.receiver = arrival
        return arrival

    def _waiting_receivers(self) -> list[Arrival]:
        """Return the waiting receivers, the oldest first."""
        first = self.receiver
        alone = () if first is None or isinstance(first, Several) else (first,)
        return [one for one in (*alone, *self._receivers) if not one.done()]

    def give_back(self, arrival: Arrival) -> None:
        """Keep the message of a receiver that was cancelled or closed before it could take it."""
        if not arrival.done():
            arrival.cancel()  # the receiver was closed: the next message is for another one
        if arrival.cancelled() or (message := arrival.result()) is None:
            return
        receiver = self._take_receiver()
        if receiver is not None:
            receiver.set_result(message)
        else:
            self._make_queue().put_back(message)

    def wake_receivers(self) -> None:
        """Resume all receivers, so that they check the session's state."""
        while self.receiver is not None:
            receiver = self._take_receiver()
            if receiver is not None:
                receiver.set_result(None)

    def _take_receiver(self) -> Arrival | None:
        """Remove the oldest waiting receiver and return it, None if there is none."""
        if self._receivers:
            first, *self._receivers = self._waiting_receivers() or (None,)
            self.receiver = SEVERAL if self._receivers else None
            return first
        receiver, self.receiver = self.receiver, None
        if receiver is None or isinstance(receiver, Several) or receiver.done():
            return None
        return receiver

    def _make_queue(self) -> ReceiveQueue:
        if self.queue is None:
            config = self.worker.config
            self.queue = ReceiveQueue(config.ws_max_queue, config.ws_max_queue_size)
        return self.queue

    # -- the client's side -------------------------------------------------------------------------

    def feed_other(self, data: bytes) -> None:
        """Process bytes that are not one whole message for a waiting receiver."""
        session = self.session
        if session.state is OPEN or session.state is CLOSING:  # else nothing more is read
            self.received_bytes += len(data)
        if self.queue is not None:
            session.feed(data)
        elif messages := session.take(self.worker.config.ws_max_queue, data):
            self._deliver(messages)
        if self.queue is not None or session.has_work or session.has_pong or self.is_over_rate:
            self.pump()

    def pump(self) -> None:
        """Parse buffered bytes, as far as the queue has room and this iteration has time."""
        session = self.session
        if session.pending:
            self._parse()
        if session.has_pong:
            session.has_pong = False
            self.pong_received()
        self.write_replies()
        if self.is_over_rate or session.state is not OPEN:
            self.session_changed()
        if session.state is not CLOSED:
            self._pace_reading()

    def _parse(self) -> None:
        session, clock = self.session, self.worker.clock
        takes, until = MAX_TAKES, clock() + MAX_PARSING
        while takes and session.pending and (room := self._room):
            if not self._deliver(session.take(room)):
                return
            takes = takes - 1 if clock() < until else 0

    def _deliver(self, messages: Sequence[str | bytes]) -> bool:
        """Hand messages to receivers or the queue; returns False if they are over the rate."""
        self.received_messages += len(messages)
        if (meter := self.batch.message_meter) is not None:
            for message in messages:
                meter.record_received(message)
        if self._rate is not None and messages and not self._is_within(self._rate, len(messages)):
            self.is_over_rate = True
            return False
        for message in messages:
            receiver = self._take_receiver()
            if receiver is not None:
                receiver.set_result(message)
            else:
                self._make_queue().put(message)
        return True

    @property
    def _room(self) -> int:
        # After our Close the messages are discarded: only the peer's Close matters.
        if self.session.state is CLOSING or self.queue is None:
            return self.worker.config.ws_max_queue
        return self.queue.room

    def _is_within(self, rate: MessageRate, messages: int) -> bool:
        return rate.allows(messages, self.worker.clock())

    def write_frames(self, data: bytes) -> None:
        """Send frames that do not pass the message path, and count their bytes."""
        self.sent_bytes += len(data)
        self.wire.write(data)

    def write_frames_at_once(self, data: bytes) -> bool:
        """Send frames as `Wire.write_at_once` does, and count their bytes."""
        self.sent_bytes += len(data)
        return self.wire.write_at_once(data)

    def write_replies(self) -> None:
        """Answer Pings and the peer's Close; a shut gate holds the latest Ping."""
        if frames := self.session.take_replies(hold_pongs=self.gate.is_shut):
            self.write_frames(frames)

    def _pace_reading(self) -> None:
        """Resume reading if all is parsed, else pause it; parse later if there is room."""
        has_room = self._room > 0
        if has_room and not self.session.pending:
            self.wire.resume_reading()
            return
        self.wire.pause_reading()
        if has_room:
            self._continue_soon()

    def _continue_soon(self) -> None:
        if not self._is_scheduled:
            self.worker.call_soon(self._continue)  # an app at its recursion limit makes it raise
            self._is_scheduled = True

    def _continue(self) -> None:
        self._is_scheduled = False
        self.pump()


def _message_rate(worker: "Worker") -> MessageRate:
    config, rate = worker.config, worker.config.ws_max_message_rate
    burst = config.ws_max_message_burst or max(1, int(2 * rate))
    return MessageRate(rate, burst, worker.clock())
