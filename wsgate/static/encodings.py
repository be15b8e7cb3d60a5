"""Content negotiation: which compressed file may be sent (RFC 9110 section 12.5.3)."""

import re
from functools import lru_cache

from wsgate.fields import list_members

# RFC 9110 section 12.4.2: qvalue = ( "0" [ "." *3DIGIT ] ) / ( "1" [ "." *3("0") ] )
_WEIGHT = re.compile(rb"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
# Content codings in the order of preference, and what a file's name ends with.
_SUFFIXES = {b"br": ".br", b"gzip": ".gz"}
_ALIASES = {b"x-gzip": b"gzip"}  # RFC 9110 section 8.4.1.3


@lru_cache(maxsize=64)
def acceptable_encodings(accepted: bytes) -> tuple[tuple[bytes, str], ...]:
    """Return the content codings that a client prefers to none, the best first.

    Each comes with the suffix of files in that coding. accepted: the value of Accept-Encoding.
    """
    weights = _weights(accepted)
    anything = weights.get(b"*", 0.0)
    # Without a weight of its own, identity is the last resort.
    lowest = max(weights.get(b"identity", 0.0), 0.001)
    found = [(weights.get(coding, anything), coding) for coding in _SUFFIXES]
    found = [pair for pair in found if pair[0] >= lowest]
    found.sort(key=lambda pair: -pair[0])
    return tuple((coding, _SUFFIXES[coding]) for _, coding in found)


def _weights(accepted: bytes) -> dict[bytes, float]:
    weights = {}
    for member in list_members(accepted.lower()):
        coding, semicolon, parameter = member.partition(b";")
        weight = _WEIGHT.fullmatch(parameter.strip(b" \t")) if semicolon else None
        if weight is not None or not semicolon:  # a malformed weight accepts nothing
            coding = coding.strip(b" \t")
            weights[_ALIASES.get(coding, coding)] = float(weight[1]) if weight else 1.0
    return weights
