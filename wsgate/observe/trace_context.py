"""The ids of a `traceparent` header (W3C Trace Context, section 3.2)."""

import re
from collections.abc import Iterable

from wsgate.types import Header

# Version, trace id, id of the caller's span, flags, and what only a later version may have.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*+)?",
    re.DOTALL,
)


def trace_ids(headers: Iterable[Header]) -> tuple[str, str] | None:
    """Return the trace id and the id of the caller's span; None without a valid header.

    Several such headers are none, as the specification wants it.
    """
    found = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(found[0]) if len(found) == 1 else None
    if match is None:
        return None
    version, trace, span, more = match.groups()
    if version == b"00" and more is not None:
        return None
    return trace.decode(), span.decode()
