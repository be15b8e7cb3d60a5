"""The access log: the lines that operators know from uvicorn."""

import logging

from wsgate.http.request import Request
from wsgate.http.response import REASONS
from wsgate.observe.logs import access, address, escaped
from wsgate.types import Address

_INFO = logging.INFO


class AccessLog:
    """Writes a line for each request, and two for each WebSocket.

    is_wanted: whether it writes at all; the logger's level decides as well.
    """

    __slots__ = ("_is_wanted",)

    def __init__(self, *, is_wanted: bool) -> None:
        self._is_wanted = is_wanted

    def tells_websockets(self) -> bool:
        """Return whether a WebSocket's opening and end are logged."""
        return self._is_wanted and access.logger.isEnabledFor(_INFO)

    def request_done(self, client: Address | None, request: Request, status: int) -> None:
        """Log a request and its response's status."""
        # Each request passes here: the same as `tells_websockets` and `info`, without the calls.
        if self._is_wanted and access.logger.isEnabledFor(_INFO):
            access.log_without_caller(
                _INFO,
                '%s - "%s %s HTTP/%s" %d %s',
                address(client),
                request.method,
                escaped(request.target.decode("ascii")),
                request.version,
                status,
                _phrase(status),
            )

    def websocket_refused(self, client: Address | None, request: Request, status: int) -> None:
        """Log a WebSocket that did not open."""
        if self.tells_websockets():
            target = escaped(request.target.decode("ascii"))
            access.log_without_caller(
                _INFO, '%s - "WebSocket %s" %d %s', address(client), target, status, _phrase(status)
            )

    def websocket_opened(self, client: Address | None, target: bytes) -> None:
        """Log that a WebSocket is open."""
        if self.tells_websockets():
            access.log_without_caller(
                _INFO,
                '%s - "WebSocket %s" [accepted]',
                address(client),
                escaped(target.decode("ascii")),
            )

    def websocket_closed(  # one line tells all of it
        self,
        client: Address | None,
        target: bytes,
        *,
        code: int,
        reason: str,
        seconds: float,
        received: tuple[int, int],
        sent: tuple[int, int],
    ) -> None:
        """Log the end of a WebSocket; received and sent: messages, and bytes on the wire."""
        if self.tells_websockets():
            access.log_without_caller(
                _INFO,
                '%s - "WebSocket %s" [closed] %d%s after %.1f s, in %d/%d B, out %d/%d B',
                address(client),
                escaped(target.decode("ascii")),
                code,
                f" {escaped(reason)}" if reason else "",
                seconds,
                *received,
                *sent,
            )


def _phrase(status: int) -> str:
    return REASONS.get(status, b"").decode("ascii")
