"""The signals that a process handles while its servers run.

SIGINT and SIGTERM stop all servers gracefully; a second one ends the process at once.

SIGHUP stops them too if the program has a terminal: it means that the terminal is gone. Without a
terminal, and if SIGHUP was ignored (nohup), it reloads the servers instead: their log files and
certificates.

SIGUSR1 reopens the log files. SIGTTIN and SIGTTOU are for workers: see `refuse_scaling`.

The handlers are installed with `signal.signal` and wake the loop. `loop.add_signal_handler` is not
used: its handlers do not run while an app blocks the loop, and forked children share its wakeup
descriptor.
"""

import asyncio
import contextlib
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from wsgate import loggers, streams
from wsgate.observe import log_files
from wsgate.supervision import ONE_PROCESS
from wsgate.threads import HANDLED_SIGNALS

Handler = Callable[[int, FrameType | None], Any] | int | None  # what signal.getsignal returns
Policy = Callable[[Handler], bool]


# -- policies: raise a captured signal again after the stop? ---------------------------------------


def always(_: Handler) -> bool:
    """Return True: within another program that program decides what the signal means."""
    return True


def is_host_handler(previous: Handler) -> bool:
    """Return whether the program installed the handler; without one, a stop has exit status 0."""
    return callable(previous) and previous is not signal.default_int_handler


# -- policies: what a second signal does, called in its handler ------------------------------------


def end_at_once(number: int) -> NoReturn:
    """End the process, after a line on stderr unless writing it would block."""
    streams.warn("WARNING:  Second signal: ending at once")
    os._exit(128 + number)


def ignore(_: int) -> None:
    """Do nothing: for a process that others may signal together with its supervisor."""


# -- servers that stop on a signal -----------------------------------------------------------------


@contextlib.contextmanager
def handle(
    loop: asyncio.AbstractEventLoop,
    stop: Callable[[], object],
    *,
    reload: Callable[[], object],
    reopen: Callable[[], object] = log_files.reopen,
    reraise: Policy = always,
    second: Callable[[int], object] = end_at_once,
    numbers: Collection[int] = HANDLED_SIGNALS,
) -> Iterator[None]:
    """Call `stop` in the loop on a signal that stops servers, while the context lasts.

    Outside the main thread this does nothing: only the main thread can install handlers.

    Args:
        loop: the loop of the server.
        stop: starts the server's graceful stop; must not block.
        reload: called in the loop on a SIGHUP that stops nothing.
        reopen: called in the loop on SIGUSR1, for one of the servers: the log is the process's.
        reraise: called with the handler that was installed before. Returns whether to restore it
            and raise the signal again when the context ends.
        second: called with the number of a second signal, in its handler.
        numbers: the signals to handle, of `HANDLED_SIGNALS`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    context = contextvars.copy_context()
    server = _Server(loop, stop, reload, reopen, reraise, second, numbers, context)
    _handlers.enter(server)
    try:
        yield
    finally:
        _handlers.leave(server)


@dataclass(eq=False)
class _Server:
    """A server within `handle`.

    context: the server's context variables. A signal handler runs in those of the interrupted code,
    which may be the app's.
    """

    loop: asyncio.AbstractEventLoop
    stop: Callable[[], object]
    reload: Callable[[], object]
    reopen: Callable[[], object]
    reraise: Policy
    second: Callable[[int], object]
    numbers: Collection[int]
    context: contextvars.Context

    def call(self, callback: Callable[[], object]) -> None:
        """Schedule a callback in the server's loop; safe in signal handlers."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(callback, context=self.context)

    def should_reraise(self, previous: Handler) -> bool:
        return self.reraise(previous) and not _was_called_on_arrival(previous, self.loop)


