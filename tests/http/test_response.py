from http import HTTPStatus
from typing import Any

import pytest

from wsgate.errors import InvalidMessage
from wsgate.http import response as module
from wsgate.http.response import response_head

TEXT = (b"content-type", b"text/plain")
DEFAULTS = [(b"date", b"today"), (b"server", b"wsgate")]


@pytest.fixture(autouse=True)
def cold() -> None:
    module._heads.clear()


def test_equal_heads_are_made_ready_once() -> None:
    head = response_head(200, [TEXT, (b"Content-Length", b"5")])
    assert (
        response_head(
            HTTPStatus.OK, ((b"content-" + b"type", b"text/plain"), (b"Content-Length", b"5"))
        )
        is head
    )
    assert response_head(201, [TEXT, (b"Content-Length", b"5")]) is not head
    assert head.headers == [TEXT, (b"content-length", b"5")]
    assert (head.length, head.is_usual) == (5, True)


def test_the_bytes_follow_the_server_s_own_headers() -> None:
    head = response_head(200, [TEXT])
    one, other = list(DEFAULTS), [(b"date", b"tomorrow")]
    for _ in range(2):
        assert head.written(one, 5) == (
            b"HTTP/1.1 200 OK\r\ndate: today\r\nserver: wsgate\r\ncontent-type: text/plain\r\n"
            b"content-length: 5\r\n\r\n"
        )
    assert head.written(other, 12) == (
        b"HTTP/1.1 200 OK\r\ndate: tomorrow\r\ncontent-type: text/plain\r\n"
        b"content-length: 12\r\n\r\n"
    )


def test_the_app_s_own_header_is_in_place_of_the_server_s() -> None:
    head = response_head(299, [(b"Server", b"mine"), (b"content-length", b"05")])
    assert head.written(DEFAULTS, 5) == (
        b"HTTP/1.1 299 \r\ndate: today\r\nserver: mine\r\ncontent-length: 05\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (204, TEXT),
        (304, TEXT),
        (200, (b"connection", b"x")),
        (200, (b"host", b"x")),
        (200, (b"content-length", b"5, 5")),
        (200, (b"content-length", b"x")),
        (200, (b"content-length", b"0" * 21)),
    ],
)
def test_what_is_not_usual(status: int, header: tuple[bytes, bytes]) -> None:
    for _ in range(2):
        assert not response_head(status, [header]).is_usual


@pytest.mark.parametrize(
    "header",
    [(b"set-cookie", b"a=b"), (b"x-token", b"a"), (b"etag", b"a"), (b"vary", b"a" * 1_025)],
)
def test_secrets_and_long_heads_are_not_kept(header: tuple[bytes, bytes]) -> None:
    assert response_head(200, [TEXT, header]).headers == [TEXT, header]
    assert not module._heads


def test_what_is_kept_is_bounded() -> None:
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
def test_what_only_equals_bytes_is_refused_each_time(wrong: Any) -> None:
    response_head(200, [TEXT])
    for _ in range(2):
        with pytest.raises(InvalidMessage):
            response_head(200, [wrong])


def test_headers_may_be_of_other_kinds() -> None:
    assert response_head(200, ([*pair] for pair in [TEXT])).headers == [TEXT]
    assert response_head(200, [[*TEXT]]).headers == [TEXT]
    assert not module._heads
    with pytest.raises(InvalidMessage):
        response_head(200, None)
