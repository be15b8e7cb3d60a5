"""Threads of the server's own: they leave signals to the main thread and never keep the program."""

import signal
import threading
from collections.abc import Callable

HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def daemon(target: Callable[[], object], name: str) -> threading.Thread:
    """Return a thread, not yet started, that calls `target` with our signals blocked.

    The kernel delivers a signal to any thread that does not block it, and only the main one is to
    be interrupted in what it waits for: otherwise its handler would run no sooner than that ends.
    """

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        target()

    return threading.Thread(target=run, name=name, daemon=True)
