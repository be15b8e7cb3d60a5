"""An app's response gives the same bytes or error whatever is cached, with each parser."""

import re
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, strategies as st

from tests.drivers import PARSERS
from wsgate.asgi.http import FileRequest, Response
from wsgate.errors import IllegalMessage, InvalidMessage, RequestRefused
from wsgate.http import response as module
from wsgate.http.h1.connection import Http1Connection
from wsgate.http.request import HeadLimits, Request

DEFAULTS = [(b"date", b"today"), (b"server", b"wsgate")]
Make = Callable[[Any], Any]
"""Converts a value to another type; each time anew, as some can be read only once."""


class Octets(bytes):
    """A subclass of bytes."""


class Pair(NamedTuple):
    """A subclass of tuple."""

    name: Any
    value: Any


class Listed(list[Any]):
    """A list that can be read only once."""

    def __init__(self, values: Iterable[Any]) -> None:
        super().__init__()
        self._values = iter(list(values))

    def __iter__(self) -> Iterator[Any]:
        return self._values


OCTETS: dict[str, Make] = {
    "bytes": bytes,
    "subclass": Octets,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "writable memoryview": lambda value: memoryview(bytearray(value)),
    "str": lambda value: value.decode("latin-1"),
    "None": lambda _: None,
}
PAIRS: dict[str, Make] = {
    "tuple": tuple,
    "list": list,
    "subclass": lambda pair: Pair(*pair),
    "iterator": iter,
    "three": lambda pair: (*pair, b"c"),
    "bytes": lambda _: b"ab",
    "None": lambda _: None,
}
CONTAINERS: dict[str, Make] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "subclass": Listed,
    "None": lambda _: None,
}


def makes(kinds: dict[str, Make], common: str) -> st.SearchStrategy[str]:
    return st.sampled_from([common] * 2 * len(kinds) + list(kinds))


class Field(NamedTuple):
    """A header of an app, and the types of it and of its two parts."""

    name: bytes
    value: bytes
    pair: str = "tuple"
    name_type: str = "bytes"
    value_type: str = "bytes"

    def made(self) -> Any:
        return PAIRS[self.pair]((OCTETS[self.name_type](self.name), self.made_value()))

    def made_value(self) -> Any:
        return OCTETS[self.value_type](self.value)


class Answer(NamedTuple):
    """What an app sends, and to which request."""

    request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    status: Any = 200
    container: str = "list"
    fields: tuple[Field, ...] = ()
    pieces: tuple[tuple[bytes, str], ...] = ((b"", "bytes"),)
    closes: bool = False

    def headers(self) -> Any:
        return CONTAINERS[self.container]([field.made() for field in self.fields])

    @property
    def plain(self) -> "Answer":
        """The same with each value in its plain type, which compares equal."""
        return self._replace(
            container="list", fields=tuple(Field(field.name, field.value) for field in self.fields)
        )


