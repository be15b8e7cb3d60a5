"""The opening handshake: which requests are one, which are accepted, and the 101."""

import base64
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.fields import combine_headers
from wsgate.http.events import UpgradeRequest
from wsgate.http.h1.builtin_parser import BuiltinHttp1Connection
from wsgate.http.request import HeadLimits, Request, asks_for_upgrade
from wsgate.types import Header
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.handshake import (
    PROTOCOL,
    Handshake,
    accept_headers,
    accept_key,
    check_handshake,
    check_subprotocol,
    lines_of,
    response,
)
from wsgate.ws.origins import Origins

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3, with the answer to it
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HEADERS = {
    b"host": b"example.com",
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-key": KEY,
    b"sec-websocket-version": b"13",
}


def asking(
    *more: Header, method: str = "GET", version: str = "1.1", without: bytes = b""
) -> Request:
    """Return a good handshake with headers added, or with one left out."""
    headers = [header for header in HEADERS.items() if header[0] != without]
    return Request(method, b"/chat", b"/chat", b"", version, headers + list(more))


def instead(name: bytes, *values: bytes) -> Request:
    """Return a good handshake with other lines of one name."""
    return asking(*((name, value) for value in values), without=name)


def is_asked_for(request: Request) -> bool:
    return asks_for_upgrade(request.version, combine_headers(request.headers), PROTOCOL)


def refusal_of(request: Request) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        check_handshake(request, DeflateSettings())
    return caught.value


# -- asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [b"websocket"],
        [b"WebSocket"],
        # RFC 9110 section 7.8: "The Upgrade header field [...] a list of protocol names in order of
        # descending preference": our version may be anywhere in it.
        [b"h2c, websocket"],
        [b"websocket,h2c"],
        [b"h2c", b"websocket"],
        [b",, websocket ,"],
    ],
    ids=repr,
)
def test_a_request_with_an_upgrade_to_websocket_is_a_handshake(values: list[bytes]) -> None:
    assert is_asked_for(instead(b"upgrade", *values))


@pytest.mark.parametrize(
    "values", [[], [b""], [b"h2c"], [b"websocket/13"], [b"websockets"], [b"web socket"]], ids=repr
)
def test_a_request_without_an_upgrade_to_websocket_is_not_a_handshake(values: list[bytes]) -> None:
    assert not is_asked_for(instead(b"upgrade", *values))


def test_an_http_1_0_request_is_not_a_handshake() -> None:
    # RFC 9110 section 7.8: "A server MUST ignore an Upgrade header field that is received in an
    # HTTP/1.0 request."
    assert not is_asked_for(asking(version="1.0"))


@pytest.mark.parametrize("name", [n for n in HEADERS if n != b"upgrade"], ids=repr)
def test_an_invalid_handshake_is_still_a_handshake(name: bytes) -> None:
    assert is_asked_for(asking(without=name))
    assert is_asked_for(asking(method="POST"))


# -- judging -------------------------------------------------------------------------------------


