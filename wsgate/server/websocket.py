"""One WebSocket: the app's call, the wire's driver once it is open, and its end."""

import functools
import math
from typing import TYPE_CHECKING

from wsgate.asgi import websocket as asgi
from wsgate.asgi.scope import ForwardedPeer, websocket_scope
from wsgate.asgi.websocket import CLOSED as CONVERSATION_CLOSED
from wsgate.errors import ClientDisconnected, InvalidMessage, Refusal, RequestRefused
from wsgate.observe.causes import Cause
from wsgate.observe.events import WebSocketClosed, WebSocketOpened
from wsgate.observe.throttled_log import throttled
from wsgate.server import app_call
from wsgate.server.connection_info import ConnectionInfo, Kind, Traffic
from wsgate.server.deadlines import LINGER
from wsgate.server.end_cause import End, find_end
from wsgate.server.liveness import Liveness
from wsgate.server.message_reader import MessageReader
from wsgate.server.pending_websocket import PendingWebSocket
from wsgate.topics.errors import TopicsError
from wsgate.topics.interface import EXTENSION
from wsgate.topics.outlet import Outlet, OutletFull, Waiting
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Slow
from wsgate.types import Header, Message, WebSocketEvent
from wsgate.ws.codes import (
    INTERNAL_ERROR,
    NORMAL,
    POLICY_VIOLATION,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
)
from wsgate.ws.encoded import Encoded
from wsgate.ws.session import CLOSED, FAILING, OPEN, SERVER, Session

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from wsgate.http.request import Request
    from wsgate.server.wire import Wire
    from wsgate.server.worker import Worker

_OUTLET_FULL = "more than --topics-max-outlet waited for it"
FAULT_GRACE = 5.0  # seconds for the app to answer the messages from before a bad frame


