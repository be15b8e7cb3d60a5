"""What may be the name of a topic, an id, a member and a message."""

MAX_BYTES = 255  # of a name, an id and a member, in UTF-8


def check_name(name: object) -> None:
    """Raise TypeError or ValueError for what cannot be the name of a topic."""
    _check_text(name, "the name of a topic")


def check_id(id: object) -> None:
    """Raise TypeError or ValueError for what cannot be the id of a message."""
    _check_text(id, "the id of a message")


def check_member(member: object) -> None:
    """Raise TypeError or ValueError for what cannot be a member of a topic."""
    _check_text(member, "a member")


def check_data(data: object) -> None:
    """Raise TypeError or ValueError for what cannot be published.

    Text must be valid in UTF-8, because text messages are (RFC 6455 section 5.6).
    """
    if isinstance(data, str):
        _encode(data, "a message")
    elif not isinstance(data, bytes):
        raise TypeError(f"a message must be a str or bytes, not {type(data).__name__}")


def _check_text(value: object, subject: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{subject} must be a str, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{subject} must not be empty")
    if len(value) > MAX_BYTES or (not value.isascii() and len(_encode(value, subject)) > MAX_BYTES):
        raise ValueError(f"{subject} must not be longer than {MAX_BYTES} bytes in UTF-8")


def _encode(text: str, subject: str) -> bytes:
    if text.isascii():
        return b""  # nothing to check, and nobody asks for these bytes
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{subject} has a lone surrogate, which UTF-8 cannot hold") from None
