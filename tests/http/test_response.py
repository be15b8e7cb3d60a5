from http import HTTPStatus
from typing import Any

import pytest

from wsgate.errors import InvalidMessage
from wsgate.http import response as module
from wsgate.http.response import response_head, response_trailers

TEXT = (b"content-type", b"text/plain")
DEFAULTS = [(b"date", b"today"), (b"server", b"wsgate")]


@pytest.fixture(autouse=True)
def cold() -> None:
    module._heads.clear()


def test_equal_heads_are_one_cached_object() -> None:
    head = response_head(200, [TEXT, (b"Content-Length", b"5")])
    assert (
        response_head(
            HTTPStatus.OK, ((b"content-" + b"type", b"text/plain"), (b"Content-Length", b"5"))
        )
        is head
    )
    assert response_head(201, [TEXT, (b"Content-Length", b"5")]) is not head
    assert head.headers == [TEXT, (b"content-length", b"5")]
    assert (head.length, head.is_simple) == (5, True)


def test_the_bytes_have_the_default_headers_of_each_call() -> None:
    head = response_head(200, [TEXT])
    one, other = list(DEFAULTS), [(b"date", b"tomorrow")]
    for _ in range(2):
        assert head.to_bytes(one, 5) == (
            b"HTTP/1.1 200 OK\r\ndate: today\r\nserver: wsgate\r\ncontent-type: text/plain\r\n"
            b"content-length: 5\r\n\r\n"
        )
    assert head.to_bytes(other, 12) == (
        b"HTTP/1.1 200 OK\r\ndate: tomorrow\r\ncontent-type: text/plain\r\n"
        b"content-length: 12\r\n\r\n"
    )


def test_a_header_of_the_app_replaces_the_default() -> None:
    head = response_head(299, [(b"Server", b"mine"), (b"content-length", b"05")])
    assert head.to_bytes(DEFAULTS, 5) == (
        b"HTTP/1.1 299 \r\ndate: today\r\nserver: mine\r\ncontent-length: 05\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (204, TEXT),
        (304, TEXT),
        (200, (b"connection", b"x")),
        (200, (b"host", b"x")),
    ],
)
def test_a_head_that_is_not_simple(status: int, header: tuple[bytes, bytes]) -> None:
    for _ in range(2):
        assert not response_head(status, [header]).is_simple


@pytest.mark.parametrize(
    "header",
    [(b"set-cookie", b"a=b"), (b"x-token", b"a"), (b"etag", b"a"), (b"vary", b"a" * 1_025)],
)
def test_secrets_and_long_heads_are_not_cached(header: tuple[bytes, bytes]) -> None:
    assert response_head(200, [TEXT, header]).headers == [TEXT, header]
    assert not module._heads


def test_the_cache_is_bounded() -> None:
    for i in range(1_000):
        assert response_head(200, [(b"content-length", b"%d" % i)]).length == i
        assert len(module._heads) <= 256


@pytest.mark.parametrize(
    "wrong",
    [
        (memoryview(b"content-type"), b"text/plain"),
        (b"content-type", memoryview(b"text/plain")),
        (b"content-type", bytearray(b"text/plain")),
        ("content-type", "text/plain"),
    ],
)
def test_a_value_that_only_equals_bytes_is_refused_each_time(wrong: Any) -> None:
    response_head(200, [TEXT])
    for _ in range(2):
        with pytest.raises(InvalidMessage):
            response_head(200, [wrong])


def test_headers_may_be_any_iterable_of_pairs() -> None:
    assert response_head(200, ([*pair] for pair in [TEXT])).headers == [TEXT]
    assert response_head(200, [[*TEXT]]).headers == [TEXT]
    assert not module._heads
    with pytest.raises(InvalidMessage):
        response_head(200, None)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"5, 5")],
        [(b"content-length", b"5"), (b"content-length", b"5")],
        [(b"content-length", b"5"), (b"content-length", b"5,5")],
    ],
)
def test_equal_content_lengths_become_one(headers: list[tuple[bytes, bytes]]) -> None:
    for _ in range(2):
        head = response_head(200, [(b"vary", b"a"), *headers, TEXT])
        assert head.headers == [(b"vary", b"a"), (b"content-length", b"5"), TEXT]
        assert head.fields[b"content-length"] == b"5"
        assert (head.length, head.is_simple) == (5, True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"x", "bad Content-Length"),
        (b"", "bad Content-Length"),
        (b"-5", "bad Content-Length"),
        (b"0" * 21, "bad Content-Length"),
        (b"5, 6", "conflicting Content-Length headers"),
        (b"5,", "conflicting Content-Length headers"),
    ],
)
def test_a_malformed_content_length_is_refused(value: bytes, text: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidMessage, match=f"^{text}$"):
            response_head(200, [(b"content-length", value)])
        assert response_head(204, [(b"content-length", value)]).headers == []  # it is dropped


def test_trailers_get_lower_case_names() -> None:
    trailers = response_trailers([(b"Server-Timing", b" a "), [b"X-Sum", b"1"], (b"ETag", b'"a"')])
    assert trailers == [(b"server-timing", b"a"), (b"x-sum", b"1"), (b"etag", b'"a"')]


@pytest.mark.parametrize(
    "name",
    [
        *(b"Content-Length", b"transfer-encoding", b"trailer", b"connection"),  # framing
        *(b"Host", b"max-forwards"),  # routing
        *(b"Set-Cookie", b"authorization", b"www-authenticate"),  # authentication
        *(b"if-match", b"range", b"expect"),  # request modifiers
        *(b"cache-control", b"date", b"location", b"vary"),  # response controls
        *(b"Content-Encoding", b"content-type", b"content-range"),  # content format
    ],
)
def test_a_field_that_must_come_first_is_not_a_trailer(name: bytes) -> None:
    with pytest.raises(InvalidMessage, match=f"^{name.decode().lower()} must not be a trailer"):
        response_trailers([(b"x-sum", b"1"), (name, b"0")])


@pytest.mark.parametrize("trailers", [None, [(b"a b", b"c")], [(b"a", b"b\r\nc: d")], [("a", "b")]])
def test_malformed_trailers_are_refused(trailers: Any) -> None:
    with pytest.raises(InvalidMessage):
        response_trailers(trailers)
