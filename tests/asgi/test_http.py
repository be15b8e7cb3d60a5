from array import array
from typing import Any

import h11
import pytest

from tests.drivers import PARSERS, Chosen, http1 as connection
from wsgate.asgi.http import FileRequest, MessageTable, Response, State, request_event
from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.http.h1.connection import Http1Connection
from wsgate.http.request import HeadLimits, Request

DEFAULTS = [(b"date", b"today"), (b"server", b"wsgate")]
Parsed = tuple[int, list[tuple[bytes, bytes]], bytes]


@pytest.fixture(scope="module", params=list(PARSERS.values()), ids=list(PARSERS), autouse=True)
def parser(request: pytest.FixtureRequest) -> type[Http1Connection]:
    Chosen.parser = request.param
    return Chosen.parser


class Exchange:
    """A request that has come, and the bytes of the response to it."""

    def __init__(
        self,
        method: str = "GET",
        *,
        version: str = "1.1",
        messages: MessageTable = Response.HTTP,
        te: bytes = b"trailers",
    ) -> None:
        self.method = method
        http1 = connection(HeadLimits())
        http1.feed(f"{method} / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
        assert isinstance(http1.take(), Request)
        http1.take()
        self.http1 = http1
        self.response = Response(method, messages, [(b"te", te)])
        self.out = b""

    @property
    def state(self) -> State:
        return self.response.state

    @property
    def left(self) -> bool:
        return self.response.has_started

    @property
    def status(self) -> int:
        return self.response.status

    def start(self, status: Any = 200, headers: Any = (), **more: Any) -> bytes:
        return self.send(
            {"type": "http.response.start", "status": status, "headers": headers} | more
        )

    def body(self, body: Any = b"", **more: Any) -> bytes:
        return self.send({"type": "http.response.body", "body": body} | more)

    def send(self, message: dict[str, Any]) -> bytes:
        event = self.response.send(message)
        assert not isinstance(event, FileRequest)
        out = b"" if event is None else self.http1.send(event, DEFAULTS)
        self.out += out
        return out

    def parsed(self) -> Parsed:
        """Return the status, headers and body that a client reads."""
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=self.method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(self.out)
        head = client.next_event()
        assert isinstance(head, h11.Response)
        body = b""
        while isinstance(event := client.next_event(), h11.Data):
            body += bytes(event.data)
        if event is h11.NEED_DATA:
            client.receive_data(b"")
            event = client.next_event()
        assert isinstance(event, h11.EndOfMessage)
        return head.status_code, list(head.headers), body


# -- the head is held back -------------------------------------------------------------------------


def test_the_head_is_sent_with_the_first_part_of_the_body() -> None:
    exchange = Exchange()
    assert (exchange.state, exchange.status) == (State.WAITING, 0)
    assert exchange.start(201, [(b"X-Mine", b"1")]) == b""
    assert (exchange.state, exchange.status) == (State.HELD, 201)
    assert not exchange.left
    assert exchange.body(b"hello") == (
        b"HTTP/1.1 201 Created\r\n"
        b"date: today\r\nserver: wsgate\r\nx-mine: 1\r\ncontent-length: 5\r\n\r\nhello"
    )
    assert exchange.state is State.COMPLETE
    assert exchange.left


def test_a_body_in_parts_is_chunked() -> None:
    exchange, states = Exchange(), list[State]()
    exchange.start()
    for piece, more, out in [
        (b"", True, b"transfer-encoding: chunked\r\n\r\n"),
        (b"ab", True, b"2\r\nab\r\n"),
        (b"c", False, b"1\r\nc\r\n0\r\n\r\n"),
    ]:
        assert exchange.body(piece, more_body=more).lower().endswith(out)
        assert exchange.left
        states.append(exchange.state)
    assert states == [State.STREAMING, State.STREAMING, State.COMPLETE]
    assert exchange.parsed()[2] == b"abc"


def test_a_body_in_parts_ends_with_the_connection_in_http_1_0() -> None:
    exchange = Exchange(version="1.0")
    exchange.start()
    assert exchange.body(b"ab", more_body=True).lower().endswith(b"connection: close\r\n\r\nab")
    assert exchange.body() == b""
    assert exchange.parsed()[2] == b"ab"


def test_a_content_length_of_the_app_is_kept() -> None:
    exchange = Exchange()
    exchange.start(headers=[(b"Content-Length", b"3")])
    assert exchange.body(b"ab", more_body=True).endswith(b"content-length: 3\r\n\r\nab")
    assert exchange.body(b"c") == b"c"


def test_status_headers_and_body_have_defaults() -> None:
    exchange = Exchange()
    exchange.send({"type": "http.response.start", "status": 200})
    exchange.send({"type": "http.response.body"})
    assert exchange.parsed() == (200, [*DEFAULTS, (b"content-length", b"0")], b"")


def test_a_header_of_the_app_replaces_every_default_of_its_name() -> None:
    exchange = Exchange()
    exchange.start(headers=[(b"Server", b"mine"), (b"set-cookie", b"a"), (b"set-cookie", b"b")])
    exchange.body()
    assert exchange.parsed()[1] == [
        (b"date", b"today"),
        (b"server", b"mine"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
        (b"content-length", b"0"),
    ]


@pytest.mark.parametrize("body", [b"body", bytearray(b"body"), memoryview(b"body")])
def test_a_body_is_any_bytes_like_object(body: Any) -> None:
    exchange = Exchange()
    exchange.start()
    exchange.body(body)
    assert exchange.parsed()[2] == b"body"


def test_the_length_of_a_memoryview_is_in_bytes() -> None:
    exchange = Exchange()
    exchange.start()
    numbers = array("I", [1, 2, 3])
    exchange.body(memoryview(numbers))
    assert exchange.parsed()[2] == numbers.tobytes()


# -- framing is the server's -----------------------------------------------------------------------


def test_a_transfer_encoding_of_the_app_is_ignored() -> None:
    exchange = Exchange()
    exchange.start(headers=[(b"Transfer-Encoding", b"chunked")])
    exchange.body(b"whole")
    assert exchange.parsed() == (200, [*DEFAULTS, (b"content-length", b"5")], b"whole")


@pytest.mark.parametrize(
    ("status", "line"), [(204, b"HTTP/1.1 204 No Content"), (304, b"HTTP/1.1 304 Not Modified")]
)
def test_a_status_without_a_body_has_none(status: int, line: bytes) -> None:
    exchange = Exchange()
    exchange.start(status)
    assert exchange.body(b"dropped") == line + b"\r\ndate: today\r\nserver: wsgate\r\n\r\n"
    assert exchange.state is State.COMPLETE


def test_a_204_has_no_length_and_a_304_may_have_one() -> None:
    no_content, not_modified = Exchange(), Exchange()
    no_content.start(204, [(b"content-length", b"0")])
    no_content.body()
    not_modified.start(304, [(b"content-length", b"12")])
    not_modified.body()
    assert no_content.parsed()[1] == DEFAULTS
    assert not_modified.parsed()[1] == [*DEFAULTS, (b"content-length", b"12")]


def test_the_response_to_head_has_only_headers() -> None:
    exchange = Exchange("HEAD")
    exchange.start(headers=[(b"content-length", b"5")])
    exchange.body(b"hello")
    assert exchange.parsed() == (200, [*DEFAULTS, (b"content-length", b"5")], b"")


def test_the_response_to_head_may_come_in_parts() -> None:
    exchange = Exchange("HEAD")
    exchange.start()
    exchange.body(b"a", more_body=True)
    assert exchange.body(b"b", more_body=True) == b""
    exchange.body(b"c")
    assert exchange.parsed()[2] == b""


def test_two_lengths_are_refused_with_the_head() -> None:
    exchange = Exchange()
    with pytest.raises(InvalidMessage, match="conflicting Content-Length"):
        exchange.start(headers=[(b"content-length", b"1"), (b"content-length", b"2")])
    assert exchange.state is State.WAITING


@pytest.mark.parametrize(("body", "message"), [(b"long", "Too much"), (b"", "Too little")])
def test_a_whole_body_of_a_wrong_length_is_refused_before_the_head_is_sent(
    body: bytes, message: str
) -> None:
    exchange = Exchange()
    exchange.start(headers=[(b"content-length", b"2")])
    with pytest.raises(InvalidMessage, match=message):
        exchange.body(body)
    assert not exchange.left  # so that a 500 can still be sent


@pytest.mark.parametrize(("body", "message"), [(b"long", "Too much"), (b"", "Too little")])
def test_a_body_in_parts_of_a_wrong_length_is_refused(body: bytes, message: str) -> None:
    exchange = Exchange()
    exchange.start(headers=[(b"content-length", b"2")])
    exchange.body(b"a", more_body=True)
    with pytest.raises(InvalidMessage, match=message):
        exchange.body(body)
    assert exchange.left


# -- which message when ----------------------------------------------------------------------------


def test_a_body_before_the_start_is_illegal() -> None:
    exchange = Exchange()
    with pytest.raises(IllegalMessage) as raised:
        exchange.body()
    assert str(raised.value) == (
        "'http.response.body' cannot be sent in the state waiting for a response"
    )


def test_a_response_starts_once() -> None:
    exchange = Exchange()
    exchange.start()
    with pytest.raises(IllegalMessage, match=r"in the state response started$"):
        exchange.start(500)
    assert exchange.status == 200
    exchange.body(b"", more_body=True)
    with pytest.raises(IllegalMessage, match=r"in the state streaming the response$"):
        exchange.start(500)


@pytest.mark.parametrize("kind", ["http.response.start", "http.response.body"])
def test_any_message_after_a_complete_response_is_illegal(kind: str) -> None:
    exchange = Exchange()
    exchange.start()
    exchange.body()
    with pytest.raises(IllegalMessage, match=f"^'{kind}' .* in the state response complete$"):
        exchange.send({"type": kind, "status": 200})


@pytest.mark.parametrize("kind", [None, "websocket.send", "http.response.trailers", 7])
def test_other_messages_are_illegal(kind: object) -> None:
    exchange = Exchange()
    exchange.start()
    with pytest.raises(IllegalMessage) as raised:
        exchange.send({"type": kind})
    assert str(raised.value) == f"{kind!r} cannot be sent in the state response started"


def test_a_denial_has_message_types_of_its_own() -> None:
    exchange = Exchange(messages=Response.DENIAL)
    with pytest.raises(IllegalMessage):
        exchange.start()
    exchange.send({"type": "websocket.http.response.start", "status": 401})
    exchange.send({"type": "websocket.http.response.body", "body": b"who?"})
    assert exchange.parsed() == (401, [*DEFAULTS, (b"content-length", b"4")], b"who?")


# -- trailers --------------------------------------------------------------------------------------

SUM = (b"x-sum", b"1")


def trailers(*headers: Any, **more: Any) -> dict[str, Any]:
    return {"type": "http.response.trailers", "headers": headers} | more


def test_trailers_follow_a_chunked_body() -> None:
    exchange, states = Exchange(), list[State]()
    exchange.start(trailers=True)
    messages: list[tuple[dict[str, Any], bytes]] = [
        ({"type": "http.response.body", "body": b"ab", "more_body": True}, b"2\r\nab\r\n"),
        ({"type": "http.response.body", "body": b"c"}, b"1\r\nc\r\n"),
        (trailers((b"X-Sum", b" 1 "), more_trailers=True), b""),
        (
            trailers((b"x-more", b"2"), (b"x-more", b"3")),
            b"0\r\nx-sum: 1\r\nx-more: 2\r\nx-more: 3\r\n\r\n",
        ),
    ]
    for message, out in messages:
        assert exchange.send(message).endswith(out)
        states.append(exchange.state)
    assert states == [State.STREAMING, State.TRAILERS, State.TRAILERS, State.COMPLETE]
    assert exchange.parsed()[2] == b"abc"


def test_a_whole_body_is_chunked_if_trailers_follow() -> None:
    exchange = Exchange()
    exchange.start(trailers=True)
    exchange.body(b"abc")
    assert (exchange.state, exchange.left) == (State.TRAILERS, True)
    assert exchange.send(trailers(SUM)) == b"0\r\nx-sum: 1\r\n\r\n"
    assert exchange.parsed() == (200, [*DEFAULTS, (b"transfer-encoding", b"chunked")], b"abc")


def test_announced_trailers_may_be_empty() -> None:
    exchange = Exchange()
    exchange.start(trailers=True)
    exchange.body(b"a")
    assert exchange.send({"type": "http.response.trailers"}) == b"0\r\n\r\n"
    assert exchange.state is State.COMPLETE


@pytest.mark.parametrize(
    ("method", "version", "status", "headers"),
    [
        ("HEAD", "1.1", 200, []),
        ("GET", "1.0", 200, []),
        ("GET", "1.1", 204, []),
        ("GET", "1.1", 304, []),
        ("GET", "1.1", 200, [(b"content-length", b"3")]),
    ],
)
def test_trailers_are_dropped_without_a_chunked_body(
    method: str, version: str, status: int, headers: list[Any]
) -> None:
    exchange = Exchange(method, version=version)
    exchange.start(status, headers, trailers=True)
    exchange.body(b"abc")
    assert exchange.send(trailers(SUM)) == b""
    assert exchange.state is State.COMPLETE
    assert exchange.parsed()[0] == status


@pytest.mark.parametrize(
    ("te", "sent"),
    [
        (b"trailers", True),
        (b"gzip;q=0.5, Trailers", True),
        (b"", False),
        (b"gzip", False),
        (b"trailers-not", False),
    ],
)
def test_trailers_are_sent_only_to_a_client_that_asks_for_them(te: bytes, sent: bool) -> None:
    exchange = Exchange(te=te)
    exchange.start(trailers=True)
    exchange.body(b"a")
    out = b"0\r\nx-sum: 1\r\n\r\n" if sent else b"0\r\n\r\n"
    assert exchange.send(trailers(SUM)) == out
    assert exchange.state is State.COMPLETE


def test_trailers_come_only_after_the_body() -> None:
    exchange = Exchange()
    for text in ("waiting for a response", "response started", "streaming the response"):
        with pytest.raises(IllegalMessage, match=f"in the state {text}$"):
            exchange.send(trailers(SUM))
        if exchange.state is State.WAITING:
            exchange.start(trailers=True)
        else:
            exchange.body(b"a", more_body=True)
    exchange.body()
    with pytest.raises(IllegalMessage, match=r"in the state waiting for trailers$"):
        exchange.body()


def test_trailers_that_were_not_announced_are_illegal() -> None:
    exchange = Exchange()
    exchange.start()
    exchange.body(b"a")
    with pytest.raises(IllegalMessage, match=r"in the state response complete$"):
        exchange.send(trailers(SUM))


@pytest.mark.parametrize("wrong", [(b"content-length", b"1"), (b"Host", b"a"), (b"a b", b"c"), 5])
def test_a_wrong_trailer_is_refused_and_the_state_stays(wrong: Any) -> None:
    exchange = Exchange()
    exchange.start(trailers=True)
    exchange.body(b"a")
    with pytest.raises(InvalidMessage):
        exchange.send(trailers(SUM, wrong))
    assert exchange.state is State.TRAILERS
    assert exchange.send(trailers((b"a", b"b"))) == b"0\r\na: b\r\n\r\n"


def test_a_contradicted_length_is_refused_although_trailers_follow() -> None:
    exchange = Exchange()
    exchange.start(headers=[(b"content-length", b"2")], trailers=True)
    with pytest.raises(InvalidMessage, match="Too little data"):
        exchange.body(b"a")
    assert not exchange.left


# -- early hints -----------------------------------------------------------------------------------


def hint(*links: Any) -> dict[str, Any]:
    return {"type": "http.response.early_hint", "links": links}


def test_early_hints_precede_the_response() -> None:
    exchange = Exchange()
    assert exchange.send(hint(b"</a.css>; rel=preload", b" </b.js> ")) == (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n"
    )
    assert (exchange.state, exchange.left, exchange.status) == (State.WAITING, False, 0)
    exchange.send(hint(b"</c.js>"))
    exchange.out = b""
    exchange.start()
    exchange.body(b"a")
    assert exchange.parsed() == (200, [*DEFAULTS, (b"content-length", b"1")], b"a")


def test_http_1_0_gets_no_early_hints() -> None:
    assert Exchange(version="1.0").send(hint(b"</a.css>")) == b""


def test_early_hints_leave_while_the_head_is_held() -> None:
    exchange = Exchange()
    exchange.start()
    assert exchange.send(hint(b"</a.css>")) == (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"
    )
    assert (exchange.state, exchange.left) == (State.HELD, False)


def test_early_hints_after_the_head_are_checked_and_ignored() -> None:
    exchange = Exchange()
    exchange.start()
    exchange.body(b"a", more_body=True)
    assert exchange.send(hint(b"</a.css>")) == b""
    with pytest.raises(InvalidMessage):
        exchange.send(hint("</a.css>"))
    assert exchange.state is State.STREAMING


@pytest.mark.parametrize("with_trailers", [False, True])
def test_early_hints_are_illegal_after_the_last_part_of_the_body(with_trailers: bool) -> None:
    exchange = Exchange()
    exchange.start(trailers=with_trailers)
    exchange.body(b"a")
    with pytest.raises(IllegalMessage, match=r"^'http.response.early_hint' cannot be sent"):
        exchange.send(hint(b"</a.css>"))


@pytest.mark.parametrize("links", [None, 5, ["</a.css>"], [b"</a>\r\nx: y"], [None], b"</a>"])
def test_links_are_a_list_of_field_values(links: Any) -> None:
    exchange = Exchange()
    with pytest.raises(InvalidMessage):
        exchange.send({"type": "http.response.early_hint", "links": links})
    assert exchange.state is State.WAITING


def test_a_denial_ignores_the_announcement_of_trailers() -> None:
    exchange = Exchange(messages=Response.DENIAL)
    exchange.send({"type": "websocket.http.response.start", "status": 401, "trailers": True})
    exchange.send({"type": "websocket.http.response.body", "body": b"no"})
    assert exchange.state is State.COMPLETE
    assert exchange.parsed() == (401, [*DEFAULTS, (b"content-length", b"2")], b"no")


@pytest.mark.parametrize("kind", ["http.response.early_hint", "http.response.trailers"])
def test_a_denial_has_no_extensions(kind: str) -> None:
    exchange = Exchange(messages=Response.DENIAL)
    with pytest.raises(IllegalMessage):
        exchange.send({"type": kind, "links": [], "headers": []})


# -- what a message may hold -----------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, "200", 100, 101, 199, 1000, 200.0, True])
def test_a_status_is_a_number_in_its_range(status: object) -> None:
    exchange = Exchange()
    with pytest.raises(InvalidMessage) as raised:
        exchange.start(status)
    assert str(raised.value) == f"the status of a response is 200 to 999, not {status!r}"
    assert exchange.state is State.WAITING


@pytest.mark.parametrize("status", [200, 418, 599, 999])
def test_a_status_may_be_unknown(status: int) -> None:
    exchange = Exchange()
    exchange.start(status)
    exchange.body()
    assert exchange.parsed()[0] == status


@pytest.mark.parametrize("headers", [[(b"a b", b"c")], [(b"a", b"b\r\nc: d")], [("a", "b")], [7]])
def test_malformed_headers_are_refused(headers: list[Any]) -> None:
    exchange = Exchange()
    with pytest.raises(InvalidMessage):
        exchange.start(headers=headers)
    assert exchange.state is State.WAITING


@pytest.mark.parametrize(("body", "kind"), [("text", "str"), (None, "NoneType"), (5, "int")])
def test_a_body_is_bytes(body: object, kind: str) -> None:
    exchange = Exchange()
    exchange.start()
    with pytest.raises(InvalidMessage) as raised:
        exchange.body(body)
    assert str(raised.value) == f"a response body is bytes, not {kind}"
    assert exchange.state is State.HELD


@pytest.mark.parametrize("more", [False, True])
def test_the_message_for_a_part_of_the_request_body(more: bool) -> None:
    assert request_event(b"data", more=more) == {
        "type": "http.request",
        "body": b"data",
        "more_body": more,
    }
