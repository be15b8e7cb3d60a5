"""Checks for any bytes in any pieces, shared by the fuzz targets and the tests.

The first byte of an input chooses the settings, the second is the size of the pieces, the rest is
data from a client.
"""

import re
from collections.abc import Iterator

from tests.drivers import send_end, send_start
from tests.plain import plain_codec
from wsgate.errors import ClientDisconnected, RequestRefused
from wsgate.http.events import ClientClosed, RequestBody, RequestEnd, RequestEvent, UpgradeRequest
from wsgate.http.h1.builtin_parser import BuiltinHttp1Connection
from wsgate.http.h1.connection import Http1Connection
from wsgate.http.h1.h11_parser import H11Http1Connection
from wsgate.http.request import HeadLimits, Request
from wsgate.ws.codecs import fast_codec
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.deflate.wsproto_extension import MessageExtension
from wsgate.ws.encoded import Encoded
from wsgate.ws.frames.codec import SLICE, Fail, FrameCodec, Item, PeerClose
from wsgate.ws.frames.wsproto_codec import WsprotoCodec
from wsgate.ws.limits import MessageLimits
from wsgate.ws.session import Session, State

LIMITS = MessageLimits(size=4_096, fragments=64)
HEAD = HeadLimits(size=2_048, target=512, headers=20)
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_COMPRESSORS = Compressors(1)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Yield the data in pieces of a size, whole for 0."""
    step = size or len(data) or 1
    for start in range(0, len(data), step):
        yield data[start : start + step]


# -- HTTP ----------------------------------------------------------------------------------------


Events = list[RequestEvent | int | bytes]


def http_events(http1: Http1Connection, data: bytes, size: int) -> Events:
    """Return the events of a connection's bytes, with joined bodies, and its responses.

    A refusal is its status.
    """
    events: Events = []
    try:
        for piece in pieces(data, size):
            http1.feed(piece)
            _serve(http1, events)
        http1.feed_eof()
        _serve(http1, events)
    except RequestRefused as refused:
        events += [refused.status, http1.refuse(refused, [])]
    return events


def _serve(http1: Http1Connection, events: Events) -> None:
    """Take the events there are, and answer each request at its end."""
    while (event := http1.take()) is not None:
        _collect(events, event)
        if isinstance(event, ClientClosed | UpgradeRequest):
            return
        if isinstance(event, RequestEnd):
            events.append(send_start(http1, 200, [(b"content-length", b"0")]) + send_end(http1))
            http1.next_request()


def _collect(events: Events, event: RequestEvent) -> None:
    last = events[-1] if events else None
    if isinstance(event, RequestBody) and isinstance(last, RequestBody):
        events[-1] = RequestBody(last.data + event.data)
    elif not isinstance(event, ClientClosed) or not isinstance(last, ClientClosed):
        events.append(event)


def check_http(data: bytes) -> None:
    """Check that both parsers agree, and that each request is valid HTTP/1.1."""
    size, data = data[1] if len(data) > 1 else 0, data[2:]
    events = http_events(H11Http1Connection(HEAD, b"websocket"), data, size)
    assert http_events(BuiltinHttp1Connection(HEAD, b"websocket"), data, size) == events
    for event in events:
        if isinstance(event, UpgradeRequest):
            _check_request(event.request)
        elif isinstance(event, Request):
            _check_request(event)
        elif isinstance(event, int):
            assert event in (400, 414, 431, 501, 505), event
    whole = http_events(H11Http1Connection(HEAD, b"websocket"), data, 0)
    assert http_events(BuiltinHttp1Connection(HEAD, b"websocket"), data, 0) == whole
    if not any(isinstance(event, UpgradeRequest) for event in events):
        # Which fault is found first may depend on the pieces. What is served before it does not.
        assert _served(events) == _served(whole), (events, whole)


def _served(events: Events) -> list[RequestEvent | bool]:
    served = [event for event in events if not isinstance(event, bytes)]
    return [True if isinstance(event, int) else event for event in served]


def _check_request(request: Request) -> None:
    names = [name for name, _ in request.headers]
    assert _TOKEN.fullmatch(request.method)
    assert all(_TOKEN.fullmatch(name.decode("ascii")) for name in names)
    assert not any(re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value) for _, value in request.headers)
    assert names.count(b"host") == 1 or (request.version == "1.0" and b"host" not in names)
    assert not (b"content-length" in names and b"transfer-encoding" in names)
    assert request.version == "1.1" or b"transfer-encoding" not in names
    assert request.raw_path.startswith(b"/") or request.raw_path == b"*"


# -- frames --------------------------------------------------------------------------------------


def agreement(options: int) -> Agreement | None:
    """Return the agreement that the first byte of an input chooses."""
    if options & 1:
        return None
    return Agreement(
        DeflateSettings(threshold=8),
        server_no_context_takeover=not options & 2,
        client_no_context_takeover=not options & 4,
    )


def codecs(options: int, slice_size: int = SLICE) -> list[FrameCodec]:
    """Return all codecs, which must read the same, with the agreement of these options."""
    agreed = agreement(options)
    return [
        WsprotoCodec(MessageExtension(LIMITS, agreed, _COMPRESSORS), slice_size),
        fast_codec(LIMITS, agreed, _COMPRESSORS),
        plain_codec(LIMITS, agreed, _COMPRESSORS),
    ]


def codec(options: int, slice_size: int = SLICE) -> FrameCodec:
    """Return the codec that the first byte of an input chooses."""
    return codecs(options, slice_size)[options // 8 % 3]


def items(reader: FrameCodec, data: bytes, size: int) -> list[Item]:
    """Return all items that a codec reads in the bytes."""
    found: list[Item] = []
    for piece in pieces(data, size):
        reader.feed(piece)
        while reader.pending:
            found += reader.take(4)
    return found


def check_codec(data: bytes) -> None:
    """Check that the codecs keep their contract, and read the same."""
    options, size, data = (data + b"\0\0")[0], (data + b"\0\0")[1], data[2:]
    found = items(codecs(options)[0], data, size)
    endings = [i for i, item in enumerate(found) if isinstance(item, Fail | PeerClose)]
    assert endings in ([], [len(found) - 1]), found
    for item in found:
        if isinstance(item, str):
            assert len(item.encode()) <= LIMITS.size
        elif isinstance(item, bytes):
            assert len(item) <= LIMITS.size
        elif isinstance(item, Fail):
            assert item.code in (1002, 1007, 1009)
    for pieces_of in (size, 0):
        for reader in codecs(options):
            assert items(reader, data, pieces_of) == found, reader


# -- sessions ------------------------------------------------------------------------------------


def check_session(data: bytes) -> None:
    """Check that a session follows its table, whatever both sides do."""
    options, rest = (data + b"\0")[0], data[1:]
    session = Session(codec(options, slice_size=16))
    while rest:
        step, rest = rest[0], rest[1:]
        if step < 160:  # noqa: PLR2004  # most steps are data from the peer
            session.feed(rest[: step % 32])
            rest = rest[step % 32 :]
        _step(session, step)
        assert session.pending <= (session.state in (State.OPEN, State.CLOSING))
        assert session.pending <= session.has_work
        assert not (session.is_idle and session.pending)
        assert (session.closed_by is None) is (session.state is State.OPEN)
    session.feed_eof()
    while session.pending:
        session.take(16)
    assert session.state in (State.CLOSED, State.FAILING)


def _step(session: Session, step: int) -> None:
    before = session.state
    if step % 5 == 0:
        try:
            payload: str | bytes = "text" if step % 2 else b"bytes"
            if step % 3:
                session.write_message(payload)
            else:
                session.write_encoded(Encoded(payload))
        except ClientDisconnected:
            assert before in (State.CLOSING, State.CLOSED)
    elif step % 5 == 1:
        frame = session.close(1000, "")
        assert bool(frame) is (before in (State.OPEN, State.FAILING))
        assert session.state in (State.CLOSING, State.CLOSED)
    else:
        taken = session.take(step % 5)
        assert len(taken) <= step % 5
        assert not taken or before is State.OPEN
        session.take_replies()
