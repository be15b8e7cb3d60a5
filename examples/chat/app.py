"""The chat as an ASGI application: one page, and one WebSocket per client.

`app` serves the page in `static` at `/` and the chat at `/ws`. The rules for rooms, names
and messages are in `rooms.py`. This file contains everything that waits: a reader and a
writer for each client.
"""

import asyncio
import base64
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wsgate.static import StaticFiles

if TYPE_CHECKING or __package__:
    from .rooms import Bucket, ChatError, Limits, Member, Message, Rooms, clean_label, encode
else:  # started inside this folder: --app-dir examples/chat app:app
    from rooms import Bucket, ChatError, Limits, Member, Message, Rooms, clean_label, encode

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

PAGE = Path(__file__).with_name("static")  # index.html: style, structure and script
CLOSE_TIMEOUT = 5.0  # seconds to wait until the Close is sent


class Goodbye(NamedTuple):
    """The close code and the reason with which the server ends a WebSocket."""

    code: int
    reason: str


TOO_SLOW = Goodbye(1013, "You read too slowly; try again later.")
TAKEN_OVER = Goodbye(4001, "This place was taken by your newer connection.")


class Chat:
    """The application: all rooms and all clients of one process."""

    def __init__(self, limits: Limits | None = None, list_pause: float = 1.0) -> None:
        """Create a chat. list_pause: seconds between two messages with the list of rooms."""
        self.limits = limits or Limits()
        self.rooms = Rooms(self.limits, clock=lambda: time.time_ns() // 1_000_000)
        self._page = StaticFiles(PAGE, headers=page_headers((PAGE / "index.html").read_bytes()))
        self._clients: set[Client] = set()
        self._list_pause = list_pause
        self._list_timer: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, request or lifespan."""
        match scope["type"]:
            case "http":
                await self._page(scope, receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case "lifespan":
                await _lifespan(receive, send)
            case other:
                raise ValueError(f"The chat knows no scope of type {other!r}.")

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        is_chat = route(scope) == "/ws"
        try:  # a close before the accept is answered with 403
            await send({"type": "websocket.accept" if is_chat else "websocket.close"})
        except OSError:  # the client has left
            return
        if is_chat:
            await self._serve(Client(self), receive, send)

    async def _serve(self, client: "Client", receive: Receive, send: Send) -> None:
        self._clients.add(client)
        try:
            await client.run(receive, send)
        finally:
            self._forget(client)

    def _forget(self, client: "Client") -> None:
        self._clients.discard(client)
        if self._list_timer and not self._clients:
            self._list_timer.cancel()
            self._list_timer = None

    def schedule_list(self) -> None:
        """Send the list of rooms to all clients after a pause.

        If a thousand clients reconnect after a restart, sending the list to each of them
        for each of them would be a million messages.
        """
        if not self._list_timer:
            loop = asyncio.get_running_loop()
            self._list_timer = loop.call_later(self._list_pause, self._send_list)

    def _send_list(self) -> None:
        self._list_timer = None
        line = encode({"type": "rooms", "rooms": self.rooms.listing()})
        for client in self._clients:
            client.post(line)


class Client:
    """One WebSocket: its messages go to the rooms, messages for it go to its outbox.

    Only the writer waits for the network. A client that reads too slowly fills its own
    outbox and is disconnected; its room does not wait for it.
    """

    def __init__(self, chat: Chat) -> None:
        loop = asyncio.get_running_loop()
        limits = chat.limits
        self._chat = chat
        self._clock = loop.time
        self._bucket = Bucket(limits.burst, limits.per_second, loop.time())
        self._outbox: asyncio.Queue[str] = asyncio.Queue(limits.outbox)
        self._goodbye: asyncio.Future[Goodbye | None] = loop.create_future()
        self._member = Member(post=self.post, evict=lambda: self._end(TAKEN_OVER))

    async def run(self, receive: Receive, send: Send) -> None:
        """Read and write until one of them ends, then leave the room in any case."""
        self._send_hello()
        try:
            goodbye = await self._exchange(receive, send)
        finally:
            self._leave()
        if goodbye:
            await _close(send, goodbye)

    def post(self, line: str) -> None:
        """Put a line of JSON into the outbox; if the outbox is full, disconnect."""
        if self._goodbye.done():
            return  # do not send lines after a lost line
        try:
            self._outbox.put_nowait(line)
        except asyncio.QueueFull:
            self._end(TOO_SLOW)

    async def _exchange(self, receive: Receive, send: Send) -> Goodbye | None:
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._read(receive))
            writer = tasks.create_task(self._write(send))
            goodbye = await self._goodbye
            reader.cancel()
            writer.cancel()
        return goodbye

    async def _read(self, receive: Receive) -> None:
        while (event := await receive())["type"] == "websocket.receive":
            self._handle(event)
            # Queued messages are received without suspending: let other tasks run.
            await asyncio.sleep(0)
        self._end(None)

    async def _write(self, send: Send) -> None:
        try:
            while True:
                await send({"type": "websocket.send", "text": await self._outbox.get()})
        except OSError:  # the client has left; the reader may notice it later
            self._end(None)

    def _end(self, goodbye: Goodbye | None) -> None:
        if not self._goodbye.done():
            self._goodbye.set_result(goodbye)

    def _send_hello(self) -> None:
        limits = self._chat.limits
        bounds = {"name": limits.name, "room": limits.room, "text": limits.text}
        rooms = self._chat.rooms.listing()
        self.post(encode({"type": "hello", "limits": bounds, "rooms": rooms}))

    def _handle(self, event: Event) -> None:
        ref = None
        try:
            message = parse(event, self._chat.limits.frame)
            ref = optional_token(message, "ref")
            self._check_rate()
            self._dispatch(message, ref)
        except ChatError as error:
            self.post(encode(error.as_message(ref)))

    def _check_rate(self) -> None:
        if not self._bucket.take(self._clock()):
            raise ChatError("too_fast", "That was too fast; please wait a moment.")

    def _dispatch(self, message: Message, ref: str | None) -> None:
        match message.get("type"):
            case "say":
                self._chat.rooms.say(self._member, required_string(message, "text"), ref)
            case "join":
                self._join(message)
            case "leave":
                self._leave()
                self.post(encode({"type": "parted"}))
            case "rooms":
                self.post(encode({"type": "rooms", "rooms": self._chat.rooms.listing()}))
            case _:
                raise ChatError("unknown_type", "The type is join, say, leave or rooms.")

    def _join(self, message: Message) -> None:
        limits = self._chat.limits
        room = clean_label(required_string(message, "room"), "room", limits.room)
        name = clean_label(required_string(message, "name"), "name", limits.name)
        self._chat.rooms.join(self._member, room, name, optional_token(message, "key") or "")
        self._chat.schedule_list()

    def _leave(self) -> None:
        if self._member.room:
            self._chat.rooms.leave(self._member)
            self._chat.schedule_list()


async def _close(send: Send, goodbye: Goodbye) -> None:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await send({"type": "websocket.close", **goodbye._asdict()})


async def _lifespan(receive: Receive, send: Send) -> None:
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


def route(scope: Scope) -> str:
    """Return the path without the root path of the application."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def parse(event: Event, limit: int) -> Message:
    """Return the JSON object in a WebSocket message. Raises ChatError if there is none."""
    text = event.get("text")
    if text is None:
        raise ChatError("binary", "Please send text, not binary.")
    if len(text) > limit:
        raise ChatError("too_big", f"More than {limit:,} characters are not read.")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ChatError("bad_json", "That is not JSON.") from None
    if not isinstance(message, dict):
        raise ChatError("bad_json", "A message is a JSON object.")
    return message


def required_string(message: Message, field: str) -> str:
    """Return a field that must be a string. Raises ChatError if it is not."""
    value = message.get(field)
    if not isinstance(value, str):
        raise ChatError("bad_field", f'"{field}" must be a string.')
    return value


def optional_token(message: Message, field: str) -> str | None:
    """Return a field of 1 to 64 characters A-Z a-z 0-9 _ -, or None if it is missing."""
    if field not in message:
        return None
    value = required_string(message, field)
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", value):
        raise ChatError("bad_field", f'"{field}" must be 1 to 64 letters, digits, "_" or "-".')
    return value


def page_headers(html: bytes) -> Headers:
    """Return the headers that protect the page and its visitors."""
    return [
        (b"content-security-policy", content_security_policy(html)),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]


def content_security_policy(html: bytes) -> bytes:
    """Return a policy that allows the page's own script, style and WebSocket, and nothing else."""
    return b"; ".join(
        [
            b"default-src 'none'",
            b"script-src " + _hashes(html, b"script"),
            b"style-src " + _hashes(html, b"style"),
            b"connect-src 'self'",
            b"img-src data:",
            b"base-uri 'none'",
            b"form-action 'none'",
            b"frame-ancestors 'none'",
        ]
    )


def _hashes(html: bytes, tag: bytes) -> bytes:
    blocks = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(block).digest()) for block in blocks)
    return b" ".join(b"'sha256-%b'" % digest for digest in digests)


app = Chat()
