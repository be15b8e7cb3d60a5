"""The warning about cross-site WebSockets."""

import logging

import pytest

from tests.harness.log import capture_log
from wsgate.observe.cross_site_log import CrossSiteLog


def warnings(*arguments: tuple[bytes, bytes]) -> list[str]:
    log = CrossSiteLog()
    with capture_log() as lines:
        for origin, host in arguments:
            log.report(origin, host)
    assert not lines.errors
    assert not lines.messages(logging.INFO)
    return lines.warnings


def test_the_first_one_is_logged() -> None:
    evil = (b"https://evil.example", b"chat.example:8000")
    (line,) = warnings(evil, evil, (b"null", b"chat.example"))
    assert line == (
        "A page of https://evil.example opened a WebSocket to chat.example:8000 with the user's "
        "cookies. Any site can do that, and act as the user (cross-site WebSocket hijacking): set "
        "--ws-origins to the origins that may connect, such as same. This is logged once"
    )


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        (b"https://a\r\nERROR: forged", r"https://a\r\nERROR: forged"),
        (b"\x1b[31m", r"\x1b[31m"),
        (b"\xff", r"\xff"),
        (b"a" * 200, "a" * 200),
        (b"a" * 60_000, "a" * 200 + "..."),
    ],
)
def test_the_text_of_a_client_is_escaped_and_bounded(origin: bytes, shown: str) -> None:
    (line,) = warnings((origin, origin))
    assert line.startswith(f"A page of {shown} opened a WebSocket to {shown} with ")
