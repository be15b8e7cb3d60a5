"""One HTTP exchange: the app's `receive` and `send` for a request and its response."""

import asyncio
from typing import TYPE_CHECKING

from wsgate.asgi.http import COMPLETE, FileRequest, Response, State, body_event, request_event
from wsgate.asgi.scope import ForwardedPeer, http_scope
from wsgate.errors import ClientDisconnected, InvalidMessage, RefusedAtStop, RequestRefused
from wsgate.http.events import (
    ClientClosed,
    RequestBody,
    RequestEnd,
    RequestEvent,
    ResponseEvent,
)
from wsgate.http.request import Request
from wsgate.http.response import TEXT, refusal_text
from wsgate.observe.events import RequestDone
from wsgate.observe.throttled_log import throttled
from wsgate.server import app_call
from wsgate.server.backpressure import SendOrder, Waiters
from wsgate.server.connection_info import ConnectionInfo, Kind
from wsgate.server.open_file import FileTruncated, OpenFile
from wsgate.topics.interface import EXTENSION
from wsgate.types import HTTPEvent, Message

if TYPE_CHECKING:
    from wsgate.asgi.scope import Peer
    from wsgate.http.stream import HttpStream
    from wsgate.server.http1_driver import Http1Driver

MAX_BODY_SIZE = 65_536  # bytes of body in one http.request event
MAX_BODY_CHUNKS = 64  # chunks of the body joined into one http.request event


