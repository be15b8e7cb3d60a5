"""The warning that pages of other sites may open WebSockets with cookies, logged once."""

from wsgate import loggers
from wsgate.observe.log_format import escape

_LONGEST = 200  # bytes of a client's text in the line


class CrossSiteLog:
    """Logs the warning for the first WebSocket that shows the danger, not for later ones."""

    def __init__(self) -> None:
        self._is_logged = False

    def report(self, origin: bytes, host: bytes) -> None:
        """Log the warning, unless it was logged before.

        Args:
            origin: The Origin header of the WebSocket that the app has accepted.
            host: The host that its client has connected to.
        """
        if self._is_logged:
            return
        self._is_logged = True
        loggers.error.warning(
            "A page of %s opened a WebSocket to %s with the user's cookies. Any site can do that, "
            "and act as the user (cross-site WebSocket hijacking): set --ws-origins to the "
            "origins that may connect, such as same. This is logged once",
            _shorten(origin),
            _shorten(host),
        )


def _shorten(text: bytes) -> str:
    shown = escape(text[:_LONGEST].decode("latin-1"))
    return f"{shown}..." if len(text) > _LONGEST else shown


cross_site_log = CrossSiteLog()  # of this process
