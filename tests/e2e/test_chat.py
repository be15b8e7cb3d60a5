"""The example chat in processes: thirty clients in three rooms, restarts, a worker killed."""

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.examples.chat_client import ChatClient, Message, chatting
from tests.examples.chat_visitor import Visitor
from tests.harness.processes import ROOT, ServerProcess, running
from tests.harness.waiting import pause
from wsgate.testing import WorkersServer, workers

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

    def __init__(self, client: ChatClient, name: str, room: str) -> None:
        self.client = client
        self.name = name
        self.room = room
        self.said: list[tuple[str, str, str]] = []
        self.errors: list[str] = []

    async def join(self) -> dict[str, Any]:
        return await self.client.join(self.name, self.room)

    async def receive(self, *, said: int, errors: int) -> None:
        while len(self.said) < said or len(self.errors) < errors:
            message = await self.client.message()
            if message["type"] == "said":
                self.said.append((message["id"], message["from"], message["text"]))
            elif message["type"] == "error":
                self.errors.append(message["code"])


@pytest.fixture(params=["asyncio", "uvloop"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ServerProcess]:
    async with running("examples.chat.app:app", "--loop", request.param) as process:
        yield process


async def join_all(stack: AsyncExitStack, url: str) -> list[Person]:
    """Connect all clients and join their rooms."""
    people = []
    for number in range(CLIENTS):
        client = await stack.enter_async_context(chatting(url))
        person = Person(client, f"Person {number}", ROOMS[number % len(ROOMS)])
        welcome = await person.join()
        assert welcome["room"] == person.room
        assert person.name in welcome["members"]
        people.append(person)
    return people


async def talk(person: Person) -> None:
    """Send all sentences, and two messages that are invalid: empty and blank."""
    for sentence in SENTENCES:
        await person.client.send(type="say", text=sentence)
    await person.client.send(type="say", text=LONGEST)
    await person.client.send(type="say", text="")
    await person.client.send(type="say", text=" \n ")


async def test_every_room_receives_each_message_once_and_in_order(server: ServerProcess) -> None:
    per_room = CLIENTS // len(ROOMS) * (len(SENTENCES) + 1)
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        people = await join_all(stack, server.ws_url)
        await asyncio.gather(*map(talk, people))
        await asyncio.gather(*(person.receive(said=per_room, errors=2) for person in people))
        server.signal()
        codes = await asyncio.gather(*(person.client.close_code() for person in people))
        status = await server.ended()

    for room in ROOMS:
        members = [person for person in people if person.room == room]
        said = members[0].said
        assert len({id for id, _, _ in said}) == len(said) == per_room
        assert all(person.said == said for person in members)
        # There is nothing of another room, and the messages of each client are in order.
        for person in members:
            own = [text for _, name, text in said if name == person.name]
            assert own == [*SENTENCES, LONGEST]
    assert all(person.errors == ["empty", "empty"] for person in people)

    assert set(codes) == {1012}
    assert status == 0
    assert not [line for line in server.log if "Traceback" in line or "ERROR" in line]


# ---- Two workers -------------------------------------------------------------------


@contextlib.asynccontextmanager
async def visitors(server: WorkersServer) -> AsyncIterator[list[Visitor]]:
    """Have people in all rooms, on both workers."""
    people = [
        Visitor(server.ws_url, f"Person {number}", ROOMS[number % len(ROOMS)])
        for number in range(CLIENTS)
    ]
    try:
        for person in people:
            await person.joined()
        assert len({person.workers[0] for person in people}) == 2
        yield people
    finally:
        await asyncio.gather(*[person.leave() for person in people])


async def chatter(person: Visitor, end: asyncio.Event) -> int:
    """Talk until the end, and return how many messages were said."""
    for number in itertools.count():
        await person.say(f"{number}: {SENTENCES[number % len(SENTENCES)]}")
        if end.is_set():
            return number + 1
        await pause(0.7)
    raise AssertionError  # the loop has no end of its own


async def replace_all(server: WorkersServer, people: list[Visitor]) -> None:
    """Restart while they talk, and wait until all are with new workers."""
    old = {person.workers[0] for person in people}
    await server.restart()
    async with asyncio.timeout(PATIENCE):
        while old & {person.workers[-1] for person in people}:
            await pause(0.05)


async def kill_one(server: WorkersServer, people: list[Visitor]) -> None:
    """Kill a worker while they talk, and wait until its people are with another one."""
    killed = people[0].workers[-1]
    os.kill(killed, signal.SIGKILL)
    await server.logged("was ended by SIGKILL")
    async with asyncio.timeout(PATIENCE):
        while killed in {person.workers[-1] for person in people}:
            await pause(0.05)


@pytest.mark.parametrize("disturb", [replace_all, kill_one])
async def test_everybody_has_every_message_once_and_in_one_order(
    disturb: Callable[[WorkersServer, list[Visitor]], Awaitable[None]],
) -> None:
    async with workers("examples.chat.app:app", app_dir=str(ROOT)) as server:
        async with visitors(server) as people:
            end = asyncio.Event()
            talking = [asyncio.create_task(chatter(person, end)) for person in people]
            await people[0].until(10)
            await disturb(server, people)
            await people[0].until(len(people[0].log) + 10)
            end.set()
            counts = dict(zip(people, await asyncio.gather(*talking), strict=True))
            for person in people:
                await person.until(sum(counts[one] for one in people if one.room == person.room))
            for room in ROOMS:
                check_room([person for person in people if person.room == room], counts)
            await check_lists(people)
        assert not [line for line in server.log if "Traceback" in line], server.text


def check_room(members: list[Visitor], counts: dict[Visitor, int]) -> None:
    log = members[0].log
    assert all(person.log == log for person in members)
    assert all(person.is_complete for person in members)
    for person in members:
        numbers = [one["text"].partition(":")[0] for one in log if one["from"] == person.name]
        assert numbers == [str(number) for number in range(counts[person])]


async def check_lists(people: list[Visitor]) -> None:
    """Wait until each worker knows the people on both."""
    each = CLIENTS // len(ROOMS)
    numbers = dict.fromkeys(ROOMS, each)
    for person in {person.workers[-1]: person for person in people}.values():
        names = sorted(one.name for one in people if one.room == person.room)
        deadline = time.monotonic() + PATIENCE
        while (found := listed(await person.people())) != (names, numbers):
            assert time.monotonic() < deadline, found
            await pause(0.1)


def listed(people: Message) -> tuple[list[str], dict[str, int]]:
    return people["members"], {room["name"]: room["members"] for room in people["rooms"]}


async def test_the_page_is_served(server: ServerProcess) -> None:
    async with httpx.AsyncClient() as client:
        page = await client.get(server.url)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>" in page.text
