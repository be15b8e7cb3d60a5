"""The chat as an ASGI application: joining, leaving, slow readers, malformed messages."""

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.chat import app as app_module
from examples.chat.app import Chat, Event, app
from examples.chat.rooms import Limits
from tests.examples.asgi_client import Socket

# ---- Lifespan and scopes -----------------------------------------------------------


async def test_lifespan_starts_and_stops() -> None:
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Event] = []

    async def receive() -> Event:
        return next(events)

    async def send(event: Event) -> None:
        sent.append(event)

    await app({"type": "lifespan"}, receive, send)
    assert [event["type"] for event in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


async def test_unknown_scope_is_refused(chat: Chat) -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(ValueError, match="gopher"):
        await chat({"type": "gopher"}, never, never)


def test_the_app_can_be_imported_inside_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(app_module.__file__).parent))
    for name in ("app", "rooms"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("app")
    assert type(module.app).__name__ == "Chat"
    for name in ("app", "rooms"):
        monkeypatch.delitem(sys.modules, name)


# ---- Joining -----------------------------------------------------------------------


async def test_another_path_is_refused_before_the_handshake(chat: Chat) -> None:
    async with Socket(chat, "/elsewhere") as client:
        assert await client.event() == {"type": "websocket.close"}
        await client.ended()


async def test_the_app_works_below_a_root_path(chat: Chat) -> None:
    async with Socket(chat, "/talk/ws", root_path="/talk") as client:
        assert (await client.event())["type"] == "websocket.accept"


async def test_a_client_that_leaves_before_the_accept_is_no_error(chat: Chat) -> None:
    client = Socket(chat)
    client.gone = True
    async with client:
        await client.ended()
        assert client.task.exception() is None


async def test_hello_names_limits_and_rooms(chat: Chat) -> None:
    async with Socket(chat) as ada:
        await ada.join("Ada", "Garden")
        async with Socket(chat) as mira:
            assert await mira.read("hello") == {
                "type": "hello",
                "limits": {"name": 24, "room": 32, "text": 2000},
                "rooms": [{"name": "Garden", "members": 1}],
            }


async def test_welcome_lists_members_history_and_rooms(chat: Chat) -> None:
    async with Socket(chat) as ada, Socket(chat) as mira:
        first = await ada.join("Ada")
        ada.send(type="say", text="Hello?")
        said = await ada.read("said")
        welcome = await mira.join("Mira", "lobby")
        assert welcome == {
            "type": "welcome",
            "room": "Lobby",
            "name": "Mira",
            "log": first["log"],
            "members": ["Ada", "Mira"],
            "history": [said],
            "rooms": [{"name": "Lobby", "members": 2}],
        }
        joined = await ada.read("joined")
        assert joined == {"type": "joined", "name": "Mira", "at": joined["at"]}


async def test_name_taken_offers_another(chat: Chat) -> None:
    async with Socket(chat) as ada, Socket(chat) as other:
        await ada.join("Ada")
        other.send(type="join", room="Lobby", name="ADA")
        error = await other.read("error")
        assert (error["code"], error["suggestion"]) == ("name_taken", "ADA 2")
        assert (await other.join(error["suggestion"]))["name"] == "ADA 2"


async def test_clients_outside_a_room_receive_the_list_of_rooms(chat: Chat) -> None:
    async with Socket(chat) as ada, Socket(chat) as watcher:
        await watcher.read("hello")
        await ada.join("Ada", "Garden")
        assert (await watcher.read("rooms"))["rooms"] == [{"name": "Garden", "members": 1}]
        watcher.send(type="rooms")
        assert (await watcher.read("rooms"))["rooms"] == [{"name": "Garden", "members": 1}]


async def test_many_changes_send_the_list_of_rooms_once() -> None:
    chat = Chat(list_pause=3600)
    async with Socket(chat) as ada, Socket(chat) as mira:
        await ada.join("Ada")
        await mira.join("Mira")
        timer = chat._list_timer
        assert timer
        assert not timer.cancelled()
    assert timer.cancelled()  # there is no client left
    assert chat._list_timer is None


# ---- Messages ----------------------------------------------------------------------


async def test_all_members_receive_each_message_once_in_the_same_order(chat: Chat) -> None:
    names = ["Ada", "Mira", "Lin", "Oskar"]
    clients = [Socket(chat) for _ in names]
    async with clients[0], clients[1], clients[2], clients[3]:
        for client, name in zip(clients, names, strict=True):
            await client.join(name)
        for turn in range(25):
            for client in clients:
                client.send(type="say", text=f"turn {turn}")
        heard = [[await client.read("said") for _ in range(100)] for client in clients]
    assert all(messages == heard[0] for messages in heard)
    assert [said["id"] for said in heard[0]] == list(range(1, 101))


async def test_a_message_sent_again_after_a_reconnect_counts_once(chat: Chat) -> None:
    async with Socket(chat) as ada, Socket(chat) as mira:
        await ada.join("Ada")
        await mira.join("Mira")
        for text, ref in (("one", "r1"), ("one", "r1"), ("two", "r2")):
            ada.send(type="say", text=text, ref=ref)
        assert [(await mira.read("said"))["text"] for _ in range(2)] == ["one", "two"]
        assert [(await ada.read("said"))["id"] for _ in range(3)] == [1, 1, 2]


async def test_a_message_after_leaving_is_refused(chat: Chat) -> None:
    async with Socket(chat) as ada, Socket(chat) as mira:
        await ada.join("Ada")
        await mira.join("Mira")
        ada.send(type="leave")
        assert await ada.read("parted") == {"type": "parted"}
        assert (await mira.read("left"))["name"] == "Ada"
        ada.send(type="leave")
        await ada.read("parted")
        ada.send(type="say", text="anyone?")
        assert await ada.code() == "not_joined"


async def test_joining_another_room_leaves_the_first(chat: Chat) -> None:
    async with Socket(chat) as ada, Socket(chat) as mira:
        await ada.join("Ada")
        await mira.join("Mira")
        await ada.join("Ada", "Garden")
        assert (await mira.read("left"))["name"] == "Ada"
        mira.send(type="say", text="alone now")
        await mira.read("said")
        ada.send(type="say", text="in the garden")
        assert (await ada.read("said"))["text"] == "in the garden"


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
    "no room": ('{"type":"join","name":"Ada"}', "bad_field"),
    "blank name": ('{"type":"join","room":"Lobby","name":"\\u200b "}', "bad_name"),
    "long room": ('{"type":"join","room":"' + "r" * 33 + '","name":"Ada"}', "bad_room"),
    "odd key": ('{"type":"join","room":"Lobby","name":"Ada","key":"é"}', "bad_field"),
}


