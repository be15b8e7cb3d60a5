"""The header reader and writer, and the compiled reader as its twin."""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.frames import BINARY, CONT, PING, RSV1, TEXT, frame
from wsgate.ws.frames import messages as plain
from wsgate.ws.frames.header import (
    MAX_HEADER_SIZE,
    FrameHeader,
    read_header,
    write_header,
)

compiled: ModuleType | None
try:
    from wsgate.ws.frames import _messages as compiled
except ImportError:
    compiled = None

LENGTHS = [0, 1, 125, 126, 127, 65_535, 65_536, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def octets_of_length(length: int) -> int:
    return 0 if length < 126 else 2 if length < 65_536 else 8


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("mask", [None, b"abcd"])
def test_every_field_of_a_header_is_read(length: int, mask: bytes | None) -> None:
    data = frame(CONT, fin=False, rsv=RSV1, declared=length, mask=mask)
    expected = FrameHeader(0x40, mask is not None, length, len(data), is_minimal=True)
    assert read_header(data, 0) == expected
    assert read_header(b"???" + data + b"payload", 3) == expected._replace(
        payload_start=len(data) + 3
    )
    assert len(data) <= MAX_HEADER_SIZE


@pytest.mark.parametrize("length", LENGTHS)
def test_a_header_is_incomplete_until_its_length_is_there(length: int) -> None:
    data = frame(TEXT, declared=length)
    end = 2 + octets_of_length(length)
    assert [read_header(data[:at], 0) for at in range(end)] == [None] * end
    # The masking key may still be missing.
    for at in range(end, len(data)):
        assert read_header(data[:at], 0) == read_header(data, 0)


@pytest.mark.parametrize(
    ("length", "octets", "is_minimal"),
    [
        (0, 0, True),
        (125, 0, True),
        (0, 2, False),
        (125, 2, False),
        (126, 2, True),
        (65_535, 2, True),
        (0, 8, False),
        (126, 8, False),
        (65_535, 8, False),
        (65_536, 8, True),
    ],
)
def test_a_length_is_minimal_in_the_fewest_octets(
    length: int, octets: int, is_minimal: bool
) -> None:
    header = read_header(frame(BINARY, declared=length, length_octets=octets), 0)
    assert header is not None
    assert (header.length, header.is_minimal) == (length, is_minimal)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_header_is_written_unmasked_and_minimal(length: int) -> None:
    header = write_header(0x82, length)
    assert header == frame(BINARY, declared=length, mask=None)
    assert read_header(header, 0) == FrameHeader(0x82, False, length, len(header), True)


HEADERS = st.builds(
    frame,
    st.sampled_from([TEXT, BINARY, TEXT, BINARY, CONT, PING, 3]),
    st.binary(max_size=3) | st.sampled_from([b"x" * 125, b"x" * 126, b"x" * 65_536]),
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, RSV1, 2]),
    mask=st.sampled_from([b"\0\0\0\0", b"\1\2\3\4", None]),
    declared=st.none() | st.sampled_from(LENGTHS),
    length_octets=st.sampled_from([None, None, None, 2, 8]),
)


@pytest.mark.skipif(compiled is None, reason="_messages is not built")
@settings(max_examples=300)
@given(HEADERS | st.binary(max_size=16), st.integers(0, 20), st.integers(0, 1 << 20))
def test_the_compiled_reader_gives_the_same_answers(data: bytes, start: int, cut: int) -> None:
    twin: Any = compiled
    size = 1 << 62
    data = data[: cut % (len(data) + 1)] if cut % 2 else data
    header = read_header(data, 0)
    # The compiled reader wants the masking key, too, and takes only what the fast codec reads.
    is_complete = (
        header is not None
        and header.is_masked
        and header.is_minimal
        and len(data) - header.payload_start == header.length
    )
    compressed = twin.read_compressed(data, size)
    assert (compressed is not None) == (is_complete and data[0] in (0xC1, 0xC2))
    if not is_complete or data[0] == 0x82:
        assert (twin.read_message(data, size) is not None) == (is_complete and data[0] == 0x82)
    stream = b"?" * start + data
    assert twin.read_messages(stream, start, 9, size) == plain.read_messages(stream, start, 9, size)
