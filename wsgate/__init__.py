"""wsgate: a WebSocket-first ASGI server."""

from wsgate._version import __version__
from wsgate.config import Config
from wsgate.errors import (
    ClientDisconnected,
    ConfigError,
    IllegalMessage,
    InvalidMessage,
    StartupFailed,
    WsgateError,
)
from wsgate.process.run import run, serve
from wsgate.process.server import Server

__all__ = [
    "ClientDisconnected",
    "Config",
    "ConfigError",
    "IllegalMessage",
    "InvalidMessage",
    "Server",
    "StartupFailed",
    "WsgateError",
    "__version__",
    "run",
    "serve",
]
