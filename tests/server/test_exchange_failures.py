"""Apps that fail or send invalid messages in an HTTP exchange, in memory."""

import asyncio
import logging
from typing import Any

import pytest

from tests.harness.app import END, START, piece, respond_path
from tests.harness.client import EXPECT, GET
from tests.harness.log import LogCapture
from tests.harness.memory import connected, read_head, read_response, requested
from tests.harness.waiting import is_waiting, turns
from wsgate.errors import ClientDisconnected, IllegalMessage, InvalidMessage
from wsgate.http.h1.connection import ALREADY_FAILED
from wsgate.testing import MemoryClient

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left")


# -- apps that fail --------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [[], [START]], ids=["waiting", "held"])
async def test_a_failure_before_anything_is_sent_gets_500(sent: list[Any], log: LogCapture) -> None:
    async with requested(GET * 2) as (client, app, call):
        for message in sent:
            await call.send(message)
        call.finish(ValueError("mine"))
        answer = await read_response(client)
        assert (answer.status, answer.headers[b"connection"]) == (500, b"close")
        assert b"mine" not in answer.body
        assert await client.ended() == b""
        assert app.calls.empty()
        assert log.errors == ["Exception in ASGI application"]
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 500 Internal Server Error']


async def test_a_failure_after_the_first_part_truncates_the_response(log: LogCapture) -> None:
    async with requested(GET * 2) as (client, app, call):
        await call.send(START)
        await call.send(piece(b"a"))
        call.finish(ValueError("mine"))
        await read_head(client)
        assert await client.ended() == b"1\r\na\r\n", "the last chunk is missing"
        assert app.calls.empty()
        assert log.errors == ["Exception in ASGI application"]
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK']


