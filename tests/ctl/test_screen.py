"""The screen of `wsgate ctl top`, on a terminal of its own."""

import os
import pty
import re
import select
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
PATIENCE = 60.0


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
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process, master, slave
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def read_until(master: int, expected: bytes) -> re.Match[bytes]:
    """Return the first match of an expression in what is shown from now on."""
    shown = b""
    while (found := re.search(expected, shown, re.DOTALL)) is None:
        assert select.select([master], (), (), PATIENCE)[0], shown
        shown += os.read(master, 65_536)
    return found


@pytest.mark.parametrize("end", ["q", signal.SIGINT, signal.SIGTERM])
def test_it_is_drawn_again_and_the_terminal_restored(end: str | signal.Signals) -> None:
    with running() as (process, master, slave):
        before = termios.tcgetattr(slave)
        read_until(master, rb"^\x1b\[\?1049h\x1b\[\?25l\x1b\[H")
        assert termios.tcgetattr(slave) != before  # keys are read at once, and not shown
        drawn = read_until(master, rb"\x1b\[H([^J]*)\x1b\[J\x1b\[H")
        rows = drawn[1].replace(b"\x1b[K", b"").split(b"\r\n")
        assert rows == [b"first", b"s" * 20, b"more", b"more", b"more"]
        if isinstance(end, str):
            os.write(master, end.encode())
        else:
            process.send_signal(end)
        read_until(master, rb"\x1b\[\?25h\x1b\[\?1049l$")
        statuses = {"q": 0, signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}
        assert process.wait(PATIENCE) == statuses[end]
        assert termios.tcgetattr(slave) == before