class _Handlers:
    """The signal handlers of this process.

    The first server installs them, the last one restores the previous ones.
    """

    def __init__(self) -> None:
        self._servers: list[_Server] = []  # those that run
        self._previous: dict[int, Handler] = {}  # the handlers to restore, by signal
        self._captured: list[int] = []  # the signals that stop the servers
        self._has_fork_hooks = False  # they cannot be removed again
        self._masks = threading.local()  # the signals that each thread blocked before its fork

    def enter(self, server: _Server) -> None:
        """Add a server. If a signal is stopping the others, stop it too."""
        if not self._servers:
            self._install(server.numbers)
        self._servers.append(server)
        if self._captured:
            server.stop()

    def leave(self, server: _Server) -> None:
        """Remove a server; after the last one, restore the handlers and raise signals again."""
        if server in self._servers:  # in a forked child it is not
            self._servers.remove(server)
            if not self._servers:
                self._uninstall(server)

    def _uninstall(self, last: _Server) -> None:
        restored = self._restore_handlers()
        for number in reversed(self._captured):
            if number in restored and last.should_reraise(restored[number]):
                signal.raise_signal(number)

    def _install(self, numbers: Collection[int]) -> None:
        self._register_fork_hooks()
        self._captured.clear()
        for number in numbers:
            previous = signal.getsignal(number)
            if previous is not None:  # None: a handler of C code, which could not be restored
                self._previous[number] = previous
                signal.signal(number, self._handler(number, previous))

    def _handler(self, number: int, previous: Handler) -> Handler:
        if number == signal.SIGUSR1:
            return self._on_reopen
        if number != signal.SIGHUP:
            return self._on_stop
        has_terminal = any(map(os.isatty, range(3)))
        stops = has_terminal and previous != signal.SIG_IGN
        return self._on_terminal_gone if stops else self._on_hangup

    def _restore_handlers(self) -> dict[int, Handler]:
        """Restore the previous handlers and return them, by signal.

        A handler that other code has installed since then is kept.
        """
        own = (self._on_stop, self._on_terminal_gone, self._on_hangup, self._on_reopen)
        restored = {n: old for n, old in self._previous.items() if signal.getsignal(n) in own}
        self._previous.clear()
        for number, handler in restored.items():
            signal.signal(number, handler)
        return restored

    # -- the handlers: they interrupt any code, so they must neither log nor wait -----------------

    def _on_stop(self, number: int, _: FrameType | None) -> None:
        # An earlier SIGHUP does not count: a session that ends sends SIGHUP and then SIGTERM.
        if any(captured != signal.SIGHUP for captured in self._captured):
            for server in self._servers:
                server.second(number)
        self._capture(number)

    def _on_terminal_gone(self, number: int, _: FrameType | None) -> None:
        """Stop gracefully, also when received again: the shell and the kernel send one each."""
        self._capture(number)

    def _capture(self, number: int) -> None:
        if number not in self._captured:
            self._captured.append(number)
        for server in self._servers:
            server.call(server.stop)

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        for server in self._servers:
            server.call(server.reload)
        self._call_previous(number, frame)

    def _on_reopen(self, number: int, frame: FrameType | None) -> None:
        for server in self._servers[:1]:
            server.call(server.reopen)
        self._call_previous(number, frame)

    def _call_previous(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number)
        if callable(previous):
            previous(number, frame)

    # -- forks -------------------------------------------------------------------------------------

    def _register_fork_hooks(self) -> None:
        if not self._has_fork_hooks:
            self._has_fork_hooks = True
            os.register_at_fork(
                before=self._block_signals,
                after_in_parent=self._unblock_signals,
                after_in_child=self._reset_child,
            )

    def _block_signals(self) -> None:
        """Block the signals: one that arrives before the child is reset would be lost in it."""
        if self._previous:
            self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, self._previous)

    def _reset_child(self) -> None:
        """Restore the handlers in a forked child, without the parent's wakeup descriptor."""
        if self._previous:
            signal.set_wakeup_fd(-1)
            for number, handler in self._restore_handlers().items():
                if _is_of_loop(handler):  # it does nothing without the descriptor and the loop
                    signal.signal(number, _DEFAULTS[number])
        self._servers.clear()
        self._captured.clear()
        self._unblock_signals()

    def _unblock_signals(self) -> None:
        mask = self._masks.__dict__.pop("before", None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_handlers = _Handlers()


def _was_called_on_arrival(handler: Handler, loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop called its callback when the signal arrived.

    The handler that `loop.add_signal_handler` installs does next to nothing. The loop notices a
    signal by its wakeup descriptor, and that stays in use while our handlers are installed: uvloop
    sets it whenever it runs, asyncio's loop with its first handler.
    """
    if _is_of_asyncio(handler):
        return isinstance(loop, asyncio.SelectorEventLoop)
    return getattr(handler, "__self__", None) is loop


def _is_of_loop(handler: Handler) -> bool:
    """Return whether `loop.add_signal_handler` installed a handler."""
    return _is_of_asyncio(handler) or isinstance(
        getattr(handler, "__self__", None), asyncio.AbstractEventLoop
    )


def _is_of_asyncio(handler: Handler) -> bool:
    return getattr(handler, "__module__", None) == "asyncio.unix_events"


_DEFAULTS: dict[int, Handler] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
}


# -- the signals that change the number of workers, without workers --------------------------------


@contextlib.contextmanager
def refuse_scaling(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Answer SIGTTIN and SIGTTOU with one warning while the context lasts; they would suspend us.

    The first one of each kind is logged, all others are ignored. A handler that stayed would run
    for ever in a background process that reads its terminal: the kernel sends SIGTTIN for each
    attempt, until the signal is ignored.
    """

    def refuse(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        name = signal.Signals(number).name
        loop.call_soon_threadsafe(loggers.error.warning, "%s is for workers: %s", name, ONE_PROCESS)

    numbers = [n for n in (signal.SIGTTIN, signal.SIGTTOU) if signal.getsignal(n) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, refuse)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
