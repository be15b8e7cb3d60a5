"""Close codes (RFC 6455 section 7.4): their names and rules, and the contents of a Close frame.

This server closes with these codes on its own, decided in the file named:

1000 NORMAL            The app returned, or closed without naming a code. server/websocket.py
1001 GOING_AWAY        No message for --ws-idle-timeout. server/liveness.py
1002 PROTOCOL_ERROR    A malformed Close (`read_close` below), or a malformed or misplaced frame:
                       ws/frames/wsproto_codec.py, ws/deflate/wsproto_extension.py
1007 INVALID_PAYLOAD   Text or a close reason that is not UTF-8, or bad deflate data: `read_close`
                       below, ws/frames/fast_codec.py, and the two files named for 1002
1008 POLICY_VIOLATION  More messages than --ws-max-message-rate. server/websocket.py
1009 MESSAGE_TOO_BIG   A message above --ws-max-size or --ws-max-fragments: always chosen in
                       ws/deflate/wsproto_extension.py, which reads every such message
1011 INTERNAL_ERROR    The app raised (server/websocket.py); it does not receive, or no data arrived
                       after a Ping (server/liveness.py)
1012 SERVICE_RESTART   The server stops (server/websocket.py), --ws-max-lifetime is over
                       (server/liveness.py), or an operator closes it and names no other code
                       (server/close_request.py)
1013 TRY_AGAIN_LATER   The client reads too slowly: longer than --ws-send-timeout
                       (server/liveness.py), or too much waits that was published to it
                       (server/websocket.py)

NO_STATUS and ABNORMAL are in no frame: the app receives 1005 after a Close without a code, and 1006
if the connection ended without a Close. Any other code is the app's choice, or the echo of the
client's Close.
"""

from wsgate.ws import rules
from wsgate.ws.frames.codec import Fail, PeerClose

NORMAL = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NO_STATUS = 1005
ABNORMAL = 1006
INVALID_PAYLOAD = 1007
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

# IANA's "WebSocket Close Code Number Registry" below 3000.
NAMES = {
    NORMAL: "normal closure",
    GOING_AWAY: "going away",
    PROTOCOL_ERROR: "protocol error",
    1003: "unsupported data",
    1004: "reserved",
    NO_STATUS: "no status received",
    ABNORMAL: "abnormal closure",
    INVALID_PAYLOAD: "invalid payload",
    POLICY_VIOLATION: "policy violation",
    MESSAGE_TOO_BIG: "message too big",
    1010: "mandatory extension",
    INTERNAL_ERROR: "internal error",
    SERVICE_RESTART: "service restart",
    TRY_AGAIN_LATER: "try again later",
    1014: "bad gateway",
    1015: "TLS handshake failed",
}
# RFC 6455 section 7.4.1: each "is a reserved value and MUST NOT be set as a status code in a Close
# control frame by an endpoint"; 1004 is reserved without a meaning.
_NEVER_IN_FRAMES = frozenset({1004, NO_STATUS, ABNORMAL, 1015})
_REGISTERED = frozenset(NAMES) - _NEVER_IN_FRAMES
# Section 7.4.2: 3000 to 3999 are for libraries and applications, 4000 to 4999 for private use.
# Codes below without a name are reserved; codes above have no meaning.
_UNREGISTERED = range(3000, 5000)

MAX_REASON_SIZE = 123  # bytes: RFC 6455 section 5.5 allows 125, the code takes two of them


def may_be_in_frame(code: int) -> bool:
    """Return whether an endpoint, client or server, may put this code into a Close frame."""
    return code in _REGISTERED or code in _UNREGISTERED


def is_valid_reason(reason: str) -> bool:
    """Return whether a Close frame can hold this reason: at most 123 bytes of UTF-8."""
    try:
        return len(reason.encode()) <= MAX_REASON_SIZE
    except UnicodeEncodeError:  # a lone surrogate
        return False


# What browsers and most clients send.
_COMMON_CLOSES = {
    b"": PeerClose(NO_STATUS, ""),
    **{code.to_bytes(2, "big"): PeerClose(code, "") for code in (NORMAL, GOING_AWAY)},
}


def read_close(payload: bytes) -> PeerClose | Fail:
    """Return the code and reason in the payload of the peer's Close (RFC 6455 section 5.5.1).

    Returns a Fail with 1002 for a code that may not be sent, with 1007 for a reason that is not
    UTF-8.
    """
    common = _COMMON_CLOSES.get(bytes(payload))
    if common is not None:
        return common
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1:
        return failure(PROTOCOL_ERROR, rules.CLOSE_SIZE)
    if not may_be_in_frame(code):
        return failure(PROTOCOL_ERROR, rules.CLOSE_CODE)
    try:
        return PeerClose(code, payload[2:].decode())
    except UnicodeDecodeError:
        return failure(INVALID_PAYLOAD, rules.CLOSE_REASON)


def close_payload(code: int, reason: str) -> bytes:
    """Return the payload of a Close frame: empty for 1005, for which the reason is ignored."""
    return b"" if code == NO_STATUS else code.to_bytes(2, "big") + reason.encode()


def failure(code: int, rule: str) -> Fail:
    """Return the failure with a registered code and its name as the reason."""
    return Fail(code, NAMES[code], rule)
