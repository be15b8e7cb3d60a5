"""The chat as an ASGI application: one page, and one WebSocket per client.

`app` serves the page in `static` at `/` and the chat at `/ws`. A room is a topic with history, the
people in it are the topic's members: wsgate carries what is said to everybody in the room, on all
workers and machines, and to those who were away. The rules for names and texts are in `rooms.py`.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wsgate import topics

if TYPE_CHECKING or __package__:
    from . import page, rooms
    from .rooms import ChatError, Limits, Message, Person, encode
else:  # started inside this folder: --app-dir examples/chat app:app
    import page
    import rooms
    from rooms import ChatError, Limits, Message, Person, encode

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

ROOMS = "rooms"  # a topic for everybody: its members are the rooms, its messages lists of them


class Chat:
    """The application: what one worker has to do beside its clients."""

    def __init__(self, limits: Limits | None = None, list_pause: float = 1.0) -> None:
        """Create a chat. list_pause: seconds between two messages with the list of rooms."""
        self.limits = limits = limits or Limits()
        self._page = page.make_page()
        self._list_pause = list_pause
        self._rooms_changed = asyncio.Event()
        topics.configure(
            "room:*",
            history=limits.history,
            history_seconds=limits.history_seconds,
            announce=self._announce,
        )
        topics.configure(ROOMS, slow="conflate")  # who reads slowly needs the latest list only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, request or lifespan."""
        match scope["type"]:
            case "http":
                await self._page(scope, receive, send)
            case "websocket" if route(scope) == "/ws":
                await self._serve(topics.of(scope), receive, send)
            case "websocket":
                await receive()  # websocket.connect
                await send({"type": "websocket.close"})  # before the accept: 403
            case "lifespan":
                await self._lifespan(topics.of(scope), receive, send)
            case other:
                raise ValueError(f"The chat knows no scope of type {other!r}.")

    async def _serve(self, t: topics.Topics, receive: Receive, send: Send) -> None:
        """Serve a client until it leaves. A client that has left is in no topic any more."""
        await receive()  # websocket.connect
        with suppress(OSError):  # the client has left
            await send({"type": "websocket.accept"})
            try:
                await Client(self, t, send).run(receive)
            except (topics.Unavailable, topics.LimitReached):
                # It comes back, joins after the last message that it has, and repeats what was not
                # confirmed.
                await send({"type": "websocket.close", "code": 1013, "reason": "try again"})
            finally:
                self.note_change()

    def note_change(self) -> None:
        """Have the list of rooms sent to everybody: the number of people in a room has changed."""
        self._rooms_changed.set()

    def _announce(self, topic: str, member: str, joined: bool) -> str:
        """Return what a room reads when somebody joins or leaves. One of the workers is called."""
        self.note_change()
        kind, name = "joined" if joined else "left", Person.from_member(member).name
        return encode({"type": kind, "topic": topic, "name": name, "at": now()})

    async def _lifespan(self, t: topics.Topics, receive: Receive, send: Send) -> None:
        await receive()
        lists = asyncio.create_task(self._publish_lists(t))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        lists.cancel()
        await asyncio.wait([lists])
        await send({"type": "lifespan.shutdown.complete"})

    async def _publish_lists(self, t: topics.Topics) -> None:
        """Publish the list of rooms after each change, and no more often than `list_pause`.

        If a thousand clients reconnect after a restart, a list for each of them, sent to each of
        them, would be a million messages.
        """
        while await self._rooms_changed.wait():
            self._rooms_changed.clear()
            try:
                list_of_rooms = await self.list_rooms(t)
                await t.publish(ROOMS, encode({"type": "rooms", "rooms": list_of_rooms}))
            except topics.Unavailable:
                self._rooms_changed.set()
            await asyncio.sleep(self._list_pause)

    async def list_rooms(self, t: topics.Topics) -> list[Message]:
        """Return the rooms of all workers, with the numbers of people in them."""
        return rooms.listing(await t.members(ROOMS), self.limits.listed)


