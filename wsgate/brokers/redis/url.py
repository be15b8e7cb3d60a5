"""The URL of a Redis or Valkey: parsed and checked, without a connection."""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_DEFAULT_PORT = 6379
_SENTINEL_PORT = 26379
_MAX_PORT = 65535
_MAX_DATABASE = 2**31 - 1
_OPTIONS = ("tls", "ca", "verify", "sentinel_password")

Address = tuple[str, int]


class Kind(Enum):
    """How the servers are found: at one address, by Sentinels, or as a Redis Cluster."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


SCHEMES = {
    "redis": Kind.SINGLE,
    "rediss": Kind.SINGLE,
    "redis+sentinel": Kind.SENTINEL,
    "redis+cluster": Kind.CLUSTER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """Where a Redis is, and how to connect to it.

    kind: how the servers are found. addresses: of the server, the Sentinels, or some servers of the
    cluster. database: its number. service: the name of the master that the Sentinels know. ca: a
    file with the certificates that are trusted; None for those of the system. verifies: whether
    certificates are checked.
    """

    kind: Kind
    addresses: tuple[Address, ...]
    database: int = 0
    username: str | None = None
    password: str | None = None
    service: str = ""
    is_secure: bool = False
    ca: str | None = None
    verifies: bool = True
    sentinel_password: str | None = None

    def __str__(self) -> str:
        """Return the addresses, without user and password."""
        servers = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"{servers}/{self.service}" if self.service else servers


def parse_redis_url(text: str) -> RedisUrl:
    """Return the checked parts of a URL.

    Args:
        text: `redis://[user:password@]host[:port][/database]`, the same with `rediss://` for TLS,
            `redis+sentinel://[user:password@]host[:port],.../service[/database]` or
            `redis+cluster://[user:password@]host[:port],...`; with `?tls=true`, `?ca=FILE`,
            `?verify=false` and `?sentinel_password=...`.

    Raises:
        ValueError: It is malformed. The message is one line, without the password.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("the URL is malformed") from None
    kind = SCHEMES.get(parts.scheme)
    if kind is None:
        raise ValueError(f"unknown scheme: use {', '.join(f'{name}://' for name in SCHEMES)}")
    if parts.fragment:
        raise ValueError("a # in the URL: write %23 in a password")
    username, password, servers = _split_authority(parts.netloc)
    service, database = _path(parts, kind)
    options = _options(parts.query)
    return RedisUrl(
        kind=kind,
        addresses=_addresses(servers, kind),
        database=database,
        username=username,
        password=password,
        service=service,
        is_secure=parts.scheme == "rediss" or _switch(options, "tls", default=False),
        ca=options.get("ca"),
        verifies=_switch(options, "verify", default=True),
        sentinel_password=options.get("sentinel_password"),
    )


def _split_authority(text: str) -> tuple[str | None, str | None, str]:
    credentials, _, servers = text.rpartition("@")
    username, _, password = credentials.partition(":")
    return unquote(username) or None, unquote(password) or None, servers


def _addresses(text: str, kind: Kind) -> tuple[Address, ...]:
    default = _SENTINEL_PORT if kind is Kind.SENTINEL else _DEFAULT_PORT
    addresses = tuple(_address(one, default) for one in text.split(","))
    if kind is Kind.SINGLE and len(addresses) > 1:
        raise ValueError("several addresses: use redis+sentinel:// or redis+cluster://")
    return addresses


def _address(text: str, default: int) -> Address:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\s]+)(?::([0-9]{1,5}))?", text)
    if match is None:
        raise ValueError(f"malformed address {text!r}: write host:port")
    port = int(match[2] or default)
    if not 0 < port <= _MAX_PORT:
        raise ValueError(f"a port is from 1 to {_MAX_PORT}, not {port}")
    return match[1].strip("[]"), port


def _path(parts: SplitResult, kind: Kind) -> tuple[str, int]:
    words = [unquote(word) for word in parts.path.split("/")[1:]]
    if words and not words[-1]:
        words.pop()
    service = ""
    if kind is Kind.SENTINEL:
        if not words:
            raise ValueError("the name of the service is missing: redis+sentinel://host/service")
        service = words.pop(0)
    if kind is Kind.CLUSTER and words:
        raise ValueError("a cluster has no databases: leave out the path")
    if len(words) > 1:
        raise ValueError(f"the path has too many parts: {parts.path!r}")
    return service, _database(words[0]) if words else 0


def _database(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) > _MAX_DATABASE:
        raise ValueError(f"the database must be a number, not {text!r}")
    return int(text)


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise ValueError(f"unknown option {name!r}: there are {', '.join(_OPTIONS)}")
        if name in options:
            raise ValueError(f"the option {name!r} is given twice")
        options[name] = value
    return options


def _switch(options: dict[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name, str(default).lower())
    if text not in {"true", "false"}:
        raise ValueError(f"{name} must be true or false, not {text!r}")
    return text == "true"
