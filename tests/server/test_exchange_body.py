"""The request's body of an HTTP exchange in memory, and Expect: 100-continue."""

import asyncio

import pytest

from tests.harness.app import END, START, piece
from tests.harness.client import CHUNKED, EXPECT, GET, POST
from tests.harness.log import LogCapture
from tests.harness.memory import read_head, read_response, requested
from tests.harness.waiting import is_waiting, turns
from wsgate.errors import ClientDisconnected
from wsgate.server.exchange import MAX_BODY_CHUNKS

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


# -- the body --------------------------------------------------------------------------------------


async def test_a_body_is_received_as_it_arrives() -> None:
    async with requested(POST % 6 + b"ab") as (client, _, call):
        assert await call.receive() == {"type": "http.request", "body": b"ab", "more_body": True}
        coming = call.start_receive()
        assert await is_waiting(coming)
        client.send(b"cd")
        assert await coming == {"type": "http.request", "body": b"cd", "more_body": True}
        client.send(b"ef")
        last = await call.receive()
        assert last == {"type": "http.request", "body": b"ef", "more_body": False}


async def test_a_request_without_a_body_has_one_empty_message() -> None:
    async with requested(GET) as (_, _, call):
        assert await call.receive() == {"type": "http.request", "body": b"", "more_body": False}
        after = call.start_receive()
        assert await is_waiting(after)
        after.cancel()


async def test_a_chunked_body() -> None:
    async with requested(CHUNKED + b"2\r\nab\r\n3;ext=1\r\ncd") as (client, app, call):
        # Data that has arrived is received at once, however it is chunked.
        assert await call.receive() == {"type": "http.request", "body": b"abcd", "more_body": True}
        client.send(b"e\r\n0\r\nTrailer: x\r\n\r\n" + GET)
        assert await call.receive() == {"type": "http.request", "body": b"e", "more_body": False}
        await call.respond()
        assert (await app.called()).scope["method"] == "GET"


async def test_a_body_in_tiny_chunks_yields_to_the_loop() -> None:
    count = 10 * MAX_BODY_CHUNKS
    async with requested(CHUNKED + b"1\r\nx\r\n" * count + b"0\r\n\r\n") as (_, _, call):
        turned: list[int] = []
        asyncio.get_running_loop().call_soon(turned.append, 0)
        size, received = 0, []
        while True:
            message = await call.receive()
            size += len(message["body"])
            received.append(len(turned))
            asyncio.get_running_loop().call_soon(turned.append, 0)
            if not message["more_body"]:
                break
        assert size == count
        assert len(received) >= 10
        assert received == sorted(set(received)), "the loop has turned before each of them"


async def test_a_part_of_a_body_has_a_maximum_size() -> None:
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    async with requested(CHUNKED + chunk * 3 + b"0\r\n\r\n") as (_, _, call):
        sizes = [len((await call.receive())["body"]) for _ in range(2)]
    assert sizes == [0x10000, 0x8000]


async def test_the_end_of_a_chunked_body_may_arrive_alone() -> None:
    async with requested(CHUNKED + b"2\r\nab\r\n") as (client, _, call):
        assert await call.receive() == {"type": "http.request", "body": b"ab", "more_body": True}
        client.send(b"0\r\n\r\n")
        assert await call.receive() == {"type": "http.request", "body": b"", "more_body": False}


async def test_the_disconnect_is_received_after_an_early_response() -> None:
    async with requested(POST % 4 + b"ab") as (client, _, call):
        await call.send(START)
        await call.send(piece(b"x"))
        client.send(b"cd")
        await call.receive()
        await call.send(END)
        assert (await read_response(client)).body == b"x"
        assert await call.receive() == {"type": "http.disconnect"}


async def test_two_concurrent_receives_each_get_a_part() -> None:
    async with requested(CHUNKED) as (client, _, call):
        both = [call.start_receive(), call.start_receive()]
        assert await is_waiting(both[0])
        client.send(b"1\r\na\r\n")
        await turns()
        client.send(b"1\r\nb\r\n")
        bodies = [(await task)["body"] for task in both]
        assert sorted(bodies) == [b"a", b"b"]


async def test_two_concurrent_receives_end_with_the_connection() -> None:
    async with requested(POST % 2) as (client, _, call):
        both = [call.start_receive(), call.start_receive()]
        assert await is_waiting(both[0])
        client.send(b"ab")
        assert (await both[0])["body"] == b"ab"
        assert await is_waiting(both[1])
        client.drop()
        assert await both[1] == {"type": "http.disconnect"}


async def test_two_concurrent_receives_end_with_a_malformed_body() -> None:
    async with requested(CHUNKED) as (client, _, call):
        both = [call.start_receive(), call.start_receive()]
        assert await is_waiting(both[0])
        client.send(b"nonsense\r\n")
        async with asyncio.timeout(5):
            assert [await task for task in both] == [{"type": "http.disconnect"}] * 2
        assert (await read_response(client)).status == 400


async def test_a_malformed_body_after_a_valid_part() -> None:
    async with requested(CHUNKED + b"1\r\na\r\nnonsense\r\n") as (client, _, call):
        assert await call.receive() == {"type": "http.request", "body": b"a", "more_body": True}
        assert await call.receive() == {"type": "http.disconnect"}
        await call.send_raises(START, ClientDisconnected, "left")
        assert (await read_response(client)).status == 400
        assert await client.ended() == b""


async def test_a_malformed_body_truncates_a_started_response(log: LogCapture) -> None:
    async with requested(CHUNKED) as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        client.send(b"nonsense\r\n")
        assert await call.receive() == {"type": "http.disconnect"}
        await call.send_raises(END, ClientDisconnected, "left")
        await read_head(client)
        assert await client.ended() == b"1\r\na\r\n"
        call.finish(ClientDisconnected())
        await turns()
        assert not log.errors


# -- Expect: 100-continue --------------------------------------------------------------------------


async def test_100_continue_is_sent_when_the_app_receives() -> None:
    async with requested(EXPECT) as (client, _, call):
        await turns()
        assert not client.received
        coming = call.start_receive()
        assert await client.exactly(len(CONTINUE)) == CONTINUE
        client.send(b"ab")
        assert (await coming)["body"] == b"ab"
        await call.respond(b"done")
        answer = await read_response(client)
        assert answer.body == b"done"
        assert b"connection" not in answer.headers


async def test_the_connection_ends_if_the_app_responds_without_receiving() -> None:
    async with requested(EXPECT) as (client, _, call):
        await call.respond(b"no", 413)
        answer = await read_response(client)
        assert (answer.status, answer.headers[b"connection"]) == (413, b"close")
        assert await client.ended() == b""


async def test_an_earlier_call_does_not_send_100_continue() -> None:
    async with requested(GET + EXPECT) as (client, app, first):
        await first.respond(b"one")
        second = await app.called()
        assert (await read_response(client)).body == b"one"
        assert await first.receive() == {"type": "http.disconnect"}
        await turns()
        assert not client.received
        coming = second.start_receive()
        assert await client.exactly(len(CONTINUE)) == CONTINUE
        client.send(b"ab")
        await coming


async def test_an_http_1_0_client_gets_no_100_continue() -> None:
    data = b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab"
    async with requested(data) as (client, _, call):
        assert (await call.receive())["body"] == b"ab"
        assert not client.received
