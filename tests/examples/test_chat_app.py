"""The chat on a live server: joining, what was missed, names, the list of rooms, errors."""

import asyncio
import importlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from examples.chat import app as app_module
from examples.chat.app import Chat, Client
from examples.chat.rooms import Limits, encode
from tests.examples.chat_client import ChatClient, chatting
from tests.harness.client import handshake, text_frame
from wsgate import topics
from wsgate.testing import LiveServer, MemoryClient, connect as connect_in_memory, serve

# ---- Scopes ------------------------------------------------------------------------


async def never(*_: Any) -> Any:
    raise AssertionError


async def test_unknown_scope_is_refused(chat: Chat) -> None:
    with pytest.raises(ValueError, match="gopher"):
        await chat({"type": "gopher"}, never, never)


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_another_server_is_refused(chat: Chat, kind: str) -> None:
    with pytest.raises(topics.NotAvailable, match="serve the app with wsgate"):
        await chat({"type": kind, "path": "/ws"}, never, never)


def test_the_app_can_be_imported_inside_its_folder(
    own_rules: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(app_module.__file__).parent))
    names = ("app", "page", "rooms")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("app")
    assert type(module.app).__name__ == "Chat"
    for name in names:
        monkeypatch.delitem(sys.modules, name)


async def test_another_path_is_refused_before_the_handshake(server: LiveServer) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{server.ws_url}/elsewhere", proxy=None)
    assert caught.value.response.status_code == 403


async def test_the_app_works_below_a_root_path(chat: Chat) -> None:
    async with serve(chat, root_path="/talk") as server, chatting(server.ws_url) as ada:
        assert (await ada.join("Ada"))["name"] == "Ada"


# ---- Joining -----------------------------------------------------------------------


async def test_hello_names_limits_rooms_and_the_worker(server: LiveServer) -> None:
    async with chatting(server.ws_url) as ada:
        await ada.join("Ada", "Garden")
        async with chatting(server.ws_url) as mira:
            assert await mira.read("hello") == {
                "type": "hello",
                "limits": {"name": 24, "room": 32, "text": 2000},
                "rooms": [{"name": "Garden", "members": 1}],
                "worker": os.getpid(),
                "machine": socket.gethostname(),
            }


async def test_what_was_said_comes_before_the_welcome(server: LiveServer) -> None:
    async with chatting(server.ws_url) as ada, chatting(server.ws_url) as mira:
        await ada.join("Ada", key="a")
        await ada.send(type="say", text="Hello?", ref="r1")
        said = await ada.read("said")
        assert said == {
            "type": "said",
            "topic": "room:lobby",
            "id": said["id"],
            "ref": "r1",
            "from": "Ada",
            "text": "Hello?",
            "at": said["at"],
        }
        await mira.read("hello")
        await mira.send(type="join", room="lobby", name="Mira")
        found = [one for one in await mira.read_until("welcome") if one["type"] != "rooms"]
        assert [one for one in found if one["type"] == "said"] == [said]
        assert found[-1] == {
            "type": "welcome",
            "room": "Lobby",  # as those spell it who are there
            "topic": "room:lobby",
            "name": "Mira",
            "members": ["Ada", "Mira"],
            "complete": True,
        }
        while (joined := await ada.read("joined"))["name"] == "Ada":
            pass
        at = joined["at"]
        assert joined == {"type": "joined", "topic": "room:lobby", "name": "Mira", "at": at}


async def test_joining_another_room_leaves_the_first(server: LiveServer) -> None:
    async with chatting(server.ws_url) as ada, chatting(server.ws_url) as mira:
        await ada.join("Ada")
        await mira.join("Mira")
        await ada.join("Ada", "Garden")
        while (left := await mira.read("left"))["name"] != "Ada":
            pass
        assert left["topic"] == "room:lobby"
        await mira.say("alone now")
        await ada.send(type="say", text="in the garden")
        assert await ada.texts(1) == ["in the garden"]


async def test_a_member_who_has_gone_has_left(server: LiveServer) -> None:
    async with chatting(server.ws_url) as mira:
        await mira.join("Mira")
        async with chatting(server.ws_url) as ada:
            await ada.join("Ada")
            assert await mira.members() == ["Ada", "Mira"]
        assert (await mira.read("left"))["name"] == "Ada"
        assert await mira.members() == ["Mira"]


