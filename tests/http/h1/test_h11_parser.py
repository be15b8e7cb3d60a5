"""What h11 says of a request that it refuses, without the bytes of it."""

import pytest

from wsgate.http.h1.h11_parser import _remove_bytes

# h11's own texts, as its sources format them.
WHOLE = [
    "Only Transfer-Encoding: chunked is supported",
    "Missing mandatory Host: header",
    "Content-Length and trailers don't mix",
    "can't handle event type Data when role=CLIENT and state=DONE",
    "peer closed connection without sending complete message body (received 1 bytes, expected 2)",
]
QUOTING = {
    "illegal header line: {!r}": "illegal header line",
    "illegal request line: {!r}": "illegal request line",
    "illegal chunk header: {!r}": "illegal chunk header",
    "malformed chunk footer: {!r} (expected b'\\r\\n')": "malformed chunk footer",
    "Illegal header name {!r}": "Illegal header name",
    "Illegal header value {!r}": "Illegal header value",
}
BYTES = [b"", b"secret", b"it's secret", b'"secret"', b"a: b 'secret' \"", b"\r\nsecret\xff"]


@pytest.mark.parametrize("text", WHOLE)
def test_a_text_without_quoted_bytes_is_unchanged(text: str) -> None:
    assert _remove_bytes(text) == text


@pytest.mark.parametrize("value", [*BYTES, *map(bytearray, BYTES)], ids=repr)
@pytest.mark.parametrize(("text", "left"), QUOTING.items())
def test_quoted_bytes_are_removed(text: str, left: str, value: bytes) -> None:
    assert _remove_bytes(text.format(value)) == left
