"""The grammar of HTTP fields: tokens, lists, quoted strings, hosts, and the app's headers."""

import ipaddress
import string
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from wsgate.errors import InvalidMessage
from wsgate.fields import (
    combine_headers,
    count_lines,
    has_member,
    is_host,
    is_token,
    list_members,
    lower_name,
    normalize_headers,
    values_of,
)

# RFC 9110 section 5.6.2.
TCHAR = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
TOKENS = st.text(TCHAR, min_size=1, max_size=10)
OWS = st.text(" \t", max_size=3)
# RFC 3986 section 3.2.2: unreserved and sub-delims, and what is percent-encoded.
NAMES = st.lists(
    st.one_of(
        st.sampled_from(string.ascii_letters + string.digits + "-._~!$&'()*+,;="),
        st.integers(0, 255).map("%{:02x}".format),
        st.integers(0, 255).map("%{:02X}".format),
    ),
    min_size=1,
    max_size=20,
).map("".join)
HOSTS = st.one_of(
    NAMES, st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda ip: f"[{ip}]")
)


@settings(deadline=None)
@given(st.binary(max_size=8))
@example(b"")
def test_a_token_is_one_or_more_tchars(value: bytes) -> None:
    assert is_token(value) == (len(value) > 0 and all(chr(byte) in TCHAR for byte in value))


@settings(deadline=None)
@given(TOKENS)
def test_every_token_is_accepted(value: str) -> None:
    assert is_token(value.encode())


@pytest.mark.parametrize(
    "value", [b"websocket\n", b" a", b"a b", b'"a"', b"a/b", b"caf\xc3\xa9"], ids=repr
)
def test_anything_else_is_not_a_token(value: bytes) -> None:
    assert not is_token(value)


@pytest.mark.parametrize(
    "value",
    [
        b"example.com",
        b"EXAMPLE.com:8000",
        b"example.com:",  # RFC 3986 section 3.2.3: port = *DIGIT
        b"example.com:00080",
        b"example.com:65535",
        b"127.0.0.1:80",
        b"under_score",
        b"a%2Fb",
        b"a,b",
        b"[::1]",
        b"[::1]:8000",
        b"[::ffff:192.0.2.1]",
        b"[2001:DB8::1]",
    ],
    ids=repr,
)
def test_a_host_with_or_without_a_port(value: bytes) -> None:
    assert is_host(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b":80",
        b"a b",
        b"a\n",
        b"a\t",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a\\b",
        b'a"b',
        b"user@example.com",
        b"user:pass@example.com",
        b"example.com:http",
        b"example.com:-1",
        b"example.com:65536",
        b"example.com:000080",
        b"example.com:80:80",
        b"a, b",
        b"%",
        b"%2",
        b"%zz",
        b"caf\xc3\xa9",
        b"::1",
        b"[]",
        b"[::1",
        b"::1]",
        b"[1::2::3]",
        b"[127.0.0.1]",
        b"[12345::]",
        b"[::ffff:256.0.2.1]",
        b"[fe80::1%eth0]",
        b"[fe80::1%25eth0]",
        b"[::1]a",
        b"[example.com]",
    ],
    ids=repr,
)
def test_anything_else_is_not_a_host(value: bytes) -> None:
    assert not is_host(value)


@settings(deadline=None)
@given(HOSTS, st.none() | st.just("") | st.integers(0, 65535).map(str))
def test_every_host_and_port_of_the_grammar_is_accepted(host: str, port: str | None) -> None:
    assert is_host((host if port is None else f"{host}:{port}").encode())


@settings(deadline=None)
@given(HOSTS, st.integers(65536, 10**30))
def test_a_port_above_16_bits_is_not_a_host(host: str, port: int) -> None:
    assert not is_host(f"{host}:{port}".encode())


@settings(deadline=None)
@given(HOSTS, st.sampled_from('/?#@\\" <>^`{|}\r\n\t\x00\x7f'), st.integers(0, 40))
def test_a_delimiter_of_a_uri_is_not_part_of_a_host(host: str, char: str, at: int) -> None:
    assert not is_host((host[:at] + char + host[at:]).encode())


@settings(deadline=None)
@given(st.text(string.hexdigits + ":.", max_size=40))
@example("::")
@example("1:2:3:4:5:6:7:8:9")
def test_an_address_in_brackets_is_one_that_ipaddress_accepts(text: str) -> None:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        known = False
    else:
        known = True
    assert is_host(f"[{text}]".encode()) == known


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_is_host_never_raises(value: bytes) -> None:
    assert is_host(value) in (True, False)


def test_header_values_are_in_order() -> None:
    headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"ab", b"4")]
    assert values_of(headers, b"a") == [b"1", b"3"]
    assert values_of(headers, b"c") == []


def test_headers_of_one_name_are_combined_in_order() -> None:
    # RFC 9110 section 5.3.
    assert combine_headers([(b"a", b"1"), (b"ab", b"4")]) == {b"a": b"1", b"ab": b"4"}
    headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b""), (b"ab", b"4"), (b"a", b"3,5")]
    assert combine_headers(headers) == {b"a": b"1, , 3,5", b"b": b"2", b"ab": b"4"}
    assert combine_headers([]) == {}


@pytest.mark.parametrize("name", [b"Sec-WebSocket-Key", b"sec-websocket-key", b"SEC-WEBSOCKET-KEY"])
def test_a_common_name_is_one_object_in_each_common_spelling(name: bytes) -> None:
    lower = lower_name(name)
    assert lower == b"sec-websocket-key"
    assert (lower is lower_name(b"Sec-WebSocket-Key")) is (name != b"SEC-WEBSOCKET-KEY")


