"""The server's own threads: they block the signals it handles and do not keep the program alive."""

import signal
import threading
from collections.abc import Callable

HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

OWN_THREADS = "wsgate-"  # the start of the names of all of them


def daemon_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Return a thread, not yet started, that calls `target` with `HANDLED_SIGNALS` blocked.

    The kernel may deliver a signal to any thread that does not block it. Only the main thread runs
    Python's signal handlers: if another one got the signal, a blocking call in the main thread
    would not be interrupted, and the handler would run after that call.
    """

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        target()

    return threading.Thread(target=run, name=name, daemon=True)
