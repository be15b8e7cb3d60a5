"""The address of the metrics, as --metrics takes it."""

import re
from typing import NamedTuple

WANTED = "HOST:PORT such as 127.0.0.1:9464, or unix:PATH"
_UNIX = "unix:"
_MOST = 65_535
_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\[\]:/\s]+)):(?P<port>\d{1,5})"
)


class Address(NamedTuple):
    """Where metrics are served. path: of a Unix socket; then the host is empty and the port 0."""

    host: str
    port: int
    path: str = ""


def parse(text: str) -> Address | None:
    """Return the address that a text names, None if it names none."""
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        return Address("", 0, path) if path and "\0" not in path else None
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None or int(found["port"]) > _MOST:
        return None
    return Address(found["v6"] or found["host"], int(found["port"]))
