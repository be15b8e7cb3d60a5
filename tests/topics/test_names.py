"""What may be the name of a topic, an id, a member and a message."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wsgate.topics.names import check_data, check_id, check_member, check_name

CHECKS = pytest.mark.parametrize("check", [check_name, check_id, check_member])
Check = Callable[[Any], None]


@CHECKS
@pytest.mark.parametrize(
    "text",
    [
        "a",
        " ",
        "\0",
        "\n",
        "room:*",
        "[a-b]?",
        "../..",
        "x" * 255,
        "\u00fc" * 127,
        "\U0001f600" * 63,
    ],
)
def test_any_text_of_1_to_255_bytes_is_allowed(check: Check, text: str) -> None:
    check(text)


@CHECKS
def test_an_empty_text_is_refused(check: Check) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        check("")


@CHECKS
@pytest.mark.parametrize("text", ["x" * 256, "\u00fc" * 128, "\U0001f600" * 64])
def test_more_than_255_bytes_are_refused(check: Check, text: str) -> None:
    with pytest.raises(ValueError, match="must not be longer than 255 bytes"):
        check(text)


@CHECKS
def test_a_lone_surrogate_is_refused(check: Check) -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        check("room \ud800")


@CHECKS
@pytest.mark.parametrize("value", [b"room", 42, None, ["room"], True])
def test_anything_else_is_a_wrong_type(check: Check, value: object) -> None:
    with pytest.raises(TypeError, match=f"must be a str, not {type(value).__name__}"):
        check(value)


@pytest.mark.parametrize("data", ["", b"", "text", b"\xff", "\u00fc\U0001f600", "x" * 100_000])
def test_a_message_is_any_text_or_bytes(data: object) -> None:
    check_data(data)


@pytest.mark.parametrize("data", [bytearray(b"a"), memoryview(b"a"), 1, None, {"a": 1}])
def test_a_message_of_another_type_is_refused(data: object) -> None:
    with pytest.raises(TypeError, match="a message must be a str or bytes"):
        check_data(data)


def test_a_message_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="a message has a lone surrogate"):
        check_data("a\udfff")


@given(st.text(alphabet=st.characters(), max_size=300))
def test_what_is_allowed_has_1_to_255_bytes_of_utf_8(text: str) -> None:
    try:
        is_right = 1 <= len(text.encode()) <= 255
    except UnicodeEncodeError:
        is_right = False
    try:
        check_name(text)
    except ValueError:
        assert not is_right
    else:
        assert is_right