class Client:
    """One WebSocket: what it sends is checked and published. It is in one room at most."""

    def __init__(self, chat: Chat, t: topics.Topics, send: Send) -> None:
        self._chat = chat
        self._limits = limits = chat.limits
        self._t = t
        self._send_event = send
        self._clock = asyncio.get_running_loop().time
        self._bucket = rooms.Bucket(limits.burst, limits.per_second, self._clock())
        self._key = secrets.token_hex(16)  # of a client that has none
        self._topic = ""  # of its room
        self._person = Person("", "")

    async def run(self, receive: Receive) -> None:
        """Answer the client's messages until it leaves."""
        await self._t.subscribe(ROOMS)
        await self._send_hello()
        while (event := await receive())["type"] == "websocket.receive":
            await self._handle(event)

    async def _send(self, message: Message) -> None:
        await self._send_event({"type": "websocket.send", "text": encode(message)})

    async def _send_hello(self) -> None:
        limits = self._limits
        hello = {
            "type": "hello",
            "limits": {"name": limits.name, "room": limits.room, "text": limits.text},
            "rooms": await self._chat.list_rooms(self._t),
            "worker": os.getpid(),
            "machine": socket.gethostname(),
        }
        await self._send(hello)

    async def _handle(self, event: Event) -> None:
        ref = None
        try:
            message = rooms.parse(event.get("text"), self._limits.frame)
            ref = rooms.optional_token(message, "ref")
            self._bucket.take(self._clock())
            await self._dispatch(message, ref)
        except ChatError as error:
            await self._send(error.as_message(ref))

    async def _dispatch(self, message: Message, ref: str | None) -> None:
        match message.get("type"):
            case "say":
                await self._say(rooms.required_string(message, "text"), ref or secrets.token_hex(8))
            case "join":
                await self._join(message)
            case "people":
                await self._send_people()
            case _:
                raise ChatError("unknown_type", "The type is join, say or people.")

    async def _say(self, raw: str, ref: str) -> None:
        """Publish a text, and confirm it.

        A client that lost its connection cannot know whether its last message arrived, and sends
        it again with the same `ref`. The history has that id already, so nobody reads it twice.
        """
        if not self._topic:
            raise ChatError("not_joined", "Join a room first.")
        text = rooms.clean_text(raw, self._limits.text)
        id = f"{self._person.proof}-{ref}"
        said: Message = {"type": "said", "topic": self._topic, "id": id, "ref": ref}
        said |= {"from": self._person.name, "text": text, "at": now()}
        await self._t.publish(self._topic, encode(said), id=id)
        await self._send({"type": "sent", "id": id, "ref": ref})

    async def _join(self, message: Message) -> None:
        """Enter a room, or take another name in it. After an error the client is where it was."""
        room, person, after = rooms.parse_join(message, self._limits, self._key)
        topic = rooms.topic_of(room)
        room = rooms.spelling_of(room, await self._t.members(ROOMS), self._limits.rooms)
        await self._check_name(topic, person)
        if topic == self._topic:
            members, is_complete = await self._rename(person), True
        else:
            members, is_complete = await self._enter(topic, person, after)
        await self._t.subscribe(ROOMS, member=room)
        self._chat.note_change()
        welcome = {"type": "welcome", "room": room, "topic": topic, "name": person.name}
        await self._send({**welcome, "members": members, "complete": is_complete})

    async def _enter(self, topic: str, person: Person, after: str | None) -> tuple[list[str], bool]:
        """Enter a room, and leave the former one; what the client has missed is sent first.

        Returns:
            The names in the room, and whether nothing is missing between `after` and now.
        """
        back = await self._t.subscribe(
            topic, after=after, last=self._limits.last, member=person.member
        )
        try:  # again: somebody else may have taken the name meanwhile, on another worker
            members = await self._check_name(topic, person)
        except ChatError:
            await self._t.unsubscribe(topic)
            raise
        if self._topic:
            await self._t.unsubscribe(self._topic)
        self._topic, self._person = topic, person
        return members, back.complete

    async def _rename(self, person: Person) -> list[str]:
        """Take another name in the client's room. Returns the names in the room."""
        await self._t.subscribe(self._topic, member=person.member)
        try:
            members = await self._check_name(self._topic, person)
        except ChatError:
            await self._t.subscribe(self._topic, member=self._person.member)
            raise
        self._person = person
        return members

    async def _check_name(self, topic: str, person: Person) -> list[str]:
        """Check that nobody else in a room has the person's name, and return the names there."""
        members = await self._t.members(topic)
        rooms.check_name(members, person, self._limits.name)
        return rooms.names_of(members)

    async def _send_people(self) -> None:
        members = await self._t.members(self._topic) if self._topic else {}
        names, listed = rooms.names_of(members), await self._chat.list_rooms(self._t)
        await self._send({"type": "people", "members": names, "rooms": listed})


def now() -> int:
    """Return the time in milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def route(scope: Scope) -> str:
    """Return the path without the root path of the application."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


app = Chat()
