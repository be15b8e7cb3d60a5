"""The signals that a program takes while its servers run, and what each of them does.

SIGINT and SIGTERM stop all servers gracefully; a second one ends the process at once. SIGHUP stops
them too if the program was started from a terminal, for that is gone then. Otherwise, and wherever
SIGHUP was found ignored (nohup), nothing stops and log files are reopened.

The handlers are installed with `signal.signal` and wake the loop. `loop.add_signal_handler` would
not do: it runs nothing while an app blocks the loop, and forked children share its descriptor.
"""

import asyncio
import contextlib
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from wsgate import streams
from wsgate.observe import log_files
from wsgate.threads import HANDLED_SIGNALS

Handler = Callable[[int, FrameType | None], Any] | int | None  # what signal.getsignal returns
Policy = Callable[[Handler], bool]


# -- which handlers get a captured signal once more, after the stop --------------------------------


def always(_: Handler) -> bool:
    """Raise it again whatever was found: within another program it is for that to decide."""
    return True


def is_host_handler(found: Handler) -> bool:
    """Raise it again only for handlers of the program's own: a graceful stop is exit status 0."""
    return callable(found) and found is not signal.default_int_handler


# -- servers that stop on a signal -----------------------------------------------------------------


@contextlib.contextmanager
def handle(
    loop: asyncio.AbstractEventLoop, stop: Callable[[], object], *, reraise: Policy = always
) -> Iterator[None]:
    """Call `stop` in the loop on a signal to stop, while the context lasts.

    reraise: given the handler that was found, says whether to raise the signal again after that.
    In a thread that is not the main one this does nothing: signals are someone else's there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    server = _Server(loop, stop, reraise, contextvars.copy_context())
    _handlers.enter(server)
    try:
        yield
    finally:
        _handlers.leave(server)


@dataclass(eq=False)
class _Server:
    """A server within `handle`. context: its own, for a signal may arrive amid an app's code."""

    loop: asyncio.AbstractEventLoop
    stop: Callable[[], object]
    reraise: Policy
    context: contextvars.Context

    def call(self, callback: Callable[[], object]) -> None:
        """Call back in the server's loop; a signal handler may do this."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(callback, context=self.context)

    def should_reraise(self, found: Handler) -> bool:
        return self.reraise(found) and not _is_called_on_arrival(found, self.loop)


class _Handlers:
    """This process's handlers: the first server installs them, the last one puts back the old ones.

    _servers: those that run. _found: the handlers that were there, by signal. _captured: the
    signals to stop that came. _masks: the signals that each thread had blocked before its fork.
    _watches_forks: the hooks are registered, which is once and for good.
    """

    def __init__(self) -> None:
        self._servers: list[_Server] = []
        self._found: dict[int, Handler] = {}
        self._captured: list[int] = []
        self._watches_forks = False
        self._masks = threading.local()

    def enter(self, server: _Server) -> None:
        """Add a server. If others are stopping on a signal, it stops too."""
        if not self._servers:
            self._install()
        self._servers.append(server)
        if self._captured:
            server.stop()

    def leave(self, server: _Server) -> None:
        """Remove a server; after the last one raise again what was captured."""
        if server in self._servers:  # not so in a forked child
            self._servers.remove(server)
            if not self._servers:
                self._end(server)

    def _end(self, last: _Server) -> None:
        found = self._put_back()
        for number in reversed(self._captured):
            if number in found and last.should_reraise(found[number]):
                signal.raise_signal(number)

    def _install(self) -> None:
        self._watch_forks()
        self._captured.clear()
        for number in HANDLED_SIGNALS:
            found = signal.getsignal(number)
            if found is not None:  # that is a handler of C code, which could not be put back
                self._found[number] = found
                signal.signal(number, self._handler_of(number, found))

    def _handler_of(self, number: int, found: Handler) -> Handler:
        if number != signal.SIGHUP:
            return self._on_stop
        is_stop = found != signal.SIG_IGN and any(map(os.isatty, range(3)))
        return self._on_terminal_gone if is_stop else self._on_hangup

    def _put_back(self) -> dict[int, Handler]:
        """Put back what was found, but for signals that others have taken since; return it."""
        own = (self._on_stop, self._on_terminal_gone, self._on_hangup)
        found = {n: handler for n, handler in self._found.items() if signal.getsignal(n) in own}
        self._found.clear()
        for number, handler in found.items():
            signal.signal(number, handler)
        return found

    # -- the handlers: they interrupt any code, so they neither log nor wait ----------------------

    def _on_stop(self, number: int, _: FrameType | None) -> None:
        # A SIGHUP before does not count: a session that ends sends it, and then one SIGTERM.
        if any(captured != signal.SIGHUP for captured in self._captured):
            _end_at_once(number)
        self._capture(number)

    def _on_terminal_gone(self, number: int, _: FrameType | None) -> None:
        """Stop, and never at once: the shell and the kernel send a SIGHUP each."""
        self._capture(number)

    def _capture(self, number: int) -> None:
        if number not in self._captured:
            self._captured.append(number)
        for server in self._servers:
            server.call(server.stop)

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        for server in self._servers[:1]:  # the files are the process's: one of them is enough
            server.call(log_files.reopen)
        found = self._found.get(number)
        if callable(found):
            found(number, frame)

    # -- forks -------------------------------------------------------------------------------------

    def _watch_forks(self) -> None:
        if not self._watches_forks:
            self._watches_forks = True
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._unblock,
                after_in_child=self._leave_to_parent,
            )

    def _before_fork(self) -> None:
        """Block our signals, or one that comes before the child is ready would be lost in it."""
        if self._found:
            self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, self._found)

    def _leave_to_parent(self) -> None:
        """Have nothing of the server's handlers in a child, nor the loop's wakeup descriptor."""
        if self._found:
            signal.set_wakeup_fd(-1)
            for number, found in self._put_back().items():
                if _is_of_loop(found):  # it does nothing without the descriptor and the loop
                    signal.signal(number, _DEFAULTS[number])
        self._servers.clear()
        self._captured.clear()
        self._unblock()

    def _unblock(self) -> None:
        mask = self._masks.__dict__.pop("before", None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_handlers = _Handlers()


def _is_called_on_arrival(found: Handler, loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether a loop has called its own handler when the signal arrived.

    What `loop.add_signal_handler` installs does next to nothing. The loop learns of a signal from
    its wakeup descriptor, which stays in use: uvloop sets its own while it runs, asyncio's loop
    with its first handler.
    """
    if _is_of_asyncio(found):
        return isinstance(loop, asyncio.SelectorEventLoop)
    return getattr(found, "__self__", None) is loop


def _is_of_loop(found: Handler) -> bool:
    """Tell whether `loop.add_signal_handler` has installed a handler."""
    return _is_of_asyncio(found) or isinstance(
        getattr(found, "__self__", None), asyncio.AbstractEventLoop
    )


def _is_of_asyncio(found: Handler) -> bool:
    return getattr(found, "__module__", None) == "asyncio.unix_events"


_DEFAULTS: dict[int, Handler] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def _end_at_once(number: int) -> NoReturn:
    """End the process. Its last line is left out where writing it might block."""
    streams.warn("WARNING:  Second signal: ending at once")
    os._exit(128 + number)
