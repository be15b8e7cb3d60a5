import pytest
from hypothesis import given, strategies as st

from wsgate.static.conditions import Outcome, Part, outcome, requested_part

TAG = b'"5-a"'
MODIFIED = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT
SEND, NOT_MODIFIED, FAILED = Outcome
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = b"Sun, 06 Nov 1994 08:49:36 GMT"
LATER = b"Sun, 06 Nov 1994 08:49:38 GMT"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, SEND),
        ({"if-none-match": TAG}, NOT_MODIFIED),
        ({"if-none-match": b"W/" + TAG}, NOT_MODIFIED),
        ({"if-none-match": b'"x", ' + TAG + b', "y"'}, NOT_MODIFIED),
        ({"if-none-match": b'"x,",' + TAG}, NOT_MODIFIED),
        ({"if-none-match": b"*"}, NOT_MODIFIED),
        ({"if-none-match": b'"5-b"'}, SEND),
        ({"if-none-match": b"5-a"}, SEND),
        ({"if-none-match": b""}, SEND),
        # "A recipient MUST ignore If-Modified-Since if the request contains an If-None-Match"
        ({"if-none-match": b'"old"', "if-modified-since": DATE}, SEND),
        ({"if-none-match": TAG, "if-modified-since": EARLIER}, NOT_MODIFIED),
        ({"if-modified-since": DATE}, NOT_MODIFIED),
        ({"if-modified-since": LATER}, NOT_MODIFIED),
        ({"if-modified-since": EARLIER}, SEND),
        ({"if-modified-since": b"Sunday, 06-Nov-94 08:49:37 GMT"}, NOT_MODIFIED),
        ({"if-modified-since": b"Sun Nov  6 08:49:37 1994"}, NOT_MODIFIED),
        ({"if-modified-since": b"yesterday"}, SEND),
        ({"if-modified-since": b"Sun, 99 Foo 1994 99:99:99 GMT"}, SEND),
        ({"if-modified-since": DATE + b", " + DATE}, SEND),
        ({"if-modified-since": b"Sun, 06 Nov 99999 08:49:37 GMT"}, SEND),
        ({"if-modified-since": b"9" * 1_000}, SEND),
        ({"if-modified-since": b""}, SEND),
        ({"if-match": TAG}, SEND),
        ({"if-match": b"*"}, SEND),
        ({"if-match": b'"x"'}, FAILED),
        ({"if-match": b"W/" + TAG}, FAILED),
        ({"if-match": TAG, "if-unmodified-since": EARLIER}, SEND),
        ({"if-match": TAG, "if-none-match": TAG}, NOT_MODIFIED),
        ({"if-unmodified-since": DATE}, SEND),
        ({"if-unmodified-since": EARLIER}, FAILED),
        ({"if-unmodified-since": b"nonsense"}, SEND),
    ],
)
def test_preconditions(fields: dict[str, bytes], expected: Outcome) -> None:
    named = {name.encode(): value for name, value in fields.items()}
    assert outcome(named, TAG, MODIFIED) is expected


@given(st.binary(max_size=80), st.text(max_size=40))
def test_any_bytes_are_a_condition(value: bytes, text: str) -> None:
    for name in (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"):
        outcome({name: value}, TAG, MODIFIED)
        outcome({name: text.encode()}, TAG, MODIFIED)


@given(st.integers(-(10**12), 10**12).map(lambda n: b"Sun, %d Nov %d 08:49:%d GMT" % (n, n, n)))
def test_any_number_is_a_date_or_none(value: bytes) -> None:
    outcome({b"if-modified-since": value}, TAG, MODIFIED)


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        (b"bytes=0-0", 10, Part(0, 1)),
        (b"bytes=0-9", 10, Part(0, 10)),
        (b"bytes=2-5", 10, Part(2, 4)),
        (b"BYTES=2-5", 10, Part(2, 4)),
        (b"bytes=5-", 10, Part(5, 5)),
        (b"bytes=5-100", 10, Part(5, 5)),
        (b"bytes=-3", 10, Part(7, 3)),
        (b"bytes=-30", 10, Part(0, 10)),
        (b"bytes=0-1,", 10, Part(0, 2)),
        (b"bytes=0-" + b"9" * 5_000, 10, Part(0, 10)),
        (b"bytes=00000000000000000000001-2", 10, Part(1, 2)),
        # what cannot be satisfied
        (b"bytes=10-", 10, Part(10, 0)),
        (b"bytes=10-20", 10, Part(10, 0)),
        (b"bytes=-0", 10, Part(10, 0)),
        (b"bytes=" + b"9" * 5_000 + b"-", 10, Part(10**18, 0)),
        (b"bytes=0-", 0, Part(0, 0)),
        (b"bytes=-0", 0, Part(0, 0)),
        # what is ignored
        (b"bytes=-5", 0, None),
        (b"bytes=5-4", 10, None),
        (b"bytes=0-1,3-4", 10, None),
        (b"bytes=0-1, bytes=3-4", 10, None),
        (b"bytes=-", 10, None),
        (b"bytes=", 10, None),
        (b"bytes=a-b", 10, None),
        (b"bytes= 0-1", 10, None),
        (b"bytes=0 - 1", 10, None),
        (b"bytes=+1-2", 10, None),
        (b"bytes=--2", 10, None),
        (b"items=0-1", 10, None),
        (b"", 10, None),
        ("bytes=\u0661-\u0662".encode(), 10, None),
    ],
)
def test_ranges(value: bytes, size: int, expected: Part | None) -> None:
    assert requested_part({b"range": value}, TAG, size) == expected


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (TAG, True),
        (b" " + TAG, True),
        (b"W/" + TAG, False),
        (b'"old"', False),
        (b"*", False),
        (DATE, False),
        (b"", False),
        (TAG + b", " + TAG, False),
    ],
)
def test_a_range_applies_only_to_the_file_that_the_client_has(
    if_range: bytes, applies: bool
) -> None:
    part = requested_part({b"range": b"bytes=0-1", b"if-range": if_range}, TAG, 10)
    assert (part is not None) is applies


def test_without_a_range_the_whole_file_is_sent() -> None:
    assert requested_part({b"if-range": TAG}, TAG, 10) is None


@given(st.binary(max_size=20), st.integers(0, 20), st.integers(0, 30), st.integers(0, 30))
def test_a_part_is_within_the_file(noise: bytes, size: int, first: int, last: int) -> None:
    for value in (b"bytes=%d-%d" % (first, last), b"bytes=-%d" % last, b"bytes=" + noise):
        part = requested_part({b"range": value}, TAG, size)
        assert part is None or (
            part.size >= 0 and (not part.size or part.start + part.size <= size)
        )
