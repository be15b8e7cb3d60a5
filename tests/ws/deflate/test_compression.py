"""What zlib does with messages, without a frame around them; test_deflate.py has what inflates."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from tests.frames import inflated
from wsgate.ws.deflate import compression
from wsgate.ws.deflate.compression import Compressors

# -- the shared compressors --------------------------------------------------------------------


def test_a_compressed_message_lacks_the_end_of_the_flush() -> None:
    payload = Compressors(6).compress(b"Hello" * 100, 15)
    assert not payload.endswith(b"\0\0\xff\xff")
    assert inflated(payload) == b"Hello" * 100


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(9, 15), st.integers(0, 2), st.booleans()), max_size=12))
def test_no_message_refers_to_another(uses: list[tuple[int, int, bool]]) -> None:
    texts = [b"", b"the same words " * 30, random.Random(1).randbytes(3_000)]
    compressors = Compressors(6)
    for bits, which, twice in uses:
        data = texts[which] * (1 + twice)
        assert inflated(compressors.compress(data, bits), bits=bits) == data


def test_the_same_message_has_the_same_compressed_bytes() -> None:
    # One compressed frame can serve every connection with that window.
    compressors = Compressors(6)
    texts = [b"one " * 100, b"two " * 3_000, b"one " * 100]
    first, _, again = [compressors.compress(text, 12) for text in texts]
    assert first == again


@pytest.mark.parametrize("level", range(1, 10))
def test_every_level_compresses(level: int) -> None:
    compressors, data = Compressors(level), b"level " * 1_000
    for _ in range(3):
        payload = compressors.compress(data, 9)
        assert len(payload) < 300
        assert inflated(payload, bits=9) == data


@pytest.mark.parametrize(("bits", "window"), [(8, -9), (9, -9), (10, -10), (15, -15)])
def test_a_window_of_eight_bits_is_inflated_with_nine(bits: int, window: int) -> None:
    assert compression.raw_window(bits) == window
