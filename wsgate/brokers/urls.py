"""The URLs of brokers: what --topics takes."""

import re

MEMORY = "memory:"
LOCAL = "local:"
REDIS = ("redis:", "rediss:", "redis+sentinel:", "redis+cluster:")
WANTED = (
    f"memory:, local:, local:/path/of/a/socket, a URL of {', '.join(REDIS)}, or module:function"
)
_IMPORT = re.compile(r"(?!(?:memory|local|rediss?):)[^\W\d]\w*(?:\.\w+)*:[^\W\d]\w*(?:\.\w+)*")


def is_broker_url(url: str) -> bool:
    """Return whether --topics takes a URL."""
    if is_redis(url) or is_custom(url):  # whoever connects checks the rest of it
        return True
    return url in (MEMORY, LOCAL) or (url.startswith(f"{LOCAL}/") and not url.endswith("/"))


def is_redis(url: str) -> bool:
    """Return whether a Redis is the broker."""
    return url.startswith(REDIS)


def is_custom(url: str) -> bool:
    """Return whether a function of the user's makes the broker: "module:function"."""
    return _IMPORT.fullmatch(url) is not None


def is_local(url: str | None) -> bool:
    """Return whether a hub on this machine is the broker."""
    return url is not None and url.startswith(LOCAL)


def socket_path(url: str) -> str | None:
    """Return the path of the hub's socket, None if the server chooses it."""
    return url.removeprefix(LOCAL) or None