def test_a_valid_handshake_is_accepted() -> None:
    request = asking(
        (b"sec-websocket-protocol", b"chat, superchat"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
    )
    settings = DeflateSettings(context_takeover=True)
    assert check_handshake(request, settings) == Handshake(
        KEY, ["chat", "superchat"], Agreement(settings)
    )


def test_a_valid_handshake_may_have_no_optional_headers() -> None:
    assert check_handshake(asking(), DeflateSettings()) == Handshake(KEY, [], None)


def test_no_deflate_is_agreed_without_settings() -> None:
    request = asking((b"sec-websocket-extensions", b"permessage-deflate"))
    assert check_handshake(request, None).deflate is None


@pytest.mark.parametrize(
    "offer",
    [
        b"x-webkit-deflate-frame",
        b"permessage-deflate; x",
        b"permessage-deflate; server_max_window_bits=7",
        b'foo; a="b"',
        b",foo,",
    ],
    ids=repr,
)
def test_an_unacceptable_offer_is_declined_and_not_refused(offer: bytes) -> None:
    assert (
        check_handshake(asking((b"sec-websocket-extensions", offer)), DeflateSettings()).deflate
        is None
    )


@pytest.mark.parametrize("settings", [DeflateSettings(), None], ids=["deflate", "none"])
@pytest.mark.parametrize("offer", [b";;;", b'"', b"=", b"a\tb c", b"a;", b'a;b="c, d"'], ids=repr)
def test_a_malformed_offer_is_refused_with_deflate_and_without(
    offer: bytes, settings: DeflateSettings | None
) -> None:
    # RFC 6455 section 9.1.
    for lines in ([offer], [offer, offer], [b"permessage-deflate", offer]):
        request = asking(*((b"sec-websocket-extensions", line) for line in lines))
        with pytest.raises(RequestRefused, match="Sec-WebSocket-Extensions is malformed") as caught:
            check_handshake(request, settings)
        assert caught.value.status == 400


@pytest.mark.parametrize("settings", [DeflateSettings(), None], ids=["deflate", "none"])
@pytest.mark.parametrize("offer", [b"", b",", b" , "], ids=repr)
def test_a_header_without_any_offer_is_refused(
    offer: bytes, settings: DeflateSettings | None
) -> None:
    empty = (b"sec-websocket-extensions", offer)
    for headers in ([empty], [empty, empty]):
        with pytest.raises(RequestRefused, match="Sec-WebSocket-Extensions is empty") as caught:
            check_handshake(asking(*headers), settings)
        assert caught.value.status == 400
    # Lines are one list, and its empty members are ignored.
    assert (
        check_handshake(asking(empty, (b"sec-websocket-extensions", b"foo")), settings).key == KEY
    )


def test_the_offer_may_be_in_a_later_header() -> None:
    lines = [b"foo, permessage-deflate; x", b"permessage-deflate"]
    request = asking(*((b"sec-websocket-extensions", line) for line in lines))
    assert check_handshake(request, DeflateSettings()).deflate is not None


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "get"])
def test_a_handshake_must_be_a_get(method: str) -> None:
    # RFC 6455 section 4.1: "The method of the request MUST be GET".
    assert refusal_of(asking(method=method)).status == 400


@pytest.mark.parametrize(
    "values",
    [
        [b"Upgrade"],
        [b"upgrade"],
        [b"keep-alive, Upgrade"],  # as Firefox sends it
        [b"Upgrade,keep-alive"],
        [b"keep-alive", b"Upgrade"],
        [b",upgrade\t,"],
    ],
    ids=repr,
)
def test_connection_must_name_the_upgrade(values: list[bytes]) -> None:
    # RFC 6455 section 4.2.1: "A |Connection| header field that includes the token "Upgrade",
    # treated as an ASCII case-insensitive value."
    assert check_handshake(instead(b"connection", *values), None).key == KEY


@pytest.mark.parametrize(
    "values", [[], [b""], [b"keep-alive"], [b"upgraded"], [b"keep-alive Upgrade"]], ids=repr
)
def test_a_handshake_without_connection_upgrade_is_refused(values: list[bytes]) -> None:
    assert refusal_of(instead(b"connection", *values)).status == 400


@pytest.mark.parametrize(
    "header",
    [
        (b"content-length", b"1"),
        (b"content-length", b"10"),
        (b"content-length", b"0100"),
        (b"transfer-encoding", b"chunked"),
    ],
    ids=repr,
)
def test_a_handshake_with_a_body_is_refused(header: Header) -> None:
    assert refusal_of(asking(header)).status == 400


@pytest.mark.parametrize("length", [b"0", b"00"])
def test_a_content_length_of_zero_is_no_body(length: bytes) -> None:
    assert check_handshake(asking((b"content-length", length)), None).key == KEY


@pytest.mark.parametrize(
    "values",
    [[], [b""], [b"8"], [b"12"], [b"14"], [b"013"], [b"13, 8"], [b"13", b"13"], [b"13", b"8"]],
    ids=repr,
)
def test_another_version_is_refused_with_426_and_the_supported_version(values: list[bytes]) -> None:
    refusal = refusal_of(instead(b"sec-websocket-version", *values))
    assert refusal.status == 426
    # RFC 6455 section 4.4, and RFC 9110 section 15.5.22 for Upgrade.
    assert refusal.headers == (
        (b"sec-websocket-version", b"13"),
        (b"upgrade", b"websocket"),
        (b"connection", b"upgrade"),
    )


