"""Serves the address of --metrics, by a worker of its own in the same event loop."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from wsgate import loggers
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.metrics import address
from wsgate.process import sockets
from wsgate.process.commands import CommandRefused, Commands, Part, guarded_parts
from wsgate.server.lifecycle import Lifecycle
from wsgate.server.watchdog import NoWatchdog
from wsgate.server.worker import Worker
from wsgate.status.source import Refused

MOST_CONNECTIONS = 64
_LARGEST_REQUEST = 65_536  # bytes of a message of the page
_STOP_TIMEOUT = 1.0  # seconds for requests and pages at the end
_ANY_UNIX_SOCKET = "unix:"  # in --forwarded-allow-ips


class StatusServer:
    """Serves --metrics, from before the start of the server until after its end.

    Args:
        config: The settings of the server, with an address for metrics.
        commands: Executes the commands with which the app asks.

    Attributes:
        names: The addresses, as the log shows them; empty while they are not served.
    """

    def __init__(self, config: Config, commands: Commands) -> None:
        from wsgate.status.app import StatusApp  # noqa: PLC0415  # its library is optional

        self._config = config
        token, grace = config.status_token, config.readyz_broker_grace
        app = StatusApp(CommandSource(commands), token, grace)
        self._own_config = _config_of(config)
        self._lifecycle = Lifecycle(Worker(app, self._own_config), NoWatchdog())
        self._sockets = sockets.OpenSockets()
        self.names: tuple[str, ...] = ()

    async def start(self) -> None:
        """Open the address and serve it. Raises ConfigError."""
        try:
            self._sockets = sockets.open_sockets(self._own_config)
            await self._lifecycle.start(self._sockets.sockets)
        except ConfigError as error:
            self._sockets.close()
            # The text names --host and --port, or --uds, which the operator has not set here.
            reason = str(error).partition(": ")[2] or str(error)
            text = f"--metrics {self._config.metrics}: {reason}"
            raise ConfigError(text, setting="metrics") from None
        self.names = tuple(one.description for one in self._lifecycle.listeners)
        for name in self.names:
            loggers.error.info("Metrics on %s", name)

    async def stop(self) -> None:
        """Stop serving the address."""
        if self.names:
            self.names = ()
            await self._lifecycle.stop(self._sockets)


class CommandSource:
    """The commands of the control socket, as the app asks for them.

    Args:
        commands: Executes them.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def ask(self, command: str, arguments: Mapping[str, Any]) -> AsyncGenerator[Part]:
        """Yield the parts of the answer. Raises Refused."""
        try:
            async for part in guarded_parts(self._commands, command, arguments):
                yield part
        except CommandRefused as refused:
            raise Refused(str(refused)) from None


def _config_of(config: Config) -> Config:
    """Return the settings of the address itself."""
    assert config.metrics is not None  # the caller has checked
    where = address.parse(config.metrics)
    assert where is not None  # the setting was validated
    _check_is_free(config, where)
    return Config(
        host=[where.host] if where.host else [],
        port=where.port if where.host else None,
        uds=[where.path] if where.path else None,
        uds_perms=0o660,
        lifespan="off",
        access_log=False,
        # A proxy that asks for a password and has the TLS: a page's origin is https there.
        proxy_headers=config.proxy_headers,
        forwarded_allow_ips=_trusted_proxies(config, where),
        forwarded_values=config.forwarded_values,
        ws_origins=["same", "none"],  # another site's page must not read it through a browser
        ws_max_size=_LARGEST_REQUEST,
        limit_connections=MOST_CONNECTIONS,
        timeout_graceful_shutdown=_STOP_TIMEOUT,
    )


def _check_is_free(config: Config, where: address.Address) -> None:
    """Raise ConfigError if the server itself is to listen there: its own error would mislead."""
    port = sockets.DEFAULT_PORT if config.port is None else config.port
    has_tcp = bool(config.host) or not (config.uds or config.fd is not None)
    hosts = config.host or (sockets.DEFAULT_HOST,)
    is_taken = where.path in (config.uds or ()) or (
        has_tcp and where.port == port != 0 and where.host in hosts
    )
    if is_taken:
        text = f"--metrics {config.metrics}: the server itself listens there; use another one"
        raise ConfigError(text, setting="metrics")


def _trusted_proxies(config: Config, where: address.Address) -> Sequence[str] | None:
    """Return the proxies whose headers are trusted. On a Unix socket there is nobody else."""
    if where.path:
        return [_ANY_UNIX_SOCKET]
    allowed = config.forwarded_allow_ips
    if allowed is None:
        return None
    return [one for one in allowed if not one.startswith((_ANY_UNIX_SOCKET, "/"))]
