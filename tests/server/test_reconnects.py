"""Clients that connect again: what they say, and how their previous connection ends."""

import pytest

from tests.harness.memory import Peer, opened
from tests.harness.waiting import turns
from wsgate.http.request import Request
from wsgate.observe.causes import Cause
from wsgate.observe.events import Event, WebSocketClosed, WebSocketOpened
from wsgate.observe.observers import Observers
from wsgate.server.reconnects import Reconnects
from wsgate.testing import MemoryClient


async def reconnected(said: str, *headers: str) -> tuple[WebSocketOpened, WebSocketClosed]:
    """Open a WebSocket and another one that names it; return the second's start, the first's end.

    Args:
        said: The query of the second one, with {} for the id of the first.
        headers: Of the second one, too.
    """
    async with opened(ws_reconnect_field="Was") as ws:
        # It is opened before the observers are there, so its start has to be repeated.
        first, worker = ws.client.connection.connection_id, ws.client.worker
        events: list[Event] = []
        worker.observers = Observers([events.append])
        assert worker.reconnects is not None
        assert worker.reconnects.open(first, Request("GET", b"/", b"/", b"", "1.1", [])) is None
        (websocket,) = worker.websockets.values()
        websocket._target = b"/"
        client = MemoryClient(worker, ws.client.clock)
        again = Peer(client, ws.app, ws.log)
        named = [one.format(first) for one in headers]
        await again.request(*named, target="/?" + said.format(first))
        await again.call.accept()
        await turns()
        opening = events.pop()
        assert isinstance(opening, WebSocketOpened)
        ws.client.drop()
        await turns()
        (closed,) = events
        assert isinstance(closed, WebSocketClosed)
        client.drop()
        await turns()
        ws.call.finish()
        again.call.finish()
    return opening, closed


@pytest.mark.parametrize(
    ("said", "headers"), [("a=b&Was={}", ()), ("", ("Was: {}",)), ("Was=x", ("was: {}",))]
)
async def test_a_client_that_has_come_back_on_another_connection(
    said: str, headers: tuple[str, ...]
) -> None:
    opening, closed = await reconnected(said, *headers)
    assert opening.reconnect == closed.connection
    assert (closed.cause, closed.detail) == (Cause.REPLACED, opening.connection)


@pytest.mark.parametrize(
    ("said", "reconnect"),
    [("", None), ("was=1", None), ("Was=", None), ("Was=1", "1"), ("Was=" + "x" * 999, "x" * 128)],
)
async def test_a_client_that_names_no_open_connection(said: str, reconnect: str | None) -> None:
    opening, closed = await reconnected(said)
    assert (opening.reconnect, closed.cause) == (reconnect, Cause.CLIENT_VANISHED)


def test_an_end_that_was_meant_is_no_replacement() -> None:
    reconnects = Reconnects("was")
    reconnects.open("a", Request("GET", b"/", b"/", b"", "1.1", []))
    reconnects.open("b", Request("GET", b"/", b"/", b"was=a", "1.1", []))
    assert reconnects.end("a", (Cause.CLIENT_CLOSED, "")) == (Cause.CLIENT_CLOSED, "")
    assert reconnects.end("b", (Cause.PING_TIMEOUT, "")) == (Cause.PING_TIMEOUT, "")
    assert vars(reconnects)["_open"] == set()
    assert vars(reconnects)["_successors"] == {}


def test_a_connection_of_another_worker_is_passed_on() -> None:
    reconnects, told = Reconnects("was"), list[tuple[str, str]]()
    reconnects.notify_others = lambda previous, connection: told.append((previous, connection))
    reconnects.open("9-a-1", Request("GET", b"/", b"/", b"", "1.1", []))
    reconnects.open("9-a-2", Request("GET", b"/", b"/", b"was=7-b-1", "1.1", []))
    reconnects.open("9-a-3", Request("GET", b"/", b"/", b"was=9-a-1", "1.1", []))
    assert told == [("7-b-1", "9-a-2")]
    assert not reconnects.note_reconnect("9-a-9", "7-b-2")
    assert reconnects.note_reconnect("9-a-2", "7-b-2")
    assert reconnects.end("9-a-2", (Cause.PING_TIMEOUT, "")) == (Cause.REPLACED, "7-b-2")