async def test_somebody_outside_a_room_sees_no_members(server: LiveServer) -> None:
    async with chatting(server.ws_url) as ada, chatting(server.ws_url) as other:
        await ada.join("Ada")
        assert await other.members() == []


# ---- Names -------------------------------------------------------------------------


async def test_name_taken_offers_another(server: LiveServer) -> None:
    async with chatting(server.ws_url) as ada, chatting(server.ws_url) as other:
        await ada.join("Ada")
        await other.send(type="join", room="Lobby", name="ADA")
        error = await other.read("error")
        assert (error["code"], error["suggestion"]) == ("name_taken", "ADA 2")
        assert (await other.join(error["suggestion"]))["name"] == "ADA 2"


async def test_the_key_makes_two_connections_the_same_person(server: LiveServer) -> None:
    async with chatting(server.ws_url) as mira:
        await mira.join("Mira")
        async with chatting(server.ws_url) as old, chatting(server.ws_url) as new:
            await old.join("Ada", key="secret-1")
            assert (await new.join("Ada", key="secret-1"))["members"] == ["Ada", "Mira"]
            await old.websocket.close()
            await new.say("still here")
            heard = [one["type"] for one in await mira.read_until("said")]
            assert (heard.count("joined"), heard.count("left")) in {(1, 0), (2, 0)}  # own one
            assert await mira.members() == ["Ada", "Mira"]


@pytest.mark.parametrize("key", ["", "secret-2"])
async def test_a_client_with_another_key_cannot_take_the_name(server: LiveServer, key: str) -> None:
    async with chatting(server.ws_url) as ada, chatting(server.ws_url) as other:
        await ada.join("Ada", **({"key": "secret-1"} if key else {}))
        await other.send(type="join", room="Lobby", name="Ada", **({"key": key} if key else {}))
        assert await other.error() == "name_taken"


async def test_a_member_can_change_the_name(server: LiveServer) -> None:
    async with chatting(server.ws_url) as ada, chatting(server.ws_url) as mira:
        await mira.join("Mira")
        await ada.join("ada")
        welcome = await ada.join("Ada")
        assert (welcome["members"], welcome["complete"]) == (["Ada", "Mira"], True)
        await ada.send(type="join", room="Lobby", name="Mira")
        assert await ada.error() == "name_taken"
        await ada.send(type="say", text="still the same")
        assert (await ada.read("said"))["from"] == "Ada"
        assert await mira.members() == ["Ada", "Mira"]


