import asyncio
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from wsgate import testing
from wsgate.errors import ClientDisconnected, ConfigError
from wsgate.interfaces import adapt_asgi2, adapt_wsgi
from wsgate.types import Message

Scopes = list[Any]


async def unused() -> Any:
    raise AssertionError


def test_an_asgi2_app_is_called_with_the_scope_and_then_with_the_rest() -> None:
    calls: list[Any] = []

    class App:
        def __init__(self, scope: Any) -> None:
            calls.append(scope)

        async def __call__(self, receive: Any, send: Any) -> None:
            calls.append((receive, send))

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.5"}}
    original = scope["asgi"]
    asyncio.run(adapt_asgi2(App)(scope, unused, unused))  # type: ignore[arg-type]
    assert calls == [scope, (unused, unused)]
    assert scope["asgi"] == {"version": "2.0", "spec_version": "2.5"}
    assert original == {"version": "3.0", "spec_version": "2.5"}


def test_the_extra_is_named_if_a2wsgi_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a2wsgi", None)
    with pytest.raises(ConfigError) as raised:
        adapt_wsgi(lambda environ, start_response: [])
    assert str(raised.value) == "--interface wsgi: a2wsgi is missing: pip install 'wsgate[wsgi]'"
    assert raised.value.setting == "interface"


def greet(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} ".encode()
    body += environ["wsgi.input"].read()
    start_response("200 OK", [("content-length", str(len(body)))])
    return [body]


REQUEST = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody"
HANDSHAKE = (
    b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n"
)


async def test_a_wsgi_app_answers_requests_and_handshakes() -> None:
    async with testing.serve(adapt_wsgi(greet), ws="none", date_header=False) as server:
        for sent, body in ((REQUEST, b"POST /a body"), (HANDSHAKE, b"GET /a ")):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(len(body)) == body
            writer.close()
            await writer.wait_closed()


async def test_the_thread_of_a_wsgi_app_ends_after_its_client_has_left() -> None:
    ended = threading.Event()

    def endless(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"part"
        finally:
            ended.set()

    async def send(message: Message) -> None:
        raise ClientDisconnected

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "server": ("a", 1),
        "client": ("b", 2),
        "root_path": "",
    }
    async with asyncio.timeout(30):
        await adapt_wsgi(endless)(scope, receive, send)
    assert ended.is_set()