def test_the_version_is_checked_before_the_key() -> None:
    # The keys of hixie-76 were other headers: such a client gets 426 with the version.
    request = Request(
        "GET",
        b"/",
        b"/",
        b"",
        "1.1",
        [
            (b"host", b"a"),
            (b"upgrade", b"WebSocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-key1", b"18x 6]8vM;54 *(5:  {   U1]8  z [  8"),
        ],
    )
    assert refusal_of(request).status == 426


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [KEY, KEY],
        [KEY + b", " + KEY],
        [base64.b64encode(bytes(15))],
        [base64.b64encode(bytes(17))],
        [base64.b64encode(bytes(32))],
        [KEY[:-1]],
        [KEY[:-2]],
        [KEY + b"="],
        [KEY + b"===="],
        [b"=" + KEY],
        [b"dGhlIHNhbXBsZSBub25jZQ= ="],
        [b"dGhlIHNhbX!sZSBub25jZQ=="],
        [b"dGhl-HNhb_BsZSBub25jZQ=="],  # RFC 4648 section 5 is another alphabet
        [b"x" * 24],
        [b"x" * 10_000],
    ],
    ids=lambda values: b"|".join(values).decode()[:60],
)
def test_a_key_is_16_bytes_in_base64(values: list[bytes]) -> None:
    assert refusal_of(instead(b"sec-websocket-key", *values)).status == 400


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_any_16_bytes_are_a_valid_key(nonce: bytes) -> None:
    key = base64.b64encode(nonce)
    assert check_handshake(instead(b"sec-websocket-key", key), None).key == key


@settings(deadline=None)
@given(st.binary(max_size=30).filter(lambda nonce: len(nonce) != 16))
def test_any_other_number_of_bytes_is_an_invalid_key(nonce: bytes) -> None:
    assert refusal_of(instead(b"sec-websocket-key", base64.b64encode(nonce))).status == 400


# -- subprotocols --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "offered"),
    [
        ([b"chat"], ["chat"]),
        ([b"chat, superchat"], ["chat", "superchat"]),
        # RFC 6455 section 11.3.4: the field "MAY appear multiple times in an HTTP request (which is
        # logically the same as a single |Sec-WebSocket-Protocol| header field that contains all
        # values)".
        ([b"chat", b"superchat"], ["chat", "superchat"]),
        ([b"b,a"], ["b", "a"]),
        ([b"Chat,chat"], ["Chat", "chat"]),
        ([b",chat,\t,"], ["chat"]),
        ([b"", b"chat"], ["chat"]),
        ([b"v1.json+ws"], ["v1.json+ws"]),
    ],
    ids=repr,
)
def test_subprotocols_keep_the_order_of_the_offer(values: list[bytes], offered: list[str]) -> None:
    assert (
        check_handshake(instead(b"sec-websocket-protocol", *values), None).subprotocols == offered
    )


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b" , ,"],
        [b"", b""],
        [b"chat, chat"],
        [b"chat", b"chat"],
        [b"a b"],
        [b'"chat"'],
        [b"a/b"],
        [b"chat;q=1"],
        [b"("],
    ],
    ids=repr,
)
def test_subprotocols_must_be_unique_tokens_and_at_least_one(values: list[bytes]) -> None:
    # RFC 6455 section 4.1.
    assert refusal_of(instead(b"sec-websocket-protocol", *values)).status == 400


@pytest.mark.parametrize("subprotocol", [None, "a", "b"])
def test_the_app_may_choose_an_offered_subprotocol_or_none(subprotocol: str | None) -> None:
    assert check_subprotocol(Handshake(KEY, ["a", "b"], None), subprotocol) == subprotocol


@pytest.mark.parametrize("subprotocol", ["c", "A", "", "a, b", b"a", 1, ["a"]], ids=repr)
def test_the_app_may_not_choose_another_subprotocol(subprotocol: Any) -> None:
    with pytest.raises(InvalidMessage, match="was not offered"):
        check_subprotocol(Handshake(KEY, ["a", "b"], None), subprotocol)


# -- the answer ----------------------------------------------------------------------------------


def test_the_accept_key_matches_the_example_of_the_rfc() -> None:
    assert accept_key(KEY) == ACCEPT


def test_the_apps_headers_keep_their_order() -> None:
    headers = [(b"Set-Cookie", b"a"), (b"X-Name", b"b"), (b"Set-Cookie", b"c")]
    assert accept_headers(headers) == [
        (b"set-cookie", b"a"),
        (b"x-name", b"b"),
        (b"set-cookie", b"c"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Content-Length",
        b"Sec-WebSocket-Accept",
        b"Sec-WebSocket-Extensions",
        b"Sec-WebSocket-Protocol",
        b"sec-websocket-anything",
        b"Transfer-Encoding",
        b"UPGRADE",
    ],
)
def test_the_app_may_not_set_the_headers_of_the_handshake(name: bytes) -> None:
    with pytest.raises(InvalidMessage, match="is set by the server in an accept"):
        accept_headers([(b"x-name", b"a"), (name, b"b")])


@pytest.mark.parametrize("header", [(b"a b", b"c"), (b"a", b"b\r\nc: d"), (b"a",)], ids=repr)
def test_a_malformed_header_raises(header: tuple[bytes, ...]) -> None:
    with pytest.raises(InvalidMessage):
        accept_headers([header])


