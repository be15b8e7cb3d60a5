"""The signals that our program takes, which the kernel is to deliver to the main thread."""

import signal

TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_signals_to_it() -> None:
    """Block our signals in the calling thread.

    The kernel delivers a signal to any thread that takes it, and only the main one is to be
    interrupted in what it waits for, or its handler would run no sooner than that ends.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
