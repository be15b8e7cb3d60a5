"""Why a WebSocket has ended: from its session, what the server did, and how TCP ended."""

from wsgate.observe.causes import Cause
from wsgate.ws.codes import MESSAGE_TOO_BIG
from wsgate.ws.session import CLIENT, Session

End = tuple[Cause, str]  # and what is known beyond the cause, empty for nothing


def find_end(session: Session, own: End | None, error: Exception | None) -> End:
    """Return the cause of an end, and its detail.

    Args:
        session: It is closed.
        own: Why this side has closed or aborted it, None if it has not.
        error: What has ended TCP, None for an orderly end.
    """
    if session.has_fault:
        is_size = session.close_code == MESSAGE_TOO_BIG
        return Cause.MESSAGE_TOO_BIG if is_size else Cause.PROTOCOL_ERROR, session.broken_rule
    if session.closed_by is CLIENT:
        return Cause.CLIENT_CLOSED, ""
    if own is not None:
        return own
    return Cause.CLIENT_VANISHED, _text_of(error)


def _text_of(error: Exception | None) -> str:
    """Return what the system says about the end of a connection."""
    if error is None:
        return ""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