def test_a_101_without_optional_headers() -> None:
    assert response(Handshake(KEY, [], None), None, b"") == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n"
        b"\r\n"
    )


def test_a_101_with_all_headers() -> None:
    settings = DeflateSettings()
    agreed = Handshake(KEY, ["a", "chat"], Agreement(settings, server_no_context_takeover=True))
    headers = [(b"server", b"wsgate"), (b"set-cookie", b"caf\xc3\xa9")]
    assert response(agreed, "chat", lines_of(headers)) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n"
        b"Sec-WebSocket-Protocol: chat\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
        b"server: wsgate\r\n"
        b"set-cookie: caf\xc3\xa9\r\n"
        b"\r\n"
    )


ASCII = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@settings(deadline=None)
@given(
    st.sampled_from(["GET", "POST"]),
    st.lists(
        st.tuples(
            st.sampled_from([*HEADERS, b"sec-websocket-protocol", b"sec-websocket-extensions"]),
            ASCII.map(str.encode) | st.sampled_from([*HEADERS.values(), b"permessage-deflate"]),
        ),
        max_size=8,
    ),
)
@example("GET", list(HEADERS.items()))
def test_any_headers_give_a_handshake_or_a_refusal(method: str, headers: list[Header]) -> None:
    request = Request(method, b"/", b"/", b"", "1.1", headers)
    try:
        handshake = check_handshake(request, DeflateSettings())
    except RequestRefused:
        return
    subprotocol = next(iter(handshake.subprotocols), None)
    head = response(handshake, check_subprotocol(handshake, subprotocol), b"")
    assert head.isascii()
    assert head.find(b"\r\n\r\n") == len(head) - 4


# -- heads that were seen before -------------------------------------------------------------------


def known(key: bytes, *more: bytes, method: bytes = b"GET") -> Request:
    """Return the handshake that a driver reads, known from the second time on."""
    http1 = BuiltinHttp1Connection(HeadLimits(), PROTOCOL)
    lines = [b"Host: a", b"Upgrade: websocket", b"Connection: Upgrade", b"Origin: https://a", *more]
    lines += [b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + key]
    http1.feed(b"\r\n".join([method + b" / HTTP/1.1", *lines, b"\r\n"]))
    upgrade = http1.take()
    assert isinstance(upgrade, UpgradeRequest)
    return upgrade.request


OTHER_KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate"


def test_each_cached_handshake_has_its_own_key() -> None:
    settings = DeflateSettings()
    first, second = (check_handshake(known(key, OFFER), settings) for key in (KEY, OTHER_KEY))
    assert (first.key, second.key) == (KEY, OTHER_KEY)
    assert first.deflate is not None
    assert second.deflate is first.deflate
    first.subprotocols.append("a")
    assert check_handshake(known(KEY, OFFER), settings).subprotocols == []


def test_a_cached_check_is_used_only_with_the_same_settings() -> None:
    settings = DeflateSettings()
    for _ in range(2):
        assert check_handshake(known(KEY, OFFER), settings).deflate is not None
        assert check_handshake(known(KEY, OFFER), None).deflate is None
        assert check_handshake(known(KEY, OFFER), None, Origins(["https://a"])).key == KEY
        with pytest.raises(RequestRefused):
            check_handshake(known(KEY, OFFER), None, Origins(["https://b"]))


def test_a_cached_check_is_used_only_for_a_get() -> None:
    check_handshake(known(KEY), None)
    with pytest.raises(RequestRefused):
        check_handshake(known(KEY, method=b"POST"), None)


@pytest.mark.parametrize("key", [b"", b"dGhl", KEY + b" a", KEY[:-1]])
def test_a_cached_head_with_an_invalid_key_is_refused(key: bytes) -> None:
    for _ in range(2):
        check_handshake(known(KEY), None)
        with pytest.raises(RequestRefused):
            check_handshake(known(key), None)


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 5",
        b"Sec-WebSocket-Key: " + OTHER_KEY,
        b"Sec-WebSocket-Extensions: permessage-deflate;",
        b"Sec-WebSocket-Extensions:",
        b"Sec-WebSocket-Protocol: ,",
    ],
)
def test_an_invalid_head_similar_to_a_cached_one_is_refused(line: bytes) -> None:
    for _ in range(2):
        check_handshake(known(KEY), None)
        for deflate in (None, DeflateSettings()):
            with pytest.raises(RequestRefused):
                check_handshake(known(KEY, line), deflate)
