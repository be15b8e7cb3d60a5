"""Validation of UTF-8 that arrives in pieces, where CPython's decoder reports an error too late."""


def ends_in_surrogate(data: bytes) -> bool:
    """Return whether the last two bytes are the beginning of a surrogate, which UTF-8 excludes.

    ED A0 to ED BF begin a surrogate (RFC 3629 section 3). CPython's incremental decoder waits for
    the third byte before it reports the error; RFC 6455 section 8.1 and Autobahn want it at once.
    """
    return len(data) > 1 and data[-2] == 0xED and data[-1] >= 0xA0  # noqa: PLR2004  # see above
