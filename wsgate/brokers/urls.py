"""The URLs of brokers: what --topics takes."""

MEMORY = "memory:"
LOCAL = "local:"
WANTED = "memory:, local: or local:/path/of/a/socket"


def is_broker_url(url: str) -> bool:
    """Return whether --topics takes a URL."""
    return url in (MEMORY, LOCAL) or (url.startswith(f"{LOCAL}/") and not url.endswith("/"))


def is_local(url: str | None) -> bool:
    """Return whether a hub on this machine is the broker."""
    return url is not None and url.startswith(LOCAL)


def socket_path(url: str) -> str | None:
    """Return the path of the hub's socket, None if the server chooses it."""
    return url.removeprefix(LOCAL) or None