@pytest.mark.parametrize(("text", "code"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_message_is_answered_with_an_error(
    chat: Chat, text: str, code: str
) -> None:
    async with Socket(chat) as ada:
        await ada.join("Ada")
        ada.send_text(text)
        assert await ada.code() == code
        ada.send(type="say", text="still here")
        assert (await ada.read("said"))["id"] == 1


async def test_a_binary_message_is_answered_with_an_error(chat: Chat) -> None:
    async with Socket(chat) as ada:
        ada.send_bytes(b'{"type":"rooms"}')
        assert await ada.code() == "binary"


async def test_an_error_has_the_ref_of_its_message(chat: Chat) -> None:
    async with Socket(chat) as ada:
        await ada.join("Ada")
        ada.send(type="say", text="", ref="m1")
        assert (await ada.read("error"))["ref"] == "m1"


async def test_messages_above_the_rate_are_refused() -> None:
    chat = Chat(Limits(burst=3, per_second=0))
    async with Socket(chat) as ada:
        await ada.join("Ada")
        for _ in range(3):
            ada.send(type="say", text="quick", ref="m1")
        error = await ada.read("error")
        assert (error["code"], error["ref"]) == ("too_fast", "m1")


async def test_a_burst_lets_the_writer_run(chat: Chat) -> None:
    """Many queued messages must not fill the outbox of a client that reads."""
    async with Socket(chat) as ada:
        for _ in range(Limits().outbox * 3):
            ada.send_text("?")
        for _ in range(Limits().outbox * 3):
            assert await ada.code() == "bad_json"


# ---- Leaving -----------------------------------------------------------------------


async def test_a_slow_reader_is_disconnected_and_the_room_continues() -> None:
    chat = Chat(Limits(outbox=8, burst=1_000), list_pause=3600)
    async with Socket(chat) as slow, Socket(chat) as ada, Socket(chat) as mira:
        for client, name in ((slow, "Slow"), (ada, "Ada"), (mira, "Mira")):
            await client.join(name)
        slow.network.clear()
        heard = [await mira_hears(ada, mira, str(number)) for number in range(40)]
        assert heard.count("left Slow") == 1
        slow.network.set()
        await slow.ended()
        *_, last = await drained(slow)
        assert (last["type"], last["code"]) == ("websocket.close", 1013)


async def mira_hears(ada: Socket, mira: Socket, text: str) -> str:
    """Let Ada send a text; return Mira's first message and check that the text arrives as well."""
    ada.send(type="say", text=text)
    first = json.loads((await mira.event())["text"])
    if first["type"] == "said":
        assert first["text"] == text
        return text
    assert (await mira.read("said"))["text"] == text
    return f"{first['type']} {first['name']}"


async def drained(client: Socket) -> list[Event]:
    return [client.inbox.get_nowait() for _ in range(client.inbox.qsize())]


async def test_nothing_is_sent_after_a_lost_message(chat: Chat) -> None:
    async with Socket(chat) as slow, Socket(chat) as ada:
        await slow.join("Slow")
        await ada.join("Ada")
        await slow.read("rooms")
        slow.network.clear()
        for number in range(600):
            ada.send(type="say", text=str(number))
            await ada.read("said")
        slow.network.set()
        await slow.ended()
        texts = [event["text"] for event in await drained(slow) if "text" in event]
        heard = [text for text in texts if '"said"' in text]
        assert all(f'"text":"{number}"' in text for number, text in enumerate(heard))


async def test_a_close_that_cannot_be_sent_times_out(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "CLOSE_TIMEOUT", 0)
    async with Socket(chat) as old, Socket(chat) as new:
        await old.join("Ada", key="k")
        old.network.clear()
        await new.join("Ada", key="k")
        await old.ended()
        assert old.task.exception() is None


async def test_a_client_with_the_same_key_replaces_its_old_connection(chat: Chat) -> None:
    async with Socket(chat) as mira, Socket(chat) as old, Socket(chat) as new:
        await mira.join("Mira")
        await old.join("Ada", key="secret-1")
        await mira.read("joined")
        welcome = await new.join("ada", key="secret-1")
        assert (welcome["name"], welcome["members"]) == ("Ada", ["Mira", "Ada"])
        await old.ended()
        *_, last = await drained(old)
        assert (last["type"], last["code"]) == ("websocket.close", 4001)
        new.send(type="say", text="back")
        await mira.read("said")  # and neither a "left" nor a "joined" before:
        assert not [event for event in await drained(mira) if "left" in event.get("text", "")]


@pytest.mark.parametrize("key", ["", "secret-2"])
async def test_a_client_with_another_key_cannot_take_the_name(chat: Chat, key: str) -> None:
    async with Socket(chat) as ada, Socket(chat) as other:
        await ada.join("Ada", **({"key": "secret-1"} if key else {}))
        other.send(type="join", room="Lobby", name="Ada", **({"key": key} if key else {}))
        assert await other.code() == "name_taken"


async def test_a_disconnect_is_broadcast(chat: Chat) -> None:
    async with Socket(chat) as mira:
        await mira.join("Mira")
        async with Socket(chat) as ada:
            await ada.join("Ada")
        assert (await mira.read("left"))["name"] == "Ada"


async def test_a_failed_send_ends_without_an_error(chat: Chat) -> None:
    async with Socket(chat) as mira, Socket(chat) as ada:
        await mira.join("Mira")
        await ada.join("Ada")
        ada.gone = True
        mira.send(type="say", text="hello?")
        assert (await mira.read("left"))["name"] == "Ada"
        await ada.ended()
        assert ada.task.exception() is None


async def test_two_ends_at_once_count_once(chat: Chat) -> None:
    async with Socket(chat) as ada:
        await ada.join("Ada")
        ada.gone = True
        ada.send(type="rooms")  # the writer ends by the answer to this,
        ada.hang_up()  # and the reader by this
        await ada.ended()
        assert ada.task.exception() is None


async def test_an_exception_leaves_the_room_and_reaches_the_server(chat: Chat) -> None:
    async with Socket(chat) as mira, Socket(chat) as ada:
        await mira.join("Mira")
        await ada.join("Ada")
        ada.break_app(RuntimeError("the server broke"))
        assert (await mira.read("left"))["name"] == "Ada"
        await ada.ended()
        error = ada.task.exception()
        assert isinstance(error, ExceptionGroup)
        assert error.subgroup(RuntimeError)


async def test_a_cancellation_leaves_the_room(chat: Chat) -> None:
    async with Socket(chat) as mira, Socket(chat) as ada:
        await mira.join("Mira")
        await ada.join("Ada")
        ada.task.cancel()
        assert (await mira.read("left"))["name"] == "Ada"
        await ada.ended()
        assert ada.task.cancelled()


async def test_all_leave_at_once(chat: Chat) -> None:
    clients = [Socket(chat) for _ in range(20)]
    for number, client in enumerate(clients):
        await client.__aenter__()
        await client.join(f"Guest {number}")
    for client in clients:
        client.hang_up()
    await asyncio.gather(*(client.ended() for client in clients))
    assert chat.rooms.listing() == []
