"""Where the splitter ends the pieces of a stream, and the message."""

import pytest
from hypothesis import given, strategies as st

from tests.frames import BINARY, CONT, PING, TEXT, fragments, frame
from wsgate.ws.frames.splitter import FrameSplitter

PING_FRAME = frame(PING, b"between")


def split(stream: bytes, step: int) -> tuple[list[bytes], bytes]:
    """Return the pieces of the first message in `stream`, and the rest."""
    splitter, pieces, position = FrameSplitter(), [], 0
    while position < len(stream) and not splitter.is_message_complete:
        piece = splitter.next_piece(stream, position, min(len(stream), position + step))
        assert piece
        pieces.append(piece)
        position += len(piece)
    return pieces, stream[position:]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("mask", [None, b"abcd"])
def test_a_message_ends_with_its_final_fragment(length: int, mask: bytes | None) -> None:
    one = frame(BINARY, b"x" * length, fin=False, mask=mask)
    two = frame(CONT, b"y" * length, mask=mask)
    following = frame(TEXT, "after")
    for step in (1, 3, 1_000, 1 << 20):
        pieces, rest = split(one + PING_FRAME + two + following, step)
        assert b"".join(pieces) == one + PING_FRAME + two
        assert rest == following


def test_a_piece_belongs_to_one_frame() -> None:
    frames = [*fragments(TEXT, [b"a", b"", b"c"]), frame(TEXT, "after")]
    frames.insert(1, PING_FRAME)
    assert split(b"".join(frames), 1 << 20) == (frames[:4], frames[4])


def test_a_control_frame_before_a_message_is_the_end() -> None:
    assert split(PING_FRAME + frame(TEXT, "after"), 99) == ([PING_FRAME], frame(TEXT, "after"))


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.integers(1, 40))
def test_the_size_of_the_pieces_makes_no_difference(payloads: list[bytes], step: int) -> None:
    message = b"".join(fragments(BINARY, payloads))
    pieces, rest = split(message + b"\x81", step)
    assert (b"".join(pieces), rest) == (message, b"\x81")
