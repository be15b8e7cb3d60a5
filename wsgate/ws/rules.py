"""The rules that bad data from a client breaks, as phrases for logs."""

MASK = "a frame without a mask (RFC 6455 section 5.1)"
OPCODE = "a frame with an unknown opcode (RFC 6455 section 5.2)"
RESERVED_BIT = "a frame with a reserved bit that no extension defines (RFC 6455 section 5.2)"
LENGTH = "a frame whose length is not in its shortest form (RFC 6455 section 5.2)"
HUGE_LENGTH = "a frame whose length has its highest bit set (RFC 6455 section 5.2)"
FIRST_FRAGMENT = "a continuation frame without a message before it (RFC 6455 section 5.4)"
INTERLEAVED = "a new message between the fragments of another one (RFC 6455 section 5.4)"
CONTROL_FRAGMENT = "a control frame in fragments (RFC 6455 section 5.5)"
CONTROL_SIZE = "a control frame of more than 125 bytes (RFC 6455 section 5.5)"
CLOSE_SIZE = "a Close frame of one byte (RFC 6455 section 5.5.1)"
CLOSE_CODE = "a Close frame with a code that must not be sent (RFC 6455 section 7.4)"
CLOSE_REASON = "a Close frame whose reason is not UTF-8 (RFC 6455 section 5.5.1)"
UTF8 = "a text message that is not UTF-8 (RFC 6455 section 8.1)"
DEFLATE = "a compressed message that cannot be inflated (RFC 7692 section 7.2.2)"
SIZE = "a message of more bytes than --ws-max-size"
FRAGMENTS = "a message of more fragments than --ws-max-fragments"

# How wsproto's text begins -> the rule. Its texts are not part of its interface: one that is not
# here names no rule. A test has a frame for each rule.
_BEGINNINGS = {
    "Invalid opcode": OPCODE,
    "Invalid attempt to fragment control frame": CONTROL_FRAGMENT,
    "Control frame with payload len": CONTROL_SIZE,
    "Payload length used": LENGTH,
    "8-byte payload length": HUGE_LENGTH,
    "server received unexpected unmasked frame": MASK,
    "Reserved bit set": RESERVED_BIT,
    "unexpected CONTINUATION": FIRST_FRAGMENT,
    "expected CONTINUATION": INTERLEAVED,
    "'utf-8' codec": UTF8,
}


def rule_of(wsproto_text: str) -> str:
    """Return the rule that wsproto's error is about, empty if it is not known."""
    for beginning, rule in _BEGINNINGS.items():
        if wsproto_text.startswith(beginning):
            return rule
    return ""
