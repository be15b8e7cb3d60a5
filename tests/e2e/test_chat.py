"""The example chat in a process: thirty clients in three rooms, real sentences, SIGTERM."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.harness.processes import ServerProcess, running

PATIENCE = 60.0
ROOMS = ("lobby", "Küche", "東京")
CLIENTS = 30
SENTENCES = (
    "Good morning, has anyone seen the blue notebook?",
    "Bonjour à tous, ça va ? Où êtes-vous aujourd'hui ?",
    "Привет, как прошли выходные?",
    "こんにちは、会議は何時からですか。",
    "مرحبا، متى يبدأ الاجتماع؟",
    "שלום, מה שלומכם היום?",
    "नमस्ते, आज मौसम कैसा है?",
    "👩‍👩‍👧‍👦 family, 🇯🇵 flag, e\u0301 combining, 𐍈 and 𠜎 beyond the BMP",
    "<script>alert('not here')</script> & \"quotes\" \\ backslash",
    "one line\nand another\n\n  and one after a blank line",
)
LONGEST = "long " * 399 + "line!"


class Person:
    """One client of the chat, with all messages it has received."""

    def __init__(self, socket: ClientConnection, name: str, room: str) -> None:
        self.socket = socket
        self.name = name
        self.room = room
        self.said: list[tuple[int, str, str]] = []
        self.errors: list[str] = []

    async def send_json(self, **message: str) -> None:
        await self.socket.send(json.dumps(message))

    async def join(self) -> dict[str, Any]:
        await self.send_json(type="join", room=self.room, name=self.name)
        while (message := json.loads(await self.socket.recv()))["type"] != "welcome":
            pass
        return dict(message)

    async def receive(self, *, said: int, errors: int) -> None:
        while len(self.said) < said or len(self.errors) < errors:
            message = json.loads(await self.socket.recv())
            if message["type"] == "said":
                self.said.append((message["id"], message["from"], message["text"]))
            elif message["type"] == "error":
                self.errors.append(message["code"])

    async def closed(self) -> websockets.ConnectionClosed:
        """Read until the connection is closed, and keep the messages."""
        try:
            await self.receive(said=10_000, errors=0)
        except websockets.ConnectionClosed as closed:
            return closed
        raise AssertionError("the connection was not closed")


@pytest.fixture(params=["asyncio", "uvloop"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ServerProcess]:
    async with running("examples.chat.app:app", "--loop", request.param) as process:
        yield process


async def join_all(stack: AsyncExitStack, url: str) -> list[Person]:
    """Connect all clients and join their rooms."""
    people = []
    for number in range(CLIENTS):
        socket = await stack.enter_async_context(connect(f"{url}/ws", close_timeout=PATIENCE))
        person = Person(socket, f"Person {number}", ROOMS[number % len(ROOMS)])
        welcome = await person.join()
        assert welcome["room"] == person.room
        assert person.name in welcome["members"]
        people.append(person)
    return people


async def talk(person: Person) -> None:
    """Send all sentences, and two messages that are invalid: empty and blank."""
    for sentence in SENTENCES:
        await person.send_json(type="say", text=sentence)
    await person.send_json(type="say", text=LONGEST)
    await person.send_json(type="say", text="")
    await person.send_json(type="say", text=" \n ")


async def test_every_room_receives_each_message_once_and_in_order(server: ServerProcess) -> None:
    per_room = CLIENTS // len(ROOMS) * (len(SENTENCES) + 1)
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        people = await join_all(stack, server.ws_url)
        await asyncio.gather(*map(talk, people))
        await asyncio.gather(*(person.receive(said=per_room, errors=2) for person in people))
        server.signal()
        closings = await asyncio.gather(*(person.closed() for person in people))
        status = await server.ended()

    for room in ROOMS:
        members = [person for person in people if person.room == room]
        said = members[0].said
        assert [number for number, _, _ in said] == list(range(1, per_room + 1))
        assert all(person.said == said for person in members)
        # There is nothing of another room, and the messages of each client are in order.
        for person in members:
            own = [text for _, name, text in said if name == person.name]
            assert own == [*SENTENCES, LONGEST]
    assert all(person.errors == ["empty", "empty"] for person in people)

    assert {(closed.rcvd.code if closed.rcvd else None) for closed in closings} == {1012}
    assert status == 0
    assert not [line for line in server.log if "Traceback" in line or "ERROR" in line]


async def test_the_page_is_served(server: ServerProcess) -> None:
    async with httpx.AsyncClient() as client:
        page = await client.get(server.url)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>" in page.text
