"""Notifies systemd of the service's state, by the protocol of sd_notify(3).

A notification is a datagram of lines such as READY=1 to the socket that NOTIFY_SOCKET names. The
watchdog (sd_watchdog_enabled(3)) is notified by the event loop: if that is blocked for longer than
WatchdogSec=, systemd restarts the service.
"""

import asyncio
import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence

from wsgate import loggers
from wsgate.observe.log_format import escape

_SEND_TIMEOUT = 1.0  # seconds to wait for a systemd that is busy, once for each change of state
_SHORTEST_PAUSE = 0.01  # seconds between notifications of the watchdog
_INFINITY = 2**64 - 1  # microseconds: systemd's USEC_INFINITY, which means that there is no value
_LONGEST = 2**62  # microseconds of a stop: in practice without an end


class Notifier:
    """Reports the state of this process. A failure is logged once and changes nothing else.

    Args:
        address: The value of NOTIFY_SOCKET; None notifies nobody.
        watchdog: Seconds in which systemd expects a notification of the watchdog; None for no
            watchdog.
    """

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        self._address = address
        self._pause = None if watchdog is None else max(watchdog / 2, _SHORTEST_PAUSE)
        self._process = os.getpid()
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._running = ""  # the STATUS while it runs
        self._has_failed = False

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> "Notifier":
        """Return a notifier for the service manager that started this process, if one did."""
        address = variables.get("NOTIFY_SOCKET") or None
        return cls(address, _watchdog_seconds(variables) if address else None)

    def ready(self, names: Sequence[str]) -> None:
        """Report that the server accepts connections, and start the watchdog.

        Args:
            names: The addresses that it listens on.
        """
        if self._address is None:
            return
        self._running = f"STATUS=Running on {escape(', '.join(names))}"
        self._report("READY=1", self._running)
        if self._pause is not None:
            self._notify_watchdog(asyncio.get_running_loop(), self._pause)

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Report a reload while the context lasts: Type=notify-reload waits for its end.

        A reload after the stop has begun is not reported: READY=1 would revoke STOPPING=1.
        """
        # sd_notify(3): "a field MONOTONIC_USEC= with the CLOCK_MONOTONIC timestamp at which the
        # notification message was generated" tells this reload from an earlier one.
        if self._running:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
            self._report("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading")
        try:
            yield
        finally:
            if self._running:
                self._report("READY=1", self._running)

    def stopping(self, seconds: float | None) -> None:
        """Report that the stop has begun.

        Args:
            seconds: How long it may take, for systemd to wait as long even if TimeoutStopSec= is
                less. None leaves it to TimeoutStopSec=.
        """
        self._running = ""
        lines = ["STOPPING=1", "STATUS=Shutting down"]
        if seconds is not None:
            # Once is enough: systemd moves the present timeout to this time if that is later.
            lines.append(f"EXTEND_TIMEOUT_USEC={int(min(seconds * 1e6, _LONGEST))}")
        self._report(*lines)

    def close(self) -> None:
        """Stop the watchdog, and close the socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _notify_watchdog(self, loop: asyncio.AbstractEventLoop, pause: float) -> None:
        with contextlib.suppress(BlockingIOError):  # systemd is busy; the next one is soon enough
            self._send("WATCHDOG=1", timeout=0)
        self._timer = loop.call_later(pause, self._notify_watchdog, loop, pause)

    def _report(self, *lines: str) -> None:
        self._send("\n".join(lines), timeout=_SEND_TIMEOUT)

    def _send(self, lines: str, *, timeout: float) -> None:
        if self._address is None or self._process != os.getpid():  # a child that the app forked
            return
        try:
            if self._socket is None:
                # It stays open: when no descriptor is free, the watchdog must be notified as well.
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(timeout)
            self._socket.sendto(lines.encode(), _socket_name(self._address))
        except BlockingIOError:
            raise
        except OSError as error:
            self._log_failure(error)

    def _log_failure(self, error: OSError) -> None:
        if not self._has_failed:
            self._has_failed = True
            where, reason = escape(str(self._address)), error.strerror or error
            loggers.error.warning("NOTIFY_SOCKET=%s: systemd is not notified: %s", where, reason)


def _socket_name(address: str) -> str:
    """Return the name of a socket as `sendto` takes it: `@name` is an abstract one."""
    return "\0" + address[1:] if address.startswith("@") else address


def _watchdog_seconds(variables: Mapping[str, str]) -> float | None:
    """Return the seconds in which the watchdog expects a notification, None without one."""
    usec = variables.get("WATCHDOG_USEC")
    # sd_watchdog_enabled(3): WATCHDOG_PID is "the PID of the process the watchdog is for".
    if not usec or variables.get("WATCHDOG_PID") not in (None, "", str(os.getpid())):
        return None
    if not (re.fullmatch("[0-9]{1,20}", usec) and 0 < int(usec) < _INFINITY):
        loggers.error.warning("WATCHDOG_USEC=%s is ignored: not microseconds", escape(usec))
        return None
    return int(usec) / 1e6