class Exchange:
    """One request, from its head to the end of the app's call.

    is_answered: the response is complete, or no more of it is sent.
    """

    __slots__ = (
        "_driver",
        "_has_left",
        "_has_received",
        "_is_over",
        "_order",
        "_peeked",
        "_peer",
        "_request",
        "_request_ended",
        "_response",
        "_started_at",
        "_stream",
        "_waiters",
        "_wire",
        "_worker",
        "is_answered",
    )

    def __init__(self, driver: "Http1Driver", request: Request, peer: "Peer") -> None:
        self._driver = driver
        self._worker = driver.worker
        self._wire = driver.wire
        self._stream: HttpStream = driver.http1
        self._peer = peer
        self._request = request
        self._response = Response(request.method, Response.HTTP, request.headers)
        self._waiters: Waiters | None = None  # created by the first `receive` that has to wait
        self._order: SendOrder | None = None  # created by the first `send` that has to wait
        self._peeked: RequestEvent | None = None
        self._request_ended = False
        self._has_received = False
        self._has_left = False
        self._started_at = driver.worker.clock()
        self._is_over = False  # the client has left, or the app's call has ended
        self.is_answered = False

    def start(self) -> None:
        """Call the app."""
        worker = self._worker
        scope = http_scope(self._request, self._peer, worker.mount, self._wire.connection_id)
        scope["extensions"][EXTENSION] = worker.topics.extension(self)
        app_call.start(worker, scope, self, worker.exchanges)

    def answer(self, refused: RequestRefused) -> None:
        """Send an error response without calling the app, and go on with the next request."""
        headers = [TEXT, *refused.headers]
        start = {"type": "http.response.start", "status": refused.status, "headers": headers}
        self._response.send(start)
        event = self._response.send({"type": "http.response.body", "body": refusal_text(refused)})
        assert event is not None  # the response is whole
        assert not isinstance(event, FileRequest)  # and has a body of bytes
        self._wire.write(self._stream.send(event, self._worker.default_headers))
        self._complete_response()

    # -- the app awaits ----------------------------------------------------------------------------

    async def receive(self) -> HTTPEvent:
        """Return the next http.request event, or http.disconnect after the body.

        Waits until the client sends more or disconnects.
        """
        if self._has_received and not self._request_ended:
            # A body of many tiny chunks may have arrived whole: let other tasks run in between.
            await asyncio.sleep(0)
        self._has_received = True
        while True:
            if self._has_left or self.is_answered:
                return {"type": "http.disconnect"}
            self._wire.write(self._stream.send_continue())
            message = self._next_body_event()
            if message is not None:
                return message
            if not self._request_ended:
                self._driver.wait_for_body()
            self._waiters = self._waiters or Waiters()
            await self._waiters.wait()

    def _next_body_event(self) -> HTTPEvent | None:
        event = self._next_event()
        if isinstance(event, RequestBody):
            data = self._join_available(event)
            self._driver.body_arrived()
            if isinstance(self._peeked, RequestEnd):
                self._peeked, self._request_ended = None, True
            return request_event(data, more=not self._request_ended)
        if isinstance(event, RequestEnd):
            self._driver.body_arrived()
            self._request_ended = True
            return request_event(b"", more=False)
        if isinstance(event, ClientClosed):
            self._has_left = True
            return {"type": "http.disconnect"}
        return None

    def _join_available(self, first: RequestBody) -> bytes:
        """Join body data with the chunks already received; keep the first event after them."""
        chunks, size = [first.data], len(first.data)
        while isinstance(event := self._next_event(), RequestBody):
            if size + len(event.data) > MAX_BODY_SIZE or len(chunks) == MAX_BODY_CHUNKS:
                break
            chunks.append(event.data)
            size += len(event.data)
        self._peeked = event
        return b"".join(chunks)

    def _next_event(self) -> RequestEvent | None:
        if self._peeked is not None:
            event, self._peeked = self._peeked, None
            return event
        if self._request_ended:
            return ClientClosed() if self._wire.has_eof else None
        try:
            return self._stream.take()
        except RequestRefused as refused:
            self._fail(refused)
            return ClientClosed()

    async def send(self, message: Message) -> None:
        """Send a part of the response; wait while the write buffer is full.

        Raises:
            ClientDisconnected: The client has disconnected.
            IllegalMessage: The message is not allowed in this state.
            InvalidMessage: The message is malformed.
        """
        wire, response = self._wire, self._response
        gate, order = wire.gate, self._order
        if gate.is_shut or order is not None:
            order = self._order = order or SendOrder(gate)
            await order.enter()
        try:
            # After a half-close the client may still read: `_has_left` alone does not end sending.
            if wire.is_lost or (self.is_answered and response.state is not COMPLETE):
                raise ClientDisconnected("the client has left")
            state = response.state
            event = response.send(message)
            if isinstance(event, FileRequest):
                if order is None:  # other senders wait for the whole file
                    order = self._order = SendOrder(gate)
                    await order.enter()
                event, state = await self._send_file(event)
            if event is None:
                return  # the head waits for the body, trailers for the last message of them
            try:
                data = self._stream.send(event, self._worker.default_headers)
            except InvalidMessage:
                response.revert(state)
                raise
            wire.write(data)
            if response.state is COMPLETE:
                self._complete_response()
        finally:
            if order is not None:
                order.leave()
        if gate.is_shut:
            await gate.wait_until_open()

    async def _send_file(self, request: FileRequest) -> tuple[ResponseEvent | None, State]:
        """Send a file but for its end.

        Returns:
            The event that is still to be sent, and the state before it: the end of the file, or a
            small file as a whole.
        """
        response = self._response
        file = OpenFile(self._worker)
        try:
            await file.open(request)
            if self._wire.is_lost or self.is_answered:
                raise ClientDisconnected("the client has left")
            if file.data is None:
                await self._send_large_file(file, is_last=request.is_last)
            file.move_position()
        finally:
            file.close()
        state = response.state
        event = response.send(body_event(file.data or b"", more=not request.is_last))
        assert not isinstance(event, FileRequest)  # a body never is
        return event, state

    async def _send_large_file(self, file: OpenFile, *, is_last: bool) -> None:
        start = self._response.start_file(file.left, is_last=is_last)
        self._response.sent_bytes += file.left
        if start is not None:
            self._wire.write(self._stream.send(start, self._worker.default_headers))
        frame = self._stream.frame_file(file.left)
        if frame is None:
            return
        before, after = frame
        self._wire.write(before)
        try:
            await self._wire.send_file(file)
        except BaseException as error:
            # The client could take what follows for the rest of the file.
            self._has_left = True
            self._wire.abort()
            if isinstance(error, FileTruncated):
                throttled.error("A file became shorter while it was sent: connection aborted")
                raise ClientDisconnected("the response was cut off") from error
            raise
        self._wire.write(after)

    # -- what the driver reports -------------------------------------------------------------------

    def info(self, opened_at: float) -> ConnectionInfo:
        """Return what an operator sees of the connection, which was opened at this time."""
        return ConnectionInfo(Kind.HTTP, self._peer.client, self._request.raw_path, opened_at)

    @property
    def is_over(self) -> bool:
        """Whether its listeners end: the client has left or half-closed, or the call has ended."""
        return self._is_over or self._wire.has_eof

    def wake_receivers(self) -> None:
        """Resume the waiting `receive` calls; each checks again for an event."""
        if self._waiters is not None:
            self._waiters.wake()

    def lost(self) -> None:
        """Notify the app that its client has disconnected."""
        self._has_left = self._is_over = True
        self._worker.topics.leave(self)
        self.wake_receivers()

    def end_slow_body(self) -> None:
        """Fail a request whose body is late while the app waits for it or after the response."""
        if self._waiters or self.is_answered:
            self._fail(RequestRefused(408, "the request's body took too long"))

    # -- the end -----------------------------------------------------------------------------------

    def _complete_response(self) -> None:
        self._mark_answered()
        self._notify_done(self._response.status)
        self._driver.response_sent()

    def _mark_answered(self) -> None:
        self.is_answered = True
        self.wake_receivers()

    def _notify_done(self, status: int) -> None:
        if observers := self._worker.observers:
            request = self._request
            observers.notify(
                RequestDone(
                    self._peer.client,
                    request.method,
                    request.target,
                    request.version,
                    status,
                    self._wire.connection_id,
                    request.headers,
                    self._worker.clock() - self._started_at,
                    self._response.sent_bytes,
                    self._response.headers,
                )
            )

    def _fail(self, refused: RequestRefused) -> None:
        self._has_left = True
        self._mark_answered()
        if self._response.has_started:
            self._wire.close()
        else:
            self._driver.refuse(refused, self._peer.client)

    def done(self, error: BaseException | None) -> None:
        """Handle the end of the app's call: send an error or close if the response is incomplete.

        Args:
            error: What the app raised, None if it returned.
        """
        if type(self._peer) is ForwardedPeer:
            self._worker.admission.leave_request(self._peer.client)
        self._is_over = True
        self._worker.topics.leave(self)
        left = self._has_left or self._wire.is_lost
        if error is not None:
            app_call.report(error, client_left=left)
        if self.is_answered:
            return
        self._mark_answered()
        if error is None and not left:
            throttled.error("ASGI callable returned without completing its response")
        if self._response.has_started:
            self._notify_done(self._response.status)
        elif error is not None or not left:
            self._send_error(error)
        self._wire.close()

    def _send_error(self, error: BaseException | None) -> None:
        """Send 503 if the call was cancelled by the end of a stop, 500 for any other failure."""
        if self._wire.is_lost:
            return
        refused = RequestRefused(500, "the application failed")
        if self._worker.stopping and isinstance(error, asyncio.CancelledError):
            refused = RefusedAtStop()
        self._wire.write(self._stream.refuse(refused, self._worker.default_headers))
        self._notify_done(refused.status)
