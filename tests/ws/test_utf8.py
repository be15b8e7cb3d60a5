"""The check for the beginning of a surrogate."""

import pytest

from wsgate.ws.utf8 import ends_in_surrogate


@pytest.mark.parametrize("second", range(256))
def test_a_surrogate_begins_with_ed_and_a0_to_bf(second: int) -> None:
    for before in (b"", b"text"):
        assert ends_in_surrogate(before + bytes([0xED, second])) is (second >= 0xA0)
        assert not ends_in_surrogate(before + bytes([0xEC, second]))


@pytest.mark.parametrize("data", [b"", b"\xed", b"\xa0", b"\xed\xa0\x80", "\ud7ff".encode()])
def test_other_ends_are_not_a_surrogate(data: bytes) -> None:
    assert not ends_in_surrogate(data)
