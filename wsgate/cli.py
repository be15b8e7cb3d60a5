"""The command line: the only place that reads argv."""

import platform
import signal
import sys
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, get_args

import click

import wsgate
from wsgate import environment
from wsgate.config import Config, Http, Lifespan, LogLevel, Loop
from wsgate.errors import ConfigError
from wsgate.process.run import run

INTERRUPTED = 128 + signal.SIGINT  # the exit status, as shells have it

_DEFAULTS = Config()
_F = TypeVar("_F", bound=Callable[..., Any])


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    click.echo(
        f"Running wsgate {wsgate.__version__} with {platform.python_implementation()} "
        f"{platform.python_version()} on {platform.system()}"
    )
    context.exit()


class _HeaderType(click.ParamType):  # type: ignore[type-arg]  # not generic in older clicks
    """`Name:value`, as uvicorn takes it; one a line in the environment."""

    name = "NAME:VALUE"
    envvar_list_splitter: ClassVar[str] = "\n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, content = str(value).partition(":")
        if not colon:
            self.fail(f"{value!r} is not of the form NAME:VALUE", param, ctx)
        return name.strip(), content.strip()


class _OctalType(click.ParamType):  # type: ignore[type-arg]  # not generic in older clicks
    """File permissions as chmod takes them: `660`."""

    name = "OCTAL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return int(str(value), 8)
        except ValueError:
            self.fail(f"{value!r} is not an octal number such as 660", param, ctx)