NAMES = st.sampled_from(
    [b"content-type", b"Content-Type", b"content-length", b"x-mine", b"connection", b"vary"] * 3
    + [b"CONTENT-LENGTH", b"transfer-encoding", b"host", b"server", b"set-cookie", b"a b", b""]
)
VALUES = st.sampled_from(
    [b"text/plain", b"5", b" 5\t", b"", b"close", b"keep-alive, x", b"caf\xe9"] * 3
    + [
        b"05",
        b"5, 5",
        b"6",
        b"x",
        b",",
        b"9" * 21,
        b"9" * 5_000,
        b"a\r\nb: c",
        b"a\nb",
        b"\x00",
        b"v" * 1_100,
    ]
)
FIELDS = st.builds(
    Field,
    NAMES,
    VALUES,
    makes(PAIRS, "tuple"),
    makes(OCTETS, "bytes"),
    makes(OCTETS, "bytes"),
)
REQUESTS = st.sampled_from(
    [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] * 4
    + [
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"head / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    ]
)
STATUSES: st.SearchStrategy[Any] = st.sampled_from(
    [200, HTTPStatus.OK, 201, 204, 304, 299, 404, 999, 200.0, True, "200", None, 101, 1000]
)
ANSWERS = st.builds(
    Answer,
    REQUESTS,
    st.just(200) | STATUSES,
    makes(CONTAINERS, "list"),
    st.lists(FIELDS, max_size=4).map(tuple),
    st.lists(
        st.tuples(st.sampled_from([b"hello", b"", b"hell", b"o"]), makes(OCTETS, "bytes")),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.booleans(),
)


def results(parser: type[Http1Connection], answer: Answer) -> list[object]:
    """Return all bytes and errors of a response."""
    http1 = parser(HeadLimits())
    http1.feed(answer.request)
    request = http1.take()
    assert isinstance(request, Request)
    if answer.closes:
        http1.close_after_response()
    response = Response(request.method, Response.HTTP)
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers()}
    out = [outcome(http1, response, start)]
    last = len(answer.pieces) - 1
    for at, (piece, kind) in enumerate(answer.pieces):
        body = {"type": "http.response.body", "body": OCTETS[kind](piece), "more_body": at < last}
        out.append(outcome(http1, response, body))
    out += [response.state, response.status, http1.keeps_alive]
    out.append(http1.refuse(RequestRefused(500, "no"), DEFAULTS))
    return out


def outcome(http1: Http1Connection, response: Response, message: dict[str, Any]) -> object:
    try:
        event = response.send(message)
        assert not isinstance(event, FileRequest)
        return b"" if event is None else http1.send(event, DEFAULTS)
    except (InvalidMessage, IllegalMessage) as error:
        return type(error), re.sub(r"0x[0-9a-f]+", "0x", str(error))


@given(ANSWERS)
@example(Answer(fields=(Field(b"vary", b"a", name_type="memoryview", value_type="memoryview"),)))
@example(Answer(fields=(Field(b"vary", b"a", value_type="memoryview"),)))
@example(Answer(fields=(Field(b"vary", b"a", value_type="writable memoryview"),)))
@example(Answer(fields=(Field(b"vary", b"a", value_type="subclass"),)))
@example(Answer(fields=(Field(b"vary", b"a", pair="iterator"),)))
@example(Answer(fields=(Field(b"vary", b"a"),), container="subclass"))
def test_a_response_does_not_depend_on_its_own_cached_head(answer: Answer) -> None:
    module._heads.clear()
    cold = results(PARSERS["builtin"], answer)
    assert results(PARSERS["builtin"], answer) == cold  # with the head that it cached itself
    results(PARSERS["builtin"], answer.plain)
    assert results(PARSERS["builtin"], answer) == cold  # with an equal head of plain types cached
    assert results(PARSERS["h11"], answer) == cold


@given(ANSWERS, st.lists(ANSWERS, max_size=3))
def test_a_response_does_not_depend_on_other_cached_heads(
    answer: Answer, others: list[Answer]
) -> None:
    module._heads.clear()
    cold = results(PARSERS["builtin"], answer)
    module._heads.clear()
    for other in others:
        results(PARSERS["builtin"], other)
    assert results(PARSERS["builtin"], answer) == cold


@pytest.mark.parametrize("kind", [kind for kind in OCTETS if kind not in ("bytes", "subclass")])
@pytest.mark.parametrize("part", ["name_type", "value_type"])
@pytest.mark.parametrize("parser", list(PARSERS.values()), ids=list(PARSERS))
def test_a_header_of_anything_but_bytes_is_refused_cold_and_warm(
    parser: type[Http1Connection], part: str, kind: str
) -> None:
    module._heads.clear()
    for known in (False, True):
        if known:
            results(parser, Answer(fields=(Field(b"vary", b"a"),)))
        refused = results(parser, Answer(fields=(Field(b"vary", b"a", **{part: kind}),)))[0]
        assert isinstance(refused, tuple)
        assert refused[0] is InvalidMessage


def test_a_cached_head_is_sent_with_the_current_default_headers() -> None:
    answers = []
    days: list[list[tuple[bytes, bytes]]] = [[(b"date", b"1")], [(b"date", b"2")], []]
    for defaults in days:
        http1 = PARSERS["builtin"](HeadLimits())
        http1.feed(Answer().request)
        http1.take()
        response = Response("GET", Response.HTTP)
        assert response.send({"type": "http.response.start", "status": 200}) is None
        event = response.send({"type": "http.response.body"})
        assert event is not None
        assert not isinstance(event, FileRequest)
        answers.append((defaults, http1.send(event, defaults)))
    for defaults, answer in answers:
        assert [line for line in answer.split(b"\r\n") if line.startswith(b"date")] == [
            b": ".join(header) for header in defaults
        ]
