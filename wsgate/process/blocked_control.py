"""Answers clients of the control socket while the event loop of a single server is blocked.

Only a thread can do so then. It leaves every client to the event loop that accepts it in time.
"""

import contextlib
import json
import select
import socket
import threading
from collections.abc import Callable

from wsgate import threads
from wsgate.process.commands import Arguments, CommandRefused, Part, parse_request
from wsgate.process.questions import ANSWER_TIMEOUT

Answer = Callable[[str, Arguments], list[Part]]
"""Executes a command in another thread; raises CommandRefused."""

_CLIENT_TIMEOUT = 1.0  # seconds for a client to send its request, and to read the answer
_CHECKS = 8  # of whether a client still waits, until the event loop counts as blocked
_LONGEST_REQUEST = 4_096  # bytes


class BlockedControl:
    """The thread that accepts clients which the event loop has not accepted for `ANSWER_TIMEOUT`.

    Args:
        sock: It listens, and does not block; the caller closes it after `close`.
        answer: Executes a command.
    """

    def __init__(self, sock: socket.socket, answer: Answer) -> None:
        self._sock = sock
        self._answer = answer
        self._stopped = threading.Event()
        self._woken, self._wake = socket.socketpair()
        self._thread = threads.daemon_thread(self._run, "wsgate-control")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and wait for it to end."""
        self._stopped.set()
        self._wake.close()
        self._thread.join()
        self._woken.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._is_waiting(None) and self._is_left_waiting():
                self._serve_one()

    def _is_left_waiting(self) -> bool:
        """Return whether the event loop accepts nobody. If it runs, it does so at once."""
        step = ANSWER_TIMEOUT / _CHECKS
        return all(not self._stopped.wait(step) and self._is_waiting(0) for _ in range(_CHECKS))

    def _is_waiting(self, timeout: int | None) -> bool:
        """Wait for a client, or for `close`; return whether one waits to be accepted."""
        polled = select.poll()  # unlike `select.select` it takes any descriptor
        polled.register(self._sock, select.POLLIN)
        polled.register(self._woken, select.POLLIN)
        return self._sock.fileno() in dict(polled.poll(timeout))

    def _serve_one(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._sock.accept()
            with client:
                client.settimeout(_CLIENT_TIMEOUT)
                with client.makefile("rb") as lines:
                    request = lines.readline(_LONGEST_REQUEST)
                client.sendall(b"".join(map(_encode, self._lines(request))))

    def _lines(self, request: bytes) -> list[Part]:
        try:
            parts = self._answer(*parse_request(request))
        except CommandRefused as refused:
            return [{"error": str(refused)}]
        return [*({"part": part} for part in parts), {"end": True}]


def _encode(line: Part) -> bytes:
    return json.dumps(line).encode() + b"\n"