@pytest.fixture
def late_check(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which the first check of a name finds nobody."""
    checks: list[str] = []
    original = Client._check_name

    async def check(self: Client, topic: str, person: Any) -> list[str]:
        checks.append(topic)
        return [] if len(checks) == 1 else await original(self, topic, person)

    return lambda: monkeypatch.setattr(Client, "_check_name", check)


async def test_a_name_taken_at_the_same_moment_is_refused(
    server: LiveServer, late_check: Callable[[], None]
) -> None:
    async with chatting(server.ws_url) as ada, chatting(server.ws_url) as other:
        await ada.join("Ada")
        await other.join("Ada", "Garden")
        late_check()
        await other.send(type="join", room="Lobby", name="Ada")
        assert await other.error() == "name_taken"
        await other.send(type="say", text="in the garden")
        assert (await other.read("said"))["topic"] == "room:garden"
        assert await ada.members() == ["Ada"]


async def test_a_new_name_taken_at_the_same_moment_is_refused(
    server: LiveServer, late_check: Callable[[], None]
) -> None:
    async with chatting(server.ws_url) as ada, chatting(server.ws_url) as mira:
        await ada.join("Ada")
        await mira.join("Mira")
        late_check()
        await mira.send(type="join", room="Lobby", name="Ada")
        assert await mira.error() == "name_taken"
        await mira.send(type="say", text="still Mira")
        assert (await ada.read("said"))["from"] == "Mira"
        assert await ada.members() == ["Ada", "Mira"]


# ---- What is said ------------------------------------------------------------------


async def test_all_members_receive_each_message_once_in_the_same_order(
    server: LiveServer,
) -> None:
    async with (
        chatting(server.ws_url) as ada,
        chatting(server.ws_url) as mira,
        chatting(server.ws_url) as lin,
    ):
        clients = [ada, mira, lin]
        for client, name in zip(clients, ["Ada", "Mira", "Lin"], strict=True):
            await client.join(name)
        for turn in range(25):
            for client in clients:
                await client.send(type="say", text=f"turn {turn}")
        heard = [[await client.read("said") for _ in range(75)] for client in clients]
    assert all(messages == heard[0] for messages in heard)
    assert len({message["id"] for message in heard[0]}) == 75


async def test_a_message_that_is_repeated_counts_once(server: LiveServer) -> None:
    async with chatting(server.ws_url) as mira:
        await mira.join("Mira")
        async with chatting(server.ws_url) as old:
            await old.join("Ada", key="a")
            first = await old.say("one", "r1")
        async with chatting(server.ws_url) as new:  # the confirmation was lost with the connection
            await new.join("Ada", key="a")
            assert await new.say("one", "r1") == first
            await new.say("two", "r2")
        assert await mira.texts(2) == ["one", "two"]


async def test_a_client_that_was_away_gets_what_it_has_missed(server: LiveServer) -> None:
    async with chatting(server.ws_url) as mira:
        await mira.join("Mira")
        last = ""
        for number in range(100):
            last = await mira.say(str(number)) if number == 39 else last
            if number != 39:
                await mira.say(str(number))
        async with chatting(server.ws_url) as ada:
            await ada.send(type="join", room="Lobby", name="Ada", after=last)
            missed = await ada.read_until("welcome")
    assert missed[-1]["complete"] is True
    texts = [one["text"] for one in missed if one["type"] == "said"]
    assert texts == [str(number) for number in range(40, 100)]


async def test_a_client_that_was_away_for_too_long_gets_the_last_messages(
    server: LiveServer,
) -> None:
    async with chatting(server.ws_url) as mira:
        await mira.join("Mira")
        for number in range(60):
            await mira.say(str(number))
        async with chatting(server.ws_url) as ada:
            await ada.send(type="join", room="Lobby", name="Ada", after="forgotten")
            missed = await ada.read_until("welcome")
    assert missed[-1]["complete"] is False
    texts = [one["text"] for one in missed if one["type"] == "said"]
    assert texts == [str(number) for number in range(10, 60)]


# ---- The list of rooms -------------------------------------------------------------


async def test_clients_outside_a_room_receive_the_list_of_rooms(server: LiveServer) -> None:
    async with chatting(server.ws_url) as watcher:
        await watcher.read("hello")
        async with chatting(server.ws_url) as ada, chatting(server.ws_url) as mira:
            await ada.join("Ada", "Garden")
            await mira.join("Mira", "GARDEN")
            while await rooms_of(watcher) != [{"name": "Garden", "members": 2}]:
                pass
        while await rooms_of(watcher) != []:
            pass


async def rooms_of(client: ChatClient) -> Any:
    """Return the next list of rooms that is sent to a client."""
    return (await client.read("rooms"))["rooms"]


async def test_many_changes_send_the_list_of_rooms_once(own_rules: None) -> None:
    chat = Chat(list_pause=3600)
    async with serve(chat) as server, chatting(server.ws_url) as watcher:
        await watcher.read("hello")
        async with chatting(server.ws_url) as ada:
            await ada.join("Ada")
        async with chatting(server.ws_url) as mira:
            await mira.join("Mira")
            await watcher.send(type="people")
            found = [one["type"] for one in await watcher.read_until("people")]
    assert found.count("rooms") == 1


async def test_the_list_is_sent_when_the_carrier_is_back(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Chat.list_rooms
    failures = [topics.Unavailable("no Redis")] * 2

    async def list_rooms(self: Chat, t: topics.Topics) -> list[dict[str, Any]]:
        if failures:
            raise failures.pop()
        return await original(self, t)

    async with chatting(server.ws_url) as watcher, chatting(server.ws_url) as ada:
        await watcher.read("hello")
        await ada.read("hello")
        monkeypatch.setattr(Chat, "list_rooms", list_rooms)
        await ada.join("Ada")
        while await rooms_of(watcher) != [{"name": "Lobby", "members": 1}]:
            pass
    assert not failures


# ---- Errors ------------------------------------------------------------------------

MALFORMED = {
    "no JSON": ("{", "bad_json"),
    "no object": ("[1]", "bad_json"),
    "deep": ("[" * 20_000, "bad_json"),
    "long number": ('{"type":' + "9" * 5_000 + "}", "bad_json"),
    "too big": ('"' + "x" * 40_000 + '"', "too_big"),
    "no type": ("{}", "unknown_type"),
    "other type": ('{"type":["say"]}', "unknown_type"),
    "no text": ('{"type":"say"}', "bad_field"),
    "text is no string": ('{"type":"say","text":5}', "bad_field"),
    "blank": ('{"type":"say","text":" \\n\\t "}', "empty"),
    "long": ('{"type":"say","text":"' + "x" * 2_001 + '"}', "too_long"),
    "odd ref": ('{"type":"say","text":"x","ref":"a b"}', "bad_field"),
    "long ref": ('{"type":"say","text":"x","ref":"' + "r" * 65 + '"}', "bad_field"),
    "no room": ('{"type":"join","name":"Ada"}', "bad_field"),
    "blank name": ('{"type":"join","room":"Lobby","name":"\\u200b "}', "bad_name"),
    "long room": ('{"type":"join","room":"' + "r" * 33 + '","name":"Ada"}', "bad_room"),
    "long topic": ('{"type":"join","room":"' + "\ufdfa" * 32 + '","name":"Ada"}', "bad_room"),
    "odd key": ('{"type":"join","room":"Lobby","name":"Ada","key":"é"}', "bad_field"),
    "odd after": ('{"type":"join","room":"Lobby","name":"Ada","after":""}', "bad_field"),
}


@pytest.mark.parametrize(("text", "code"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_message_is_answered_with_an_error(
    server: LiveServer, text: str, code: str
) -> None:
    async with chatting(server.ws_url) as ada:
        await ada.join("Ada")
        await ada.websocket.send(text)
        assert await ada.error() == code
        await ada.say("still here")


async def test_a_binary_message_is_answered_with_an_error(server: LiveServer) -> None:
    async with chatting(server.ws_url) as ada:
        await ada.websocket.send(b'{"type":"people"}')
        assert await ada.error() == "binary"


async def test_a_message_outside_a_room_is_refused_with_its_ref(server: LiveServer) -> None:
    async with chatting(server.ws_url) as ada:
        await ada.send(type="say", text="anyone?", ref="m1")
        error = await ada.read("error")
        assert (error["code"], error["ref"]) == ("not_joined", "m1")


async def test_messages_above_the_rate_are_refused(own_rules: None) -> None:
    chat = Chat(Limits(burst=3, per_second=0))
    async with serve(chat) as server, chatting(server.ws_url) as ada:
        await ada.join("Ada")
        for _ in range(3):
            await ada.send(type="say", text="quick", ref="m1")
        error = await ada.read("error")
        assert (error["code"], error["ref"]) == ("too_fast", "m1")


async def test_there_are_not_too_many_rooms(own_rules: None) -> None:
    chat = Chat(Limits(rooms=1))
    async with (
        serve(chat) as server,
        chatting(server.ws_url) as ada,
        chatting(server.ws_url) as mira,
    ):
        await ada.join("Ada")
        await mira.send(type="join", room="Garden", name="Mira")
        assert await mira.error() == "too_many_rooms"
        await mira.join("Mira", "LOBBY")


async def test_a_client_is_sent_away_while_the_carrier_is_gone(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def publish(*_: Any, **__: Any) -> None:
        raise topics.Unavailable("no Redis")

    async with chatting(server.ws_url) as ada:
        await ada.join("Ada")
        with monkeypatch.context() as patch:
            patch.setattr(topics.Topics, "publish", publish)
            await ada.send(type="say", text="hello?", ref="r1")
            assert await ada.close_code() == 1013


# ---- Slow readers ------------------------------------------------------------------


async def test_a_slow_reader_is_disconnected_and_the_room_continues(chat: Chat) -> None:
    async with connect_in_memory(chat, topics_max_outlet=20_000) as slow:
        ada = MemoryClient(slow.worker, slow.clock)
        for client, name in ((slow, "Slow"), (ada, "Ada")):
            client.send(handshake(target="/ws"))
            client.send(text_frame(encode({"type": "join", "room": "Lobby", "name": name})))
            await client.until(b'"welcome"')
        slow.stall()
        for number in range(100):
            ada.send(text_frame(encode({"type": "say", "text": f"{number} " + "x" * 1_990})))
            await ada.until(b'"sent"')
        slow.read_on()
        received = await slow.until(b"slow consumer")
        assert received.endswith(b"\x88\x0f\x03\xf5slow consumer")  # 0x03f5: 1013


async def test_a_burst_of_errors_reaches_its_client(server: LiveServer) -> None:
    async with chatting(server.ws_url) as ada:
        await asyncio.gather(*[ada.websocket.send("?") for _ in range(768)])
        for _ in range(768):
            assert await ada.error() == "bad_json"
