"""An operator closes one connection."""

import pytest

from tests.harness.memory import opened, peer, requested
from tests.harness.waiting import turns
from wsgate.server.close_request import AlreadyClosing, CloseRequest


async def test_a_websocket_gets_the_close_frame() -> None:
    async with opened() as ws:
        request = CloseRequest(1008, "abuse")
        assert request.close(ws.client.connection) == 1008
        assert await ws.read_close() == (1008, "abuse")
        assert await ws.receive_disconnect() == (1008, "abuse")
        with pytest.raises(AlreadyClosing):
            request.close(ws.client.connection)
        ws.client.drop()
        ws.call.finish()
        await ws.wait_closed()


async def test_the_default_lets_the_client_connect_again() -> None:
    async with opened() as ws:
        assert CloseRequest().close(ws.client.connection) == 1012
        assert await ws.read_close() == (1012, "")
        ws.client.drop()
        ws.call.finish()
        await ws.wait_closed()


async def test_a_handshake_is_aborted() -> None:
    async with peer() as ws:
        await ws.request()
        assert CloseRequest().close(ws.client.connection) is None
        assert await ws.client.ended() == b""
        ws.call.finish()


async def test_a_request_is_aborted() -> None:
    async with requested(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as (client, _, call):
        assert CloseRequest().close(client.connection) is None
        assert await client.ended() == b""
        assert (await call.receive())["type"] == "http.disconnect"
        call.finish()


async def test_a_connection_without_its_proxy_header_is_aborted() -> None:
    async with peer(proxy_protocol=True) as ws:
        (reader,) = ws.client.worker.connections
        assert CloseRequest().close(reader) is None
        await turns()
        assert ws.client.is_lost


@pytest.mark.parametrize(
    ("code", "reason", "problem"),
    [
        (1012, "", None),
        (1000, "x" * 123, None),
        (4999, "é", None),
        (1005, "", "1005 is not a code that a Close frame may have"),
        (1006, "", "1006 is not a code that a Close frame may have"),
        (0, "", "0 is not a code that a Close frame may have"),
        (2000, "", "2000 is not a code that a Close frame may have"),
        (5000, "", "5000 is not a code that a Close frame may have"),
        (1008, "x" * 124, "the reason must be at most 123 bytes of UTF-8"),
        (1008, "é" * 62, "the reason must be at most 123 bytes of UTF-8"),
        (1008, "\ud800", "the reason must be at most 123 bytes of UTF-8"),
    ],
)
def test_what_a_close_frame_can_contain(code: int, reason: str, problem: str | None) -> None:
    assert CloseRequest(code, reason).problem == problem
