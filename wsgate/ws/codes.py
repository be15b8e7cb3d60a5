"""Close codes (RFC 6455 section 7.4): their names, which may be sent, and what a Close says."""

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
    1000: "normal closure",
    1001: "going away",
    PROTOCOL_ERROR: "protocol error",
    1003: "unsupported data",
    1004: "reserved",
    NO_STATUS: "no status received",
    ABNORMAL: "abnormal closure",
    INVALID_PAYLOAD: "invalid payload",
    1008: "policy violation",
    1009: "message too big",
    1010: "mandatory extension",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
    1015: "TLS handshake failed",
}
# RFC 6455 section 7.4.1: each "is a reserved value and MUST NOT be set as a status code in a Close
# control frame by an endpoint"; 1004 is reserved without a meaning.
_LOCAL = frozenset({1004, NO_STATUS, ABNORMAL, 1015})
_IN_FRAMES = frozenset(NAMES) - _LOCAL
# Section 7.4.2: 3000 to 3999 for libraries and applications, 4000 to 4999 for private use; what is
# below and has no name is reserved, what is above has no meaning.
_FREE = range(3000, 5000)


def may_be_in_frame(code: int) -> bool:
    """Tell whether an endpoint, either one, may put a code into a Close frame."""
    return code in _IN_FRAMES or code in _FREE


# What browsers and most clients send.
_COMMON_CLOSES = {
    b"": PeerClose(NO_STATUS, ""),
    **{code.to_bytes(2, "big"): PeerClose(code, "") for code in (1000, 1001)},
}


def read_close(payload: bytes) -> PeerClose | Fail:
    """Return what the payload of the peer's Close frame says (RFC 6455 section 5.5.1)."""
    common = _COMMON_CLOSES.get(bytes(payload))
    if common is not None:
        return common
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not may_be_in_frame(code):
        return failure(PROTOCOL_ERROR)
    try:
        return PeerClose(code, payload[2:].decode())
    except UnicodeDecodeError:
        return failure(INVALID_PAYLOAD)


def failure(code: int) -> Fail:
    """Return the failure with a registered code, its name for the reason."""
    return Fail(code, NAMES[code])
