"""The buffer of a message's pieces, and a frame of which the end is still to come."""

import pytest
from hypothesis import given, strategies as st

from tests.frames import masked
from wsgate.ws.frames.fragments import MessageBuffer, PartialFrame
from wsgate.ws.frames.messages import unmask

MASK = b"\1\2\3\4"


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 1_024, 1_500])
def test_a_buffer_joins_its_pieces_in_order(count: int) -> None:
    texts, binary = MessageBuffer(), MessageBuffer()
    for number in range(count):
        texts.append(str(number))
        binary.append(bytearray([number % 256]))
    assert texts.whole() == "".join(map(str, range(count)))
    assert binary.whole() == bytes(number % 256 for number in range(count))


@given(st.text(max_size=40) | st.binary(max_size=40), st.lists(st.integers(1, 9), max_size=40))
def test_a_partial_frame_is_unmasked_and_decoded_in_any_pieces(
    payload: str | bytes, sizes: list[int]
) -> None:
    data = payload.encode() if isinstance(payload, str) else payload
    sent = masked(data, MASK)
    partial = PartialFrame(isinstance(payload, str), MASK, len(data))
    for size in [*sizes, len(data)]:
        piece, sent = sent[:size], sent[size:]
        assert partial.append(unmask(piece, partial.mask))
        assert partial.remaining == len(sent)
    assert partial.message() == payload


@pytest.mark.parametrize("data", [b"a\xff", b"\xed\xa0", b"\xc3("])
def test_a_partial_text_reports_invalid_utf8_at_once(data: bytes) -> None:
    partial = PartialFrame(True, MASK, 1_000)
    assert partial.append(data[:1])
    assert not partial.append(data[1:])


def test_a_partial_text_may_not_end_within_a_character() -> None:
    partial = PartialFrame(True, MASK, 2)
    assert partial.append(b"a")
    assert not partial.append(b"\xc3")
