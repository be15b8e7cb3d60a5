"""Evenness among workers: one with more connections than the others pauses accepting.

All workers accept on one shared socket, so who pauses refuses nobody: the others take the
connection, and if none of them does, then the paused worker does after all.
"""

import select
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from wsgate.server.worker import Worker

_MARGIN = 8  # connections more than the emptiest worker has, at least
_SHARE = 64  # and a 64th of what that has: fullest to emptiest stay below 1.05
_SHORTEST, _LONGEST = 0.005, 0.1  # seconds between two checks while paused
_PATIENCE = 0.05  # seconds that a connection may wait while no other worker accepts any


class Pausable(Protocol):
    """A listener, as far as the balance is concerned. sock: None without a socket."""

    sock: socket.socket | None

    def pause(self) -> None:
        """Stop accepting for a while."""

    def resume(self) -> None:
        """Accept again."""


def margin(fewest: int) -> int:
    """Return how many connections more than the emptiest worker a worker may have."""
    return max(_MARGIN, fewest // _SHARE)


class Balance:
    """Decides when one worker pauses accepting and when it resumes.

    Args:
        worker: The worker.
        listeners: What to pause.
        has_waiting: Returns whether a connection waits to be accepted; by default asks the kernel.

    Attributes:
        is_paused: Whether the worker does not accept at the moment.
    """

    def __init__(
        self,
        worker: "Worker",
        listeners: Sequence[Pausable],
        *,
        has_waiting: Callable[[Sequence[Pausable]], bool] | None = None,
    ) -> None:
        self._worker = worker
        self._listeners = listeners
        self._has_waiting = has_waiting or _has_waiting
        self._timer: asyncio.TimerHandle | None = None
        self._limit = 0  # connections with which to check the others again
        self._pause = _SHORTEST  # seconds until the next check
        self._seen = (0, 0)  # the others' fewest and accepted connections, at the last check
        self._seen_at = 0.0  # when they were different last
        self._is_stopped = False
        self.is_paused = False

    def connections_changed(self) -> None:
        """Pause if the worker has too many connections now."""
        count = self._worker.admission.total
        if count <= self._limit:
            self._limit = min(self._limit, count + margin(count))
        elif not (self.is_paused or self._is_stopped or self._has_room(margin)):
            self._pause_listeners()

    def stop(self) -> None:
        """Leave the listeners as they are from now on."""
        self._is_stopped = True
        self._cancel_timer()

    def _has_room(self, allowed: Callable[[int], int]) -> bool:
        """Return whether the worker may accept; if so, it checks again within a margin.

        Until then the others may have lost theirs.

        allowed: Returns how many more than the emptiest worker it may have.
        """
        fewest = self._worker.other_workers.fewest_connections()
        count = self._worker.admission.total
        again = count + margin(count)
        most = again if fewest is None else fewest + allowed(fewest)
        self._limit = min(most, again)
        return count <= most

    def _pause_listeners(self) -> None:
        self.is_paused = True
        for listener in self._listeners:
            listener.pause()
        self._pause = _SHORTEST
        self._seen_at = self._worker.loop.time()
        self._wait()

    def _wait(self) -> None:
        worker = self._worker
        self._timer = worker.loop.call_later(
            self._pause, self._resume_or_wait, context=worker.variables
        )

    def _resume_or_wait(self) -> None:
        """Resume if the others have caught up, or if none of them takes what is waiting."""
        if self._has_room(_half_margin):
            self._resume_listeners()
            return
        now = self._worker.loop.time()
        others = self._worker.other_workers
        seen = (others.fewest_connections() or 0, others.accepted())
        if seen != self._seen:
            self._seen, self._seen_at, self._pause = seen, now, _SHORTEST
        elif not self._has_waiting(self._listeners):
            self._seen_at = now
            self._pause = min(self._pause * 2, _LONGEST)
        elif now - self._seen_at >= _PATIENCE:
            self._limit = self._worker.admission.total + _MARGIN
            self._resume_listeners()
            return
        else:
            self._pause = _SHORTEST
        self._wait()

    def _resume_listeners(self) -> None:
        self._cancel_timer()
        self.is_paused = False
        for listener in self._listeners:
            listener.resume()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _half_margin(fewest: int) -> int:
    """Return the margin to resume with: a worker does not pause again at once."""
    return margin(fewest) // 2


def _has_waiting(listeners: Sequence[Pausable]) -> bool:
    poll = select.poll()
    for listener in listeners:
        if listener.sock is not None:
            poll.register(listener.sock, select.POLLIN)
    return bool(poll.poll(0))
