"""The limits on the head of a request, exact to the byte."""

import pytest

from tests.http.h1.playback import (
    ASK,
    LARGE,
    LIMITS,
    Refused,
    Way,
    bytewise,
    cut,
    head,
    play,
    request,
)
from wsgate.http.events import RequestEnd, UpgradeRequest
from wsgate.http.request import HeadLimits, Request

pytestmark = pytest.mark.usefixtures("parser")


def sized(size: int) -> bytes:
    """Return a request with a head of this size in bytes."""
    bare = len(head(b"X: "))
    raw = head(b"X: " + b"a" * (size - bare))
    assert len(raw) == size
    return raw


@pytest.mark.parametrize("size", [60, 200, 65_536])
def test_a_head_of_the_maximum_size_is_accepted(size: int, way: Way) -> None:
    limits = HeadLimits(size=size, target=size)
    assert [type(event) for event in way.play(sized(size), limits)] == [Request, RequestEnd]


@pytest.mark.parametrize("size", [60, 200, 65_536])
def test_a_head_one_byte_too_long_is_431(size: int, way: Way) -> None:
    assert way.play(sized(size + 1), HeadLimits(size=size)) == [Refused(431)]


@pytest.mark.parametrize("size", [60, 200, 65_536])
def test_an_endless_head_is_431_once_it_is_too_long(size: int, whole: bool) -> None:
    raw = (b"GET / HTTP/1.1\r\nX: " + b"a" * size)[: size + 1]
    limits = HeadLimits(size=size)
    assert play([raw[:-1]] if whole else bytewise(raw[:-1]), limits) == []
    assert play([raw] if whole else bytewise(raw), limits) == [Refused(431)]


def targeted(length: int) -> bytes:
    return b"GET /" + b"a" * (length - 1) + b" HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("length", [10, 8_192])
def test_a_target_of_the_maximum_size_is_accepted(length: int, way: Way) -> None:
    seen = way.play(targeted(length), HeadLimits(target=length))
    assert seen == [request(target=b"/" + b"a" * (length - 1)), RequestEnd()]


@pytest.mark.parametrize("length", [10, 8_192])
def test_a_target_one_byte_too_long_is_414(length: int, way: Way) -> None:
    assert way.play(targeted(length + 1), HeadLimits(target=length)) == [Refused(414)]


def test_a_larger_head_may_hold_a_target_of_150_000_bytes() -> None:
    for _ in range(2):  # cached or not: such a line is too long for the cache
        assert play([targeted(150_000)], LIMITS) == [Refused(414)]
        assert len(Way.WHOLE.play(targeted(150_000), LARGE)) == 2
        assert len(Way.FOLLOWED.play(targeted(150_000), LARGE)) == 2
        upgrade = ASK.replace(b"/ws", b"/" + b"a" * 150_000)
        assert [type(event) for event in play([upgrade], LARGE)] == [UpgradeRequest]
    pieces = cut(targeted(150_000), [997] * 150)
    assert len(play(pieces, LARGE)) == 2


def test_a_target_may_fill_a_larger_head_but_not_go_beyond_it() -> None:
    raw = targeted(200_000 - len(targeted(1)) + 1)
    assert len(raw) == 200_000
    assert len(play([raw], LARGE)) == 2
    assert play([raw.replace(b"/a", b"/aa", 1)], LARGE) == [Refused(431)]
    assert play([b"GET /" + b"a" * 200_000], LARGE) == [Refused(414)]
    assert play([targeted(150_000).replace(b"Host", b"X: " + b"b" * 60_000)], LARGE) == [
        Refused(431)
    ]


@pytest.mark.parametrize("limits", [HeadLimits(), HeadLimits(1_000, 500), HeadLimits(50)], ids=repr)
def test_an_endless_target_is_414(limits: HeadLimits, whole: bool) -> None:
    raw = b"GET /" + b"a" * limits.size
    assert play([raw] if whole else bytewise(raw), limits) == [Refused(414)]


@pytest.mark.parametrize("target", [20, 8_192])
def test_the_status_does_not_depend_on_the_pieces(target: int, way: Way) -> None:
    # The end of the line is beyond the limit of the head, and may or may not have come yet.
    raw = b"GET /" + b"a" * 150 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    assert way.play(raw, HeadLimits(size=100, target=target)) == [Refused(414)]


def with_headers(count: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: b\r\n" * (count - 1) + b"\r\n"


@pytest.mark.parametrize("count", [1, 100])
def test_the_maximum_number_of_headers_is_accepted(count: int, way: Way) -> None:
    seen = way.play(with_headers(count), HeadLimits(headers=count))
    assert seen == [request("GET", b"/", *[(b"x", b"b")] * (count - 1)), RequestEnd()]


def test_a_larger_head_may_hold_more_headers() -> None:
    for count in (101, 1_000, LARGE.headers):
        assert len(play([with_headers(count)], LARGE)) == 2
        assert play([with_headers(count)], LIMITS) == [Refused(431)]
    assert play([with_headers(LARGE.headers + 1)], LARGE) == [Refused(431)]


@pytest.mark.parametrize("count", [1, 100])
def test_one_header_too_many_is_431(count: int, way: Way) -> None:
    assert way.play(with_headers(count + 1), HeadLimits(headers=count)) == [Refused(431)]


def test_the_limits_apply_to_each_request() -> None:
    raw = sized(200)
    assert len(play([raw * 5], HeadLimits(size=200, target=20))) == 10


def test_empty_lines_before_a_head_do_not_count(whole: bool) -> None:
    raw = b"\r\n" * 500 + sized(100)
    assert len(play([raw] if whole else bytewise(raw), HeadLimits(size=100))) == 2
