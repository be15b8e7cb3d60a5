import pytest

from wsgate.observe.trace_context import trace_ids

TRACE = b"0af7651916cd43dd8448eb211c80319c"
SPAN = b"b7ad6b7169203331"
IDS = (TRACE.decode(), SPAN.decode())


def ids_of(*values: bytes) -> tuple[str, str] | None:
    return trace_ids([(b"host", b"a"), *((b"traceparent", value) for value in values)])


@pytest.mark.parametrize(
    "value",
    [
        b"00-%s-%s-01",
        b"00-%s-%s-00",
        b"00-%s-%s-ff",
        b"cc-%s-%s-01",
        b"cc-%s-%s-01-what-the-future-will-be-like",
        b"cc-%s-%s-01-",
    ],
)
def test_ids_of_a_valid_header(value: bytes) -> None:
    assert ids_of(value % (TRACE, SPAN)) == IDS


# Those of the W3C's own test suite.
@pytest.mark.parametrize(
    "value",
    [
        b"00-%s-%s-01." % (TRACE, SPAN),
        b"00-%s-%s-01-what-the-future-will-be-like" % (TRACE, SPAN),
        b"00-%s-%s-01-" % (TRACE, SPAN),
        b"cc-%s-%s-01.what-the-future-will-be-like" % (TRACE, SPAN),
        b"ff-%s-%s-01" % (TRACE, SPAN),
        b".0-%s-%s-01" % (TRACE, SPAN),
        b"0-%s-%s-01" % (TRACE, SPAN),
        b"000-%s-%s-01" % (TRACE, SPAN),
        b"00-%s-%s-01" % (b"0" * 32, SPAN),
        b"00-%s-%s-01" % (TRACE, b"0" * 16),
        b"00-%s-%s-01" % (TRACE.upper(), SPAN),
        b"00-%s-%s-01" % (TRACE[1:], SPAN),
        b"00-%s-%s-01" % (TRACE, SPAN + b"0"),
        b"00-%s-%s-0" % (TRACE, SPAN),
        b"00-%s-%s-.1" % (TRACE, SPAN),
        b"00-%s-%s" % (TRACE, SPAN),
        b"00-%s-%s-01\n" % (TRACE, SPAN),
        b"",
    ],
)
def test_an_invalid_header_has_none(value: bytes) -> None:
    assert ids_of(value) is None


def test_several_headers_are_none() -> None:
    value = b"00-%s-%s-01" % (TRACE, SPAN)
    assert ids_of(value, value) is None
    assert ids_of() is None
