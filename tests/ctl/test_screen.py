"""The screen of `wsgate ctl top`, on a terminal of its own."""

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.processes import ROOT

PROGRAM = """
from wsgate.ctl import screen
with screen.opened() as shown:
    while shown.wait(0.01):
        shown.draw(["first", "s" * 500, *["more"] * 500])
"""
ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"


@contextmanager
def running() -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    """Run the program on a terminal that it has drawn on; yield it and both ends."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (5, 20))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "", "LINES": ""},
        stdin=slave,
        stdout=slave,
    )
    try:
        yield process, master, slave
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def read_until(master: int, expected: bytes) -> bytes:
    """Return what was shown up to some text; the test's timeout is that of the run."""
    shown = b""
    while expected not in shown:
        shown += os.read(master, 65_536)
    return shown


@pytest.mark.parametrize("end", ["q", signal.SIGINT, signal.SIGTERM])
def test_it_is_drawn_again_and_the_terminal_restored(end: str | signal.Signals) -> None:
    with running() as (process, master, slave):
        before = termios.tcgetattr(slave)
        shown = read_until(master, b"first\x1b[K\r\n")
        assert shown.startswith(ENTER)
        shown = read_until(master, b"\x1b[J")
        assert termios.tcgetattr(slave) != before  # keys are read at once, and not shown
        frame = read_until(master, b"\x1b[J").partition(b"\x1b[H")[2]
        rows = frame.partition(b"\x1b[J")[0].split(b"\x1b[K")
        assert rows == [b"first", b"\r\n" + b"s" * 20, b"\r\nmore", b"\r\nmore", b"\r\nmore", b""]
        if isinstance(end, str):
            os.write(master, end.encode())
        else:
            process.send_signal(end)
        read_until(master, LEAVE)
        statuses = {"q": 0, signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}
        assert process.wait(30) == statuses[end]
        assert termios.tcgetattr(slave) == before