class WebSocket(MessageReader):
    """One call of the app for a WebSocket, and the wire's driver from the accept on.

    pending: drives the wire until the app decides. dropped_messages: number of published messages
    that were dropped because the client was slow.
    """

    __slots__ = (
        "_conversation",
        "_deadline",
        "_end",
        "_headers",
        "_liveness",
        "_outlet",
        "_peer",
        "_pending",
        "_target",
        "dropped_messages",
    )

    def __init__(self, worker: "Worker", wire: "Wire", pending: PendingWebSocket) -> None:
        super().__init__(worker, wire)
        self._peer = pending.offer.peer
        self._pending: PendingWebSocket | None = pending
        self._conversation = pending.conversation
        self._deadline = math.inf
        self._target: bytes | None = None  # from the accept until observers are notified of the end
        self._headers: Sequence[Header] = ()  # of the handshake, for observers
        self._end: End | None = None  # why this side has closed or aborted it
        self._liveness: Liveness  # from the accept on
        self._outlet: Outlet | None = None  # while messages wait for the gate to open
        self.dropped_messages = 0

    def start(self) -> None:
        """Take the wire over and call the app."""
        pending = self._pending
        assert pending is not None  # nobody has accepted yet
        self.wire.hand_to(pending)
        pending.on_end = self._end_listeners
        pending.start()
        offer = pending.offer
        subprotocols = offer.handshake.subprotocols
        scope = websocket_scope(
            offer.request, offer.peer, self.worker.mount, self.wire.connection_id, subprotocols
        )
        scope["extensions"][EXTENSION] = self.worker.topics.extension(self, self)
        app_call.start(self.worker, scope, self, self.worker.websockets)

    def _end_listeners(self) -> None:
        self.worker.topics.leave(self)

    # -- the app's receive and send, if not handled by the message path ----------------------------

    async def receive_other(self) -> WebSocketEvent:
        """Return the next event: the connect, messages, then repeatedly the disconnect."""
        if (pending := self._pending) is not None:
            if pending.take_connect():
                return {"type": "websocket.connect"}
            if (event := await pending.receive()) is not None:
                return event
        while True:
            if (event := self._ready_event()) is not None:
                return event
            arrival = self.add_receiver()
            try:
                payload = await arrival
            except BaseException:
                self.give_back(arrival)
                raise
            if payload is not None:
                return asgi.receive_event(payload)

    def _ready_event(self) -> WebSocketEvent | None:
        """Return an event that is available now: a queued message, or the end if there is none."""
        session = self.session
        if self.queue is not None:
            return asgi.receive_event(self.pop_message())
        if session.state is OPEN:
            return None
        if session.state is FAILING:  # the app has received all messages from before the bad frame
            self.close_for_fault()
        return asgi.disconnect_event(session.close_code, session.close_reason)

    async def send_other(self, message: Message) -> None:
        """Handle a message that is not a common one, or that has to wait."""
        if self._pending is not None:
            if (denial := self._decide(self._pending, message)) is not None:
                await self._pending.deny(denial.message)
            return
        if self._has_client_left:
            raise ClientDisconnected("the client has left")
        action = self._conversation.handle(message)
        if isinstance(action, asgi.Close):
            self.close(action.code, action.reason, Cause.APP_CLOSED)
        else:
            assert isinstance(action, (str, bytes))  # an open conversation has no other action
            await self._send_payload(action)
        if self.gate.is_shut:
            await self.wait_for_reader()

    async def _send_payload(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            _check_text(payload)
        if self.gate.is_shut:
            await self._send_from_outlet(payload)
        else:
            self._write_message(self.session.write_message(payload), payload)

    def _write_message(self, frame: bytes, payload: str | bytes) -> None:
        self.write_frames(frame)
        self.sent_messages += 1
        if self.batch.message_meter is not None:
            self.batch.message_meter.record_sent(payload)

    # -- messages that wait for a slow client: the outlet ------------------------------------------

    def publish(self, publication: Publication, slow: Slow) -> tuple[int, bool]:
        """Send a message after all earlier ones, or queue it while the client is slow.

        Nothing is sent after the end. If too much would wait and the rule is CLOSE, the WebSocket
        is closed with 1013.

        Returns:
            The number of messages that were dropped, and whether the WebSocket was closed.
        """
        if not self.session.can_send:
            return 1, False
        if not self.gate.is_shut:
            frame = self.session.write_encoded(publication.encoded)
            self._write_message(frame, publication.data)
            return 0, False
        try:
            dropped = self._open_outlet().publish(publication, slow)
        except OutletFull:
            self.give_up_slow()
            return 0, True
        self.dropped_messages += dropped
        return dropped, False

    def give_up_slow(self) -> None:
        """Close with 1013: too much waits that was published."""
        self.give_up(TRY_AGAIN_LATER, "slow consumer", Cause.SLOW_CONSUMER, _OUTLET_FULL)

    @property
    def waiting_messages(self) -> tuple[int, int]:
        """The messages that the app has not received, and those that wait for the client."""
        queue, outlet = self.queue, self._outlet
        return 0 if queue is None else len(queue), 0 if outlet is None else len(outlet)

    def check_can_subscribe(self) -> None:
        """Raise TopicsError before the accept, and ClientDisconnected after the end."""
        if self._has_client_left:
            raise ClientDisconnected("the client has left")
        if not self.is_open:
            raise TopicsError("accept the WebSocket before you subscribe it")
        if not self.session.can_send:
            raise TopicsError("the WebSocket was closed")

    async def _send_from_outlet(self, payload: str | bytes) -> None:
        """Queue a message after those that already wait, and wait until it is sent."""
        end: asyncio.Future[Exception | None] = self.worker.loop.create_future()
        outlet = self._open_outlet()
        waiting = outlet.add(Encoded(payload), functools.partial(_complete, end))
        try:
            error = await end
        except BaseException:
            outlet.remove(waiting)
            raise
        if error is not None:
            raise error

    def _open_outlet(self) -> Outlet:
        if self._outlet is None:
            self._outlet = Outlet(self.worker.topics.max_outlet)
        return self._outlet

    def _flush_outlet(self) -> None:
        """Send queued messages, as long as the client keeps up."""
        while self._outlet and not self.gate.is_shut and self.session.can_send:
            self._send_waiting(self._outlet.pop())
        if not self._outlet:
            self._outlet = None

    def _send_published(self) -> None:
        """Send the published messages of the outlet before our Close, although the client is slow.

        They take no more memory in the write buffer than in the outlet. A `send` that still waits
        raises instead: its message was not accepted yet.
        """
        if self._outlet is not None and self.session.can_send:
            for waiting in self._outlet.pop_published():
                self._send_waiting(waiting)

    def _send_waiting(self, waiting: Waiting) -> None:
        """Send a message of the outlet. An exception ends only this message."""
        error = None
        try:
            frame = self.session.write_encoded(waiting.encoded)
            self._write_message(frame, waiting.encoded.payload)
        except Exception as failure:  # noqa: BLE001  # its sender gets it, the others go on
            error = failure
            if waiting.on_end is None:
                throttled.exception("A published message could not be sent")
            if waiting.slow is Slow.CLOSE:
                self.abort(Cause.MESSAGES_LOST)  # it would miss a message: it has to recover
        waiting.end(error)

    def _close_outlet(self) -> None:
        """Resume the senders of messages that can no longer be sent."""
        if self._outlet is not None and not self.session.can_send:
            has_left = self.session.closed_by is not SERVER
            reason = "the client has left" if has_left else "the WebSocket was closed"
            self._outlet.end(ClientDisconnected(reason))
            self._outlet = None

    async def wait_for_reader(self) -> None:
        """Wait until the client has read enough, or will read nothing more."""
        while self.gate.is_shut and self.session.can_send:
            await self.gate.wait()

    @property
    def is_over(self) -> bool:
        """Whether nothing can be sent any more: its listeners end."""
        if self._pending is not None:
            return self._pending.end is not None
        return not self.session.can_send

    @property
    def _has_client_left(self) -> bool:
        """Whether the client cannot be reached any more, although the app has not closed."""
        if self._conversation.state is CONVERSATION_CLOSED:
            return False
        if self._pending is not None:
            return self._pending.end is not None
        return not self.session.can_send

    # -- the handshake -----------------------------------------------------------------------------

    def _decide(self, pending: PendingWebSocket, message: Message) -> asgi.Deny | None:
        """Apply the app's decision; returns a part of its denial response, None for others."""
        if pending.end is not None and self._has_client_left:
            raise ClientDisconnected("the client has left")
        action = self._conversation.handle(message)
        if isinstance(action, asgi.Accept):
            self._accept(pending, action)
            return None
        if isinstance(action, asgi.Refuse):
            reason = "the application refused the WebSocket"
            pending.refuse(RequestRefused(403, reason, refusal=Refusal.APP_REFUSED))
            return None
        assert isinstance(action, asgi.Deny)  # a pending conversation has no other action
        return action

    def _accept(self, pending: PendingWebSocket, action: asgi.Accept) -> None:
        worker = self.worker
        now = worker.clock()
        session = Session(worker.make_codec(pending.offer.handshake.deflate))
        self._liveness = Liveness(now)
        self.wire.check_at(now + worker.first_check)
        early = pending.accept(action)
        self._pending = None
        self.open(session)
        request = pending.offer.request
        if worker.observers:
            self._target = request.target
            self._headers = request.headers
            self._notify_opened(request)
        else:
            self._target = request.raw_path  # costs no memory: the app's scope has the same object
        self.wire.hand_to(self)
        if early:
            self.data(early)
            self.pump()  # resumes reading, which is paused after many early bytes
        if worker.stopping:
            worker.call_soon(self.drain)

    def _notify_opened(self, request: "Request") -> None:
        worker, connection = self.worker, self.wire.connection_id
        reconnects = worker.reconnects
        said = reconnects.open(connection, request) if reconnects is not None else None
        worker.observers.notify(
            WebSocketOpened(self._peer.client, request.target, connection, request.headers, said)
        )

    # -- what the wire reports ---------------------------------------------------------------------

    def eof(self) -> None:
        """Handle the client's half-close as its end: a WebSocket needs both directions."""
        self._end_input()
        self._act_on_state()

    def lost(self) -> None:
        """Notify the app that its client has left, after the messages that it sent before."""
        if self.session.state is not CLOSED:
            self._end_input()
        if self.session.state is CLOSED:  # else unparsed bytes may contain the client's Close
            self._notify_end()

    def writable(self) -> None:
        """Answer the Ping that had to wait, and send the messages of the outlet."""
        self.write_replies()
        self._flush_outlet()

    def _end_input(self) -> None:
        self.session.feed_eof()
        self._wake_all()

    def _wake_all(self) -> None:
        """Resume receivers and senders, so that they check the session's state."""
        self.wake_receivers()
        self.gate.wake()
        self._close_outlet()
        if not self.session.can_send:
            self.worker.topics.leave_socket(self)

    def session_changed(self) -> None:
        """Act on a state other than OPEN, or on a rate that is exceeded; resume the app."""
        if self.is_over_rate:
            self.close(POLICY_VIOLATION, "message rate exceeded", Cause.POLICY)
        if self.session.state is not OPEN:
            self._act_on_state()
            self._wake_all()

    def _act_on_state(self) -> None:
        """Close the wire or set the deadline that the session's state requires."""
        state = self.session.state
        if state is FAILING and self._deadline == math.inf:
            self._set_deadline(FAULT_GRACE)
        elif state is CLOSED:
            self._notify_end()
            if self.session.is_closed_by_both:
                self.wire.close_finished()
            else:
                self.wire.close()

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = self.worker.clock() + seconds
        self.wire.check_at(self._deadline)

    # -- the end -----------------------------------------------------------------------------------

    def pong_received(self) -> None:
        """Measure the round trip of the Ping that is answered."""
        round_trip = self._liveness.record_pong(self.worker.clock())
        if round_trip is not None and self.worker.meter is not None:
            self.worker.meter.count_round_trip(round_trip)

    def close(self, code: int, reason: str, cause: Cause, detail: str = "") -> None:
        """Send what was published, then our Close.

        The client has --ws-close-timeout seconds to answer with its own.
        """
        self._send_published()
        self._send_close(code, reason, cause, detail)

    def close_for_fault(self) -> None:
        """Send the Close of a bad frame, after the answers to the messages before it."""
        session = self.session
        # `find_end` takes the cause from the session's fault, which may be MESSAGE_TOO_BIG.
        self.close(session.close_code, session.close_reason, Cause.PROTOCOL_ERROR)

    def abort(self, cause: Cause) -> None:
        """End TCP at once, without a Close."""
        self._end = self._end or (cause, "")
        self.wire.abort()

    def _send_close(self, code: int, reason: str, cause: Cause, detail: str) -> None:
        if not self.session.can_send:
            return
        # The deadline comes first: an app at its recursion limit makes what follows raise.
        self._set_deadline(self.worker.config.ws_close_timeout)
        frame = self.session.close(code, reason)  # of a fault, if there was one
        self._end = (cause, detail)
        self.write_frames(frame)
        self._wake_all()
        if self.session.state is CLOSED:
            self._act_on_state()
        else:
            self.pump()  # the client's Close may wait after messages that had no room

    def give_up(self, code: int, reason: str, cause: Cause, detail: str = "") -> None:
        """Send our Close to a client that has timed out, and close within LINGER seconds.

        Such a client does not read, or sends nothing, so it would not answer the Close. What waits
        in the outlet is dropped.
        """
        self._send_close(code, reason, cause, detail)
        if self.session.state is CLOSED:
            self.wire.close_promptly()
        else:
            self._set_deadline(min(LINGER, self.worker.config.ws_close_timeout))

    def stop(self) -> None:
        """Do nothing: no further request can follow a WebSocket."""

    def info(self) -> ConnectionInfo:
        """Return what an operator sees of the connection, which is open."""
        path, opened_at = self._target, self._liveness.opened_at
        if path is not None:
            path = path.partition(b"?")[0]
        traffic = Traffic(
            self.received_messages, self.received_bytes, self.sent_messages, self.sent_bytes
        )
        round_trip = self._liveness.round_trip
        return ConnectionInfo(
            Kind.WEBSOCKET, self._peer.client, path, opened_at, traffic, round_trip
        )

    def drain(self) -> None:
        """Close with 1012, so that the client reconnects, or refuse the handshake with 503."""
        if self._pending is not None:
            self._pending.drain()
        else:
            is_replaced = self.worker.is_replaced
            cause = Cause.WORKER_RESTART if is_replaced else Cause.SERVER_STOPPING
            self.close(SERVICE_RESTART, "service restart", cause)

    def close_to_recover(self) -> None:
        """Close with 1012: messages of its topics are lost, and the client can recover them."""
        self.close(SERVICE_RESTART, "service restart", Cause.MESSAGES_LOST)

    def done(self, error: BaseException | None) -> None:
        """Handle the end of the app's call: refuse or close if the app has not done so.

        Args:
            error: What the app raised, None if it returned.
        """
        if type(self._peer) is ForwardedPeer:
            self.worker.admission.leave_request(self._peer.client)
        if self._pending is not None:
            self._pending.on_end = None  # no cycle of references is left
            self._end_listeners()
        left = self._has_client_left or self.wire.is_lost
        if error is not None:
            app_call.report(error, client_left=left)
        if self.wire.is_lost:
            self._notify_end()  # not notified yet if the app has not received everything
        if left:
            return
        if self._pending is not None:
            self._pending.handle_app_end(error)
        elif error is not None:  # these do nothing if our Close was sent
            detail = type(error).__qualname__
            self.close(INTERNAL_ERROR, "internal error", Cause.APP_FAILED, detail)
        else:
            self.close(NORMAL, "", Cause.APP_RETURNED)

    def _notify_end(self) -> None:
        """Notify the observers once that the WebSocket has ended."""
        target, self._target = self._target, None
        if target is None or not self.worker.observers:
            return
        session = self.session
        end = find_end(session, self._end, self.wire.end_error)
        if (reconnects := self.worker.reconnects) is not None:
            end = reconnects.end(self.wire.connection_id, end)
        cause, detail = end
        self.worker.observers.notify(
            WebSocketClosed(
                client=self._peer.client,
                target=target,
                code=session.close_code,
                reason=session.close_reason,
                cause=cause,
                detail=detail,
                duration=self.worker.clock() - self._liveness.opened_at,
                received_messages=self.received_messages,
                received_bytes=self.received_bytes,
                sent_messages=self.sent_messages,
                sent_bytes=self.sent_bytes,
                dropped_messages=self.dropped_messages,
                round_trip=self._liveness.round_trip,
                connection=self.wire.connection_id,
                headers=self._headers,
            )
        )

    # -- deadlines ---------------------------------------------------------------------------------

    def check(self, now: float) -> float:
        """Enforce the deadline of the close, or the timeouts of an open WebSocket.

        Args:
            now: Time of the worker's clock in seconds.

        Returns:
            When to check again, infinity for never.
        """
        if now >= self._deadline:
            self._deadline = math.inf
            self._handle_late_close()
        if not self.session.can_send:
            return self._deadline
        at = self._liveness.check(now, self)  # it may close, which sets the deadline
        return min(self._deadline, at)

    def _handle_late_close(self) -> None:
        state = self.session.state
        if state is FAILING:
            self.close_for_fault()
        elif state is not OPEN:  # OPEN: the close that set the deadline raised
            self.wire.abort()


def _complete(end: "asyncio.Future[Exception | None]", error: Exception | None) -> None:
    if not end.done():  # else its sender was cancelled in this loop iteration
        end.set_result(error)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidMessage("text has a lone surrogate, which UTF-8 cannot hold") from None