@pytest.mark.parametrize(
    ("sent", "status"), [([], 500), ([START], 500), ([START, piece(b"a")], 200)]
)
async def test_an_app_that_returns_without_a_response(
    sent: list[Any], status: int, log: LogCapture
) -> None:
    async with requested(GET) as (client, _, call):
        for message in sent:
            await call.send(message)
        call.finish()
        assert (await read_head(client)).status == status
        await client.ended()
        assert log.errors == ["ASGI callable returned without completing its response"]


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (SystemExit(3), logging.ERROR),
        (KeyboardInterrupt(), logging.ERROR),
        (BaseExceptionGroup("all", [SystemExit()]), logging.ERROR),
        (asyncio.CancelledError(), logging.WARNING),
    ],
    ids=["exit", "interrupt", "group", "cancelled"],
)
async def test_whatever_an_app_raises_ends_its_call_alone(
    error: BaseException, level: int, log: LogCapture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/bad":
            raise error
        await respond_path(scope, receive, send)

    async with connected(app) as client:
        other = MemoryClient(client.worker, client.clock)
        client.send(GET.replace(b"/ ", b"/bad ", 1))
        assert (await read_response(client)).status == 500
        assert len(log.messages(level)) == 1
        other.send(GET)
        assert (await read_response(other)).status == 200
        other.drop()
        await turns()


async def test_tasks_of_a_failed_app_receive_the_disconnect() -> None:
    async with requested(GET) as (client, _, call):
        await call.receive()
        listening = call.start_receive()
        assert await is_waiting(listening)
        call.finish(ValueError("mine"))
        async with asyncio.timeout(5):
            assert await listening == {"type": "http.disconnect"}
        await call.send_raises(START, ClientDisconnected, "left")
        assert (await read_response(client)).status == 500


async def test_a_failure_before_100_continue_closes_the_connection() -> None:
    async with requested(EXPECT) as (client, _, call):
        call.finish(ValueError("mine"))
        answer = await read_response(client)
        assert (answer.status, answer.headers[b"connection"]) == (500, b"close")


async def test_a_call_that_a_stop_cancels(log: LogCapture) -> None:
    async with requested(GET) as (client, _, _):
        client.worker.stopping = True
        (task,) = client.worker.tasks
        task.cancel()
        response = await read_response(client)
        assert (response.status, response.headers[b"retry-after"]) == (503, b"1")
        assert await client.ended() == b""
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 503 Service Unavailable']


async def test_a_cancelled_call(log: LogCapture) -> None:
    async with requested(GET) as (client, _, _):
        (task,) = client.worker.tasks
        task.cancel()
        assert (await read_response(client)).status == 500
        assert log.warnings == ["An app's call was cancelled before it ended"]
        assert not log.errors


async def test_a_failure_with_a_half_closed_client_gets_500(log: LogCapture) -> None:
    async with requested(GET) as (client, _, call):
        client.eof()
        await call.receive()
        await call.receive()
        call.finish(ValueError("mine"))
        assert (await read_response(client)).status == 500
        assert log.errors == ["Exception in ASGI application"]


# -- illegal and malformed messages ----------------------------------------------------------------


async def test_illegal_messages_name_the_message_and_the_state(log: LogCapture) -> None:
    async with requested(GET) as (client, _, call):
        await call.send_raises(END, IllegalMessage, "'http.response.body'.*waiting for a response")
        await call.send_raises(
            {"type": "websocket.send"}, IllegalMessage, "'websocket.send'.*waiting"
        )
        await call.send_raises({}, IllegalMessage, "None.*waiting for a response")
        await call.send(START)
        await call.send_raises(START, IllegalMessage, "'http.response.start'.*response started")
        await call.send(piece(b"a"))
        await call.send_raises(START, IllegalMessage, "'http.response.start'.*streaming")
        with pytest.raises(RuntimeError):
            await call.send(START)
        await call.send(END)
        await call.send_raises(END, IllegalMessage, "'http.response.body'.*response complete")
        assert (await read_response(client)).body == b"a", "it takes no harm of them"
        assert not log.errors


@pytest.mark.parametrize(
    ("message", "match"),
    [
        ({"status": 100}, "200 to 999"),
        ({"status": "200"}, "200 to 999"),
        ({}, "200 to 999"),
        ({"status": 200, "headers": [(b"a", b"b\r\nevil: 1")]}, "control character"),
        ({"status": 200, "headers": [(b"a\r\nevil", b"b")]}, "not a valid header name"),
        ({"status": 200, "headers": [("a", "b")]}, "are bytes"),
        ({"status": 200, "headers": [b"abc"]}, "pair"),
    ],
)
async def test_an_invalid_response_head_raises(message: Any, match: str) -> None:
    async with requested(GET) as (client, _, call):
        await call.send_raises({"type": "http.response.start", **message}, InvalidMessage, match)
        await call.respond(b"fine")
        answer = await read_response(client)
        assert answer.body == b"fine"
        assert b"evil" not in answer.headers


async def test_contradictory_content_lengths_raise() -> None:
    async with requested(GET) as (client, _, call):
        lengths = [(b"content-length", b"1"), (b"content-length", b"2")]
        await call.send_raises({**START, "headers": lengths}, InvalidMessage, "Content-Length")
        call.finish()
        assert (await read_response(client)).status == 500


async def test_a_body_that_is_not_bytes_raises() -> None:
    async with requested(GET) as (client, _, call):
        await call.send(START)
        await call.send_raises({**END, "body": "text"}, InvalidMessage, "bytes, not str")
        await call.send({**END, "body": memoryview(b"fine")})
        assert (await read_response(client)).body == b"fine"


@pytest.mark.parametrize(
    ("body", "more", "match"),
    [(b"abcd", False, "Too much"), (b"abcd", True, "Too much"), (b"ab", False, "Too little")],
)
async def test_a_wrong_content_length_before_anything_is_sent_gets_500(
    body: bytes, match: str, more: bool, log: LogCapture
) -> None:
    async with requested(GET) as (client, _, call):
        await call.send({**START, "headers": [(b"content-length", b"3")]})
        await call.send_raises(piece(body, more=more), InvalidMessage, match)
        call.finish(InvalidMessage(match))
        assert (await read_response(client)).status == 500
        assert await client.ended() == b""
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 500 Internal Server Error']


async def test_a_wrong_content_length_truncates_a_started_response() -> None:
    for last, match in ((b"bcd", "Too much"), (b"b", "Too little")):
        async with requested(GET * 2) as (client, app, call):
            await call.send({**START, "headers": [(b"content-length", b"3")]})
            await call.send(piece(b"a"))
            await call.send_raises(piece(last, more=False), InvalidMessage, match)
            # Not "response complete": it is not.
            await call.send_raises(piece(b"", more=False), InvalidMessage, ALREADY_FAILED)
            call.finish(InvalidMessage(match))
            assert (await read_head(client)).headers[b"content-length"] == b"3"
            assert await client.ended() == b"a"
            assert app.calls.empty()


async def test_a_content_length_that_is_not_a_number_raises() -> None:
    async with requested(GET) as (client, _, call):
        invalid = {**START, "headers": [(b"content-length", b"x")]}
        await call.send_raises(invalid, InvalidMessage, "Content-Length")
        call.finish()
        assert (await read_response(client)).status == 500