def _members(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(member.strip() for member in value.split(",") if member.strip())


def _option(name: str, text: str, **settings: Any) -> Callable[[_F], _F]:
    """Return an option of the setting that has its name, with that setting's default."""
    setting = name.lstrip("-").split("/")[0].replace("-", "_")
    default = getattr(_DEFAULTS, setting)
    return click.option(
        name,
        cls=environment.Option,
        default=default,
        show_default=default not in (None, ()),
        help=text,
        **settings,
    )


@click.command(context_settings={"max_content_width": 100})
@click.argument("app", cls=environment.Argument)
@_option("--host", "Address to listen on.", type=str)
@_option("--port", "Port to listen on; 0 takes a free one.", type=int)
@_option("--uds", "Listen on a Unix socket instead.", type=str)
@_option(
    "--uds-perms",
    "Permissions of the Unix socket's file.  [default: a stale file's, or 666]",
    type=_OctalType(),
)
@_option("--fd", "Listen on an inherited socket's file descriptor instead.", type=int)
@click.option(
    "--factory",
    cls=environment.Option,
    is_flag=True,
    help="Call APP to get the app; an async factory is awaited.",
)
@click.option(
    "--app-dir",
    cls=environment.Option,
    default="",
    help="Look for APP in this folder.",
    show_default="here",
)
@_option("--lifespan", "The app's lifespan.", type=click.Choice(get_args(Lifespan)))
@_option("--loop", "The event loop.", type=click.Choice(get_args(Loop)))
@_option("--http", "What parses HTTP.", type=click.Choice(get_args(Http)))
@_option("--log-level", "Log this and what is graver.", type=click.Choice(get_args(LogLevel)))
@_option("--access-log/--no-access-log", "Log requests and WebSockets.", is_flag=True)
@_option("--root-path", "Where the app is mounted: put before each path.", type=str)
@_option(
    "--reset-contextvars",
    "Start each call of the app with no context variables, not even the lifespan's.",
    is_flag=True,
)
@_option("--limit-connections", "Connections; 503 above.  [default: by open files]", type=int)
@_option("--limit-connections-per-ip", "Connections from one address; 503 above.", type=int)
@_option("--limit-concurrency", "Requests and WebSockets at a time; 503 above.", type=int)
@click.option(
    "--limit-request-head",
    "--h11-max-incomplete-event-size",
    "limit_request_head",
    cls=environment.Option,
    type=int,
    default=_DEFAULTS.limit_request_head,
    show_default=True,
    help="Bytes of a request's head; 431 above.",
)
@_option(
    "--limit-request-target",
    "Bytes of a request's target; 414 above.  "
    "[default: 8192; if --limit-request-head is raised, the same as that]",
    type=int,
)
@_option(
    "--limit-request-fields",
    "Header fields of a request, and trailer fields; 431 above.  "
    "[default: 100; if --limit-request-head is raised, one for each 64 bytes of it]",
    type=int,
)
@_option("--backlog", "Connections that wait to be accepted.", type=int)
@_option("--timeout-request-body", "Seconds without a byte of a body; then 408.", type=float)
@_option("--timeout-keep-alive", "Seconds between requests.", type=float)
@_option("--timeout-graceful-shutdown", "Seconds for apps to end on shutdown.", type=float)
@_option("--drain-seconds", "Spread the closing of WebSockets on shutdown.", type=float)
@click.option(
    "--ws-origins",
    cls=environment.Option,
    callback=_members,
    default="",
    help="Origins whose pages may connect, with commas between; 403 for others.  [default: any]",
)
@_option(
    "--ws-handshake-timeout", "Seconds for a request's head; for the app's accept.", type=float
)
@_option("--ws-max-size", "Bytes of a WebSocket message; 1009 above.", type=int)
@_option("--ws-max-fragments", "Frames of a WebSocket message; 1009 above.", type=int)
@_option("--ws-max-message-rate", "Messages a second; 1008 above; 0 for any.", type=float)
@_option("--ws-max-message-burst", "Messages at once.  [default: two seconds' worth]", type=int)
@_option("--ws-max-queue", "Messages that wait for the app; reading pauses above.", type=int)
@_option("--ws-max-queue-size", "The same in bytes of memory.", type=int)
@_option("--ws-ping-interval", "Seconds between Pings; 0 for none.", type=float)
@_option("--ws-ping-timeout", "Seconds for a sign of life behind a Ping; then 1011.", type=float)
@_option("--ws-idle-timeout", "Seconds without a message; then 1001; 0 for any.", type=float)
@_option("--ws-max-lifetime", "Seconds of a WebSocket; then 1012; 0 for any.", type=float)
@_option(
    "--ws-send-timeout", "Seconds that a client may be behind in reading; then 1013.", type=float
)
@_option("--ws-close-timeout", "Seconds for the client's Close behind ours.", type=float)
@_option("--ws-per-message-deflate", "Agree to permessage-deflate.", type=bool)
@_option("--ws-deflate-threshold", "Bytes from which messages are compressed.", type=int)
@_option("--ws-deflate-context-takeover", "Keep windows between messages.", type=bool)
@_option("--ws-deflate-window-bits", "The largest window, 9 to 15.", type=int)
@_option(
    "--ws-fast-lane/--no-ws-fast-lane", "Read and write usual frames without wsproto.", is_flag=True
)
@click.option(
    "--header",
    "headers",
    cls=environment.Option,
    multiple=True,
    type=_HeaderType(),
    help="Put into responses; may be given several times.",
)
@_option("--date-header/--no-date-header", "Send the Date header.", is_flag=True)
@_option("--server-header/--no-server-header", "Send the Server header.", is_flag=True)
@click.option(
    "--version",  # not in the environment: WSGATE_VERSION is what an image may call its version
    is_flag=True,
    callback=_print_version,
    expose_value=False,
    is_eager=True,
    help="Print the versions and exit.",
)
def main(app: str, factory: bool, app_dir: str, **options: Any) -> None:
    """Serve the ASGI application APP, "module:attribute".

    Each option may also stand in the environment: --ws-max-size as WSGATE_WS_MAX_SIZE.
    """
    try:
        run(app, factory=factory, app_dir=app_dir, **options)
    except ConfigError as error:
        click.echo(f"Error: {environment.message(error, click.get_current_context())}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:  # before the server took signals over
        sys.exit(INTERRUPTED)
