"""A screen on a terminal that is drawn again and again, and the key that ends it."""

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import NoReturn

from wsgate.printing import write_stdout

# The alternate screen, so that what was there before is there again afterwards; no cursor.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_QUIT = b"qQ"


class Screen:
    """The terminal of this process while `opened` lasts."""

    def draw(self, lines: Iterable[str]) -> None:
        """Show lines instead of those before; what does not fit is cut off."""
        columns, rows = shutil.get_terminal_size()
        shown = [line[:columns] for line, _ in zip(lines, range(rows), strict=False)]
        text = "\n".join(line + _TO_END_OF_LINE for line in shown)
        write_stdout(_HOME + text + _TO_END_OF_SCREEN)

    def wait(self, seconds: float) -> bool:
        """Wait; return False at once when the user has pressed q."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not sys.stdin.isatty():
                time.sleep(left)
                break
            if not select.select([sys.stdin], (), (), left)[0]:
                break
            keys = os.read(sys.stdin.fileno(), 64)
            if not keys or any(key in _QUIT for key in keys):
                return False
        return True


@contextlib.contextmanager
def opened() -> Iterator[Screen]:
    """Use the terminal for a screen while the context lasts, and restore it afterwards.

    SIGTERM and SIGHUP end the program with an exception meanwhile, so that it is restored, too.
    """
    with contextlib.ExitStack() as undo:
        for number in (signal.SIGTERM, signal.SIGHUP):
            undo.callback(signal.signal, number, signal.signal(number, _end))
        if sys.stdin.isatty():
            before = termios.tcgetattr(sys.stdin)
            undo.callback(termios.tcsetattr, sys.stdin, termios.TCSADRAIN, before)
            tty.setcbreak(sys.stdin)
        undo.callback(write_stdout, _LEAVE)
        write_stdout(_ENTER)
        yield Screen()


def _end(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