def test_a_lower_name_is_a_token() -> None:
    for byte in range(256):
        name = b"X-%c" % byte
        assert lower_name(name) == (name.lower() if is_token(name) else None)
    assert lower_name(b"") is None


def test_the_lines_of_a_head_are_counted() -> None:
    assert count_lines(b"GET / HTTP/1.1\r\nX: a\tb\xe9\r\n\r\n") == 3
    for byte in range(256):
        lines = 2 if byte == 0x09 or (byte >= 0x20 and byte != 0x7F) else 0
        assert count_lines(b"a%cb\r\n\r\n" % byte) == lines
    assert count_lines(b"a\n\rb") == count_lines(b"a\r\r\n\n") == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([b""], []),
        ([b"Upgrade"], [b"upgrade"]),
        ([b"keep-alive, Upgrade"], [b"keep-alive", b"upgrade"]),
        ([b"keep-alive", b"Upgrade"], [b"keep-alive", b"upgrade"]),
        ([b"a,b,\tc ,d"], [b"a", b"b", b"c", b"d"]),
        # RFC 9110 section 5.6.1.2: these are the section's own examples.
        ([b"foo ,bar,"], [b"foo", b"bar"]),
        ([b"foo , ,bar,charlie"], [b"foo", b"bar", b"charlie"]),
        ([b","], []),
        ([b",   ,"], []),
        ([b"websocket/13"], [b"websocket/13"]),
        ([b"a b"], [b"a b"]),
    ],
    ids=repr,
)
def test_a_field_is_one_list_over_all_its_lines(values: list[bytes], expected: list[bytes]) -> None:
    headers = [(b"other", b"x"), *((b"upgrade", value) for value in values)]
    fields = combine_headers(headers)
    assert list_members(fields.get(b"upgrade", b"").lower()) == expected
    assert all(has_member(fields, b"upgrade", member) for member in expected)
    assert not has_member(fields, b"upgrade", b"x")
    assert not has_member(fields, b"connection", b"upgrade")


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(OWS, st.just("") | TOKENS, OWS), max_size=5), max_size=4))
def test_any_list_gives_its_members(lines: list[list[tuple[str, str, str]]]) -> None:
    headers = [(b"name", ",".join(map("".join, line)).encode()) for line in lines]
    expected = [token.lower().encode() for line in lines for _, token, _ in line if token]
    assert list_members(combine_headers(headers).get(b"name", b"").lower()) == expected


def test_headers_of_the_app_get_lower_case_names_and_stripped_values() -> None:
    headers = [[b"X-Name", b" \tvalue "], (b"set-cookie", b"a"), (b"set-cookie", b"b")]
    assert normalize_headers(headers) == [
        (b"x-name", b"value"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
    ]


@pytest.mark.parametrize(
    "value",
    [b"", b"a b", b"a\tb", "café".encode(), "café".encode("latin-1"), b"\x80\xff", b'"'],
    ids=repr,
)
def test_a_value_may_hold_visible_and_higher_bytes(value: bytes) -> None:
    assert normalize_headers([(b"name", value)]) == [(b"name", value)]


@pytest.mark.parametrize("name", [b"", b" a", b"a ", b"a:", b"a b", b"a\r\n", b"\xe9"], ids=repr)
def test_the_app_may_not_send_a_malformed_name(name: bytes) -> None:
    with pytest.raises(InvalidMessage, match="not a valid header name"):
        normalize_headers([(name, b"value")])


@pytest.mark.parametrize(
    "char", [bytes([n]) for n in (*range(9), *range(10, 32), 127)], ids=lambda c: c.hex()
)
@pytest.mark.parametrize("template", [b"%b", b"a%b", b"%ba", b"a%bb"], ids=repr)
def test_the_app_may_not_send_a_control_character(template: bytes, char: bytes) -> None:
    with pytest.raises(InvalidMessage, match="control character"):
        normalize_headers([(b"name", template % char)])


@pytest.mark.parametrize(
    "header",
    [
        None,
        1,
        (),
        (b"a",),
        (b"a", b"b", b"c"),
        ("a", b"b"),
        (b"a", "b"),
        (b"a", None),
        (b"a", 1),
        (b"a", bytearray(b"b")),
        "ab",
        b"ab",
        {b"a": b"b"},
    ],
    ids=repr,
)
def test_a_header_that_is_not_a_pair_of_bytes_is_refused(header: Any) -> None:
    with pytest.raises(InvalidMessage, match="a header"):
        normalize_headers([(b"fine", b"yes"), header])


@pytest.mark.parametrize("headers", [None, 5, object()])
def test_headers_that_are_not_iterable_are_refused(headers: object) -> None:
    with pytest.raises(InvalidMessage, match=r"^headers are a list of pairs, not "):
        normalize_headers(headers)


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=3))
def test_each_accepted_header_is_exactly_one_line(headers: Iterable[tuple[bytes, bytes]]) -> None:
    try:
        clean = normalize_headers(headers)
    except InvalidMessage:
        return
    lines = b"".join(b"%b:%b\r\n" % header for header in clean)
    assert lines.splitlines() == [b"%b:%b" % header for header in clean]
    assert [name for name, _ in clean] == [name.lower() for name, _ in headers]
