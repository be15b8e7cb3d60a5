"""One HTTP exchange in memory: the scope, the response's bytes, the access log."""

import re
from typing import Any
from unittest.mock import ANY

import pytest

from tests.harness.app import END, START, ScriptedApp, piece, respond_path
from tests.harness.client import GET
from tests.harness.log import LogCapture
from tests.harness.memory import connected, read_chunks, read_head, read_response, requested
from tests.harness.waiting import turns
from wsgate.errors import ClientDisconnected

EXTENSIONS: dict[str, Any] = {
    "http.response.trailers": {},
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
    "wsgate": {"connection_id": ANY},
    "wsgate.topics": {},
}

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left")


# -- the scope -------------------------------------------------------------------------------------


async def scope_of(data: bytes, **options: Any) -> dict[str, Any]:
    async with requested(data, **options) as (_, _, call):
        return dict(call.scope)


async def test_the_scope_has_every_key() -> None:
    data = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 0\r\n\r\n"
    assert await scope_of(data) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"b=c",
        "root_path": "",
        "headers": [
            (b"host", b"x"),
            (b"x-two", b"1"),
            (b"x-two", b"2"),
            (b"content-length", b"0"),
        ],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "state": {},
        "extensions": EXTENSIONS,
    }


async def test_the_path_is_decoded_and_the_raw_path_is_not() -> None:
    scope = await scope_of(b"GET /%C3%A9%2F%20+?q=%20%C3 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert scope["path"] == "/é/ +"
    assert scope["raw_path"] == b"/%C3%A9%2F%20+"
    assert scope["query_string"] == b"q=%20%C3"


async def test_the_root_path_is_part_of_the_path() -> None:
    scope = await scope_of(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", root_path="/api")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/a", b"/api/a")


async def test_an_absolute_target_replaces_the_host_header() -> None:
    scope = await scope_of(b"GET http://other:81/a?b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (scope["path"], scope["query_string"]) == ("/a", b"b")
    assert scope["headers"] == [(b"host", b"other:81")]


async def test_options_with_an_asterisk_target() -> None:
    scope = await scope_of(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("OPTIONS", "*", b"*")


async def test_the_version_of_an_http_1_0_client() -> None:
    scope = await scope_of(b"GET / HTTP/1.0\r\n\r\n")
    assert (scope["http_version"], scope["headers"]) == ("1.0", [])


async def test_each_scope_has_its_own_copy_of_the_state() -> None:
    app = ScriptedApp()
    async with connected(app) as client:
        shared: list[int] = []
        client.worker.state["shared"] = shared
        client.send(GET * 2)
        first = await app.called()
        first.scope["state"]["own"] = 1
        await first.respond()
        second = await app.called()
        assert second.scope["state"] == {"shared": shared}
        assert second.scope["state"]["shared"] is shared


# -- the response on the wire ----------------------------------------------------------------------


async def test_a_whole_body_has_a_content_length() -> None:
    async with requested(GET) as (client, _, call):
        await call.respond(b"hello", 201, (b"X-Own", b"1"))
        answer = await read_response(client)
        assert (answer.status, answer.body) == (201, b"hello")
        assert answer.headers[b"content-length"] == b"5"
        assert answer.headers[b"x-own"] == b"1"


async def test_a_stream_is_chunked() -> None:
    async with requested(GET) as (client, _, call):
        await call.send(START)
        await turns()
        assert not client.received, "the head waits for the first piece"
        await call.send(piece(b"ab"))
        assert (await read_head(client)).headers[b"transfer-encoding"] == b"chunked"
        await call.send(piece(b""))
        await call.send(piece(b"c"))
        await call.send(END)
        assert await read_chunks(client) == [b"ab", b"c"]
        assert not client.is_ended


async def test_a_stream_with_a_content_length_of_the_app() -> None:
    async with requested(GET) as (client, _, call):
        await call.send({**START, "headers": [(b"Content-Length", b"3")]})
        await call.send(piece(b"ab"))
        await call.send(piece(b"c", more=False))
        answer = await read_response(client)
        assert answer.body == b"abc"
        assert b"transfer-encoding" not in answer.headers


async def test_transfer_encoding_of_the_app_is_dropped() -> None:
    async with requested(GET) as (client, _, call):
        await call.respond(b"a", 200, (b"transfer-encoding", b"gzip, chunked"))
        answer = await read_response(client)
        assert b"transfer-encoding" not in answer.headers
        assert answer.body == b"a"


async def test_the_response_to_head_has_no_body() -> None:
    async with requested(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET) as (client, app, call):
        await call.respond(b"hello", 200, (b"content-length", b"5"))
        assert (await read_head(client)).headers[b"content-length"] == b"5"
        await (await app.called()).respond(b"next")
        assert (await read_response(client)).body == b"next"


@pytest.mark.parametrize("body", [b"hello", b""])
async def test_a_lower_case_head_is_a_head_and_closes_the_connection(
    body: bytes, log: LogCapture
) -> None:
    # RFC 9110 section 9.1: "The method token is case-sensitive". Who writes `head` may wait for a
    # body, so nothing follows on the connection that could be taken for one.
    async with requested(b"head / HTTP/1.1\r\nHost: x\r\n\r\n" + GET) as (client, app, call):
        assert call.scope["method"] == "HEAD"
        await call.respond(body, 200, (b"content-length", b"5"))
        headers = (await read_head(client)).headers
        assert (headers[b"content-length"], headers[b"connection"]) == (b"5", b"close")
        assert await client.ended() == b""
        assert log.access == ['127.0.0.1:50000 - "HEAD / HTTP/1.1" 200 OK']
        assert app.calls.empty()


@pytest.mark.parametrize("method", ["pOst", "m-Search", "query!", "PATCH", "1a"])
async def test_any_method_is_upper_case_in_the_scope(method: str) -> None:
    scope = await scope_of(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert scope["method"] == method.upper()


async def test_a_streamed_response_to_head_has_no_body() -> None:
    async with requested(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET) as (client, app, call):
        await call.send(START)
        await call.send(piece(b"a"))
        await call.send(piece(b"b", more=False))
        assert (await read_head(client)).status == 200
        await (await app.called()).respond(b"next")
        assert (await read_response(client)).body == b"next"


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_that_allows_no_body(status: int) -> None:
    async with requested(GET * 2) as (client, app, call):
        await call.respond(b"nothing of this", status)
        answer = await read_head(client)
        assert answer.status == status
        assert not {b"content-length", b"transfer-encoding"} & set(answer.headers)
        await (await app.called()).respond(b"next")
        assert (await read_response(client)).body == b"next"


async def test_no_content_has_no_content_length() -> None:
    async with requested(GET) as (client, _, call):
        await call.respond(b"", 204, (b"content-length", b"0"))
        assert b"content-length" not in (await read_head(client)).headers


async def test_a_status_without_a_reason_phrase() -> None:
    async with requested(GET) as (client, _, call):
        await call.respond(b"", 299)
        assert await client.until(b"\r\n") == b"HTTP/1.1 299 \r\n"


# -- headers of the server -------------------------------------------------------------------------


async def headers_with(*own: Any, **options: Any) -> dict[bytes, bytes]:
    async with requested(GET, **options) as (client, _, call):
        await call.respond(b"", 200, *own)
        return (await read_response(client)).headers


async def test_every_response_has_date_and_server() -> None:
    headers = await headers_with()
    assert re.fullmatch(
        rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", headers[b"date"]
    )
    assert headers[b"server"].startswith(b"wsgate/")


async def test_date_and_server_can_be_switched_off() -> None:
    headers = await headers_with(date_header=False, server_header=False)
    assert set(headers) == {b"content-length"}


async def test_configured_headers_are_sent() -> None:
    headers = await headers_with(headers=[("X-Own", "é"), ("Server", "mine")])
    assert headers[b"x-own"] == "é".encode("latin-1")
    assert headers[b"server"] == b"mine"


async def test_headers_of_the_app_override_server_headers() -> None:
    own = [(b"Date", b"never"), (b"server", b"app"), (b"X-Own", b"app")]
    headers = await headers_with(*own, headers=[("x-own", "operator")])
    assert (headers[b"date"], headers[b"server"], headers[b"x-own"]) == (b"never", b"app", b"app")


async def test_error_responses_have_server_headers() -> None:
    async with connected(respond_path, headers=[("x-own", "1")]) as client:
        client.send(b"nonsense\r\n\r\n")
        answer = await read_response(client)
        assert {b"date", b"server", b"x-own"} <= set(answer.headers)


# -- the access log --------------------------------------------------------------------------------


async def test_each_request_has_an_access_line_after_its_response(log: LogCapture) -> None:
    async with requested(b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n" + GET) as (_, app, call):
        await call.send({**START, "status": 404})
        await call.send(piece(b"a"))
        assert not log.access
        await call.send(END)
        assert log.access == ['127.0.0.1:50000 - "GET /a?b HTTP/1.1" 404 Not Found']
        await (await app.called()).respond(b"", 299)
        assert log.access[1:] == ['127.0.0.1:50000 - "GET / HTTP/1.1" 299 ']


async def test_a_stream_whose_client_disconnected_has_an_access_line(log: LogCapture) -> None:
    async with requested(GET) as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        client.drop()
        await turns()
        with pytest.raises(ClientDisconnected) as raised:
            await call.send(piece(b"b"))
        call.finish(raised.value)
        await turns()
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK']
        assert not log.errors
