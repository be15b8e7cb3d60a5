"""The command line of `wsgate ctl`."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from wsgate.ctl import client, screen, tables, top
from wsgate.ctl.client import ControlError, Part
from wsgate.ctl.tables import View
from wsgate.errors import one_line
from wsgate.printing import write_stdout

LIMIT = 100  # connections that are listed by default
TOPICS_LISTED = 50  # by default
MOST_TOPICS = 1_000  # that a server lists
SHORTEST_INTERVAL = 0.1  # seconds between two samples of `top`


class Control:
    """One use of the control socket.

    Args:
        path: Of the socket; None if neither the command line nor the environment names it.
        as_json: Print lines of JSON, not text for people.
    """

    def __init__(self, path: str | None, *, as_json: bool) -> None:
        self._path = path
        self._as_json = as_json

    @property
    def path(self) -> str:
        """The path of the socket. Raises ControlError if there is none."""
        if self._path is None:
            raise ControlError(f"which server? Give --socket PATH, or set {client.VARIABLES[0]}")
        return self._path

    def show(self, view: View, command: str, **arguments: Any) -> None:
        """Send a command and print the answer.

        Args:
            view: Makes the text for people.
            command: Its name.
            arguments: Its arguments; those that are None are left out.

        Raises:
            ControlError: It has failed, or the answer is not complete.
        """
        unanswered: list[int] = []
        parts = _without_signs(client.parts(self.path, command, arguments), unanswered)
        for line in _json_lines(parts) if self._as_json else view(parts):
            write_stdout(line + "\n")
        if unanswered:
            silent = tables.name_workers(unanswered)
            raise ControlError(f"the answer is not complete: no answer from {silent}")

    def print_top(self, query: top.Query, interval: float, *, is_endless: bool) -> None:
        """Print a sample of the connections, or one after the other until Ctrl+C."""
        before: top.Sample | None = None
        while True:
            sample = top.take_sample(self.path, query)
            part = top.report(sample, before, query)
            for line in (json.dumps(part),) if self._as_json else top.lines(part):
                write_stdout(line + "\n")
            if not is_endless:
                return
            before = sample
            time.sleep(interval)

    def watch_top(self, query: top.Query, interval: float) -> None:
        """Show samples of the connections on the terminal until the user presses q or Ctrl+C."""
        before: top.Sample | None = None
        path = self.path
        with screen.opened() as shown:
            while True:
                sample = top.take_sample(path, query)
                shown.draw(top.lines(top.report(sample, before, query)))
                before = sample
                if not shown.wait(interval):
                    return

    @property
    def has_screen(self) -> bool:
        """Whether the output is text for people on a terminal."""
        return sys.stdout.isatty() and not self._as_json


def _without_signs(parts: Iterable[Part], unanswered: list[int]) -> Iterator[Part]:
    """Yield the parts but for signs of life; collect the pids of workers that did not answer."""
    for part in parts:
        unanswered += part.get("unanswered", ())
        if "waiting" not in part:
            yield part


def _json_lines(parts: Iterable[Part]) -> Iterator[str]:
    """Yield a line for each part, and for each connection and each topic of a page."""
    for part in parts:
        yield from map(json.dumps, part.get("connections") or part.get("topics") or (part,))


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--socket"],
            metavar="PATH",
            help=f"The server's control socket.  [default: the variable "
            f"{' or '.join(client.VARIABLES)}]",
        ),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            help="Print lines of JSON, also on a terminal.",
        ),
        click.Option(
            ["--table", "as_table"],
            is_flag=True,
            help="Print text for people, also into a pipe.",
        ),
    ]


class _Command(click.Command):
    """A command of `wsgate ctl`; its options may also stand before its name."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params += _common_options()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with a `Control`; a failure is one line, with the exit status 1."""
        before = {} if ctx.parent is None else ctx.parent.params
        path = ctx.params.pop("socket") or before.get("socket") or client.default_path()
        forms = {form: ctx.params.pop(form) or before.get(form) for form in ("as_json", "as_table")}
        if all(forms.values()):
            raise click.UsageError("--json and --table cannot be used together", ctx)
        as_json = forms["as_json"] or not (forms["as_table"] or sys.stdout.isatty())
        ctx.obj = Control(path, as_json=bool(as_json))
        try:
            return super().invoke(ctx)
        except ControlError as error:
            click.echo(f"Error: {one_line(str(error))}", err=True)
            sys.exit(1)


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose connections."""
    for option in (
        click.option("--worker", type=int, help="Only those of this worker, by its pid or number."),
        click.option("--address", help="Only those of this client or network: 10.0.0.0/8."),
        click.option("--path", metavar="PATTERN", help="Only those with such a path: '/chat/*'."),
    ):
        command = option(command)
    return command


@click.group(params=_common_options(), context_settings={"max_content_width": 100})
def main(**_: Any) -> None:
    """Control a running server, which was started with --control-socket."""


@main.command(cls=_Command)
@click.pass_obj
def status(control: Control) -> None:
    """Show the server and its workers."""
    control.show(tables.status, "status")


@main.command(cls=_Command)
@click.option("--wait", is_flag=True, help="Wait until it is complete or has failed.")
@click.option(
    "--timeout",
    type=int,
    metavar="SECONDS",
    help="Longest wait of --wait. The restart goes on after it.  [default: 600]",
)
@click.pass_obj
def restart(control: Control, wait: bool, timeout: int | None) -> None:
    """Replace each worker by a new one, as SIGHUP does."""
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is for --wait")
    control.show(tables.restart, "restart", wait=wait, timeout=timeout)


@main.command(cls=_Command)
@click.argument("target", metavar="N", type=int)
@click.pass_obj
def scale(control: Control, target: int) -> None:
    """Change the number of workers to N."""
    control.show(tables.scale, "scale", target=target)


@main.command(cls=_Command)
@click.argument("worker", type=int)
@click.pass_obj
def drain(control: Control, worker: int) -> None:
    """Replace one worker; a new one starts first.

    WORKER is its pid or its number.
    """
    control.show(tables.drain, "drain", worker=worker)


@main.command(cls=_Command)
@_filters
@click.option(
    "--limit", type=int, default=LIMIT, show_default=True, help="How many to list; 0 is all."
)
@click.pass_obj
def connections(
    control: Control, path: str | None, address: str | None, worker: int | None, limit: int
) -> None:
    """List the open connections."""
    control.show(
        tables.connections,
        "connections",
        path=path,
        address=address,
        worker=worker,
        limit=limit,
    )


@main.command(cls=_Command)
@click.option("--topic", metavar="PATTERN", help="Only those with such a name: 'room:*'.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_TOPICS),
    default=TOPICS_LISTED,
    show_default=True,
    help="How many to list.",
)
@click.pass_obj
def topics(control: Control, topic: str | None, limit: int) -> None:
    """List the topics with the most subscribers, over all workers."""
    control.show(tables.topics, "topics", topic=topic, limit=limit)


@main.command("top", cls=_Command)
@_filters
@click.option(
    "--sort",
    type=click.Choice(top.SORTS),
    default="bytes",
    show_default=True,
    help="Largest first: bytes and messages per second, round trip of the last Ping, age.",
)
@click.option("--limit", type=click.IntRange(0), default=LIMIT, show_default=True, help="0 is all.")
@click.option(
    "--interval",
    type=click.FloatRange(SHORTEST_INTERVAL),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Pause between two samples.",
)
@click.option("--once", is_flag=True, help="Print one sample.")
@click.pass_obj
def show_top(
    control: Control, /, sort: str, limit: int, interval: float, once: bool, **filters: Any
) -> None:
    """Show the busiest connections, again and again.

    q or Ctrl+C ends it. In a pipe each sample is a line of JSON.
    """
    query = top.Query(filters, sort, limit)
    with contextlib.suppress(KeyboardInterrupt):
        if control.has_screen and not once:
            control.watch_top(query, interval)
        else:
            control.print_top(query, interval, is_endless=not once)


@main.command(cls=_Command)
@click.argument("worker", type=int, required=False)
@click.option("--tasks", is_flag=True, help="Also show where its tasks wait, 100 at most.")
@click.pass_obj
def stack(control: Control, worker: int | None, tasks: bool) -> None:
    """Show what the event loops of workers do now.

    WORKER is the pid or the number of one, all without it. The innermost call is the first.
    """
    control.show(tables.stack, "stack", worker=worker, tasks=tasks or None)


@main.command(cls=_Command)
@click.argument("connection", metavar="ID")
@click.argument("code", type=int, required=False)
@click.argument("reason", required=False)
@click.pass_obj
def close(control: Control, connection: str, code: int | None, reason: str | None) -> None:
    """Close one connection.

    ID is that of the list of connections. A WebSocket gets a Close frame with CODE and REASON, by
    default 1012 (service restart); any other connection is aborted.
    """
    control.show(tables.close, "close", id=connection, code=code, reason=reason)


@main.command("log-level", cls=_Command)
@click.argument("level")
@click.pass_obj
def log_level(control: Control, level: str) -> None:
    """Set the lowest level that is logged.

    It applies to the server and all of its workers, also to those that start later.
    """
    control.show(tables.log_level, "log-level", level=level)
