"""Closes one connection because an operator asks for it."""

from dataclasses import dataclass

from wsgate.observe.causes import Cause
from wsgate.server.connection import Connection
from wsgate.server.websocket import WebSocket
from wsgate.server.worker import OpenConnection
from wsgate.ws.codes import MAX_REASON_SIZE, SERVICE_RESTART, is_valid_reason, may_be_in_frame


class AlreadyClosing(Exception):
    """The WebSocket has ended, or its Close was sent before."""


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """What the Close frame of a WebSocket is to contain.

    The default is 1012: the client connects again, so a mistake does no harm.
    """

    code: int = SERVICE_RESTART
    reason: str = ""

    @property
    def problem(self) -> str | None:
        """Why no Close frame can contain this; None if one can."""
        if not may_be_in_frame(self.code):
            return f"{self.code} is not a code that a Close frame may have"
        if not is_valid_reason(self.reason):
            return f"the reason must be at most {MAX_REASON_SIZE} bytes of UTF-8"
        return None

    def close(self, connection: OpenConnection) -> int | None:
        """Close an open WebSocket with the Close frame, any other connection at once.

        Returns:
            The code that was sent, None for none.

        Raises:
            AlreadyClosing: No Close can be sent any more.
        """
        driver = connection.driver if isinstance(connection, Connection) else None
        if not isinstance(driver, WebSocket):
            connection.abort()
            return None
        if not driver.session.can_send:
            raise AlreadyClosing
        driver.close(self.code, self.reason, Cause.OPERATOR)
        return driver.session.close_code
