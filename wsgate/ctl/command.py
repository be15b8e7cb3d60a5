"""The command line of `wsgate ctl`."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from wsgate.ctl import client, tables
from wsgate.ctl.client import ControlError, Part
from wsgate.ctl.tables import View
from wsgate.errors import one_line
from wsgate.printing import write_stdout

LIMIT = 100  # connections that are listed by default


class Control:
    """One use of the control socket.

    Args:
        path: Of the socket; None if neither the command line nor the environment names it.
        as_json: Print lines of JSON, not text for people.
    """

    def __init__(self, path: str | None, *, as_json: bool) -> None:
        self._path = path
        self._as_json = as_json

    def show(self, view: View, command: str, **arguments: Any) -> None:
        """Send a command and print the answer.

        Args:
            view: Makes the text for people.
            command: Its name.
            arguments: Its arguments; those that are None are left out.

        Raises:
            ControlError: It has failed, or the answer is not complete.
        """
        if self._path is None:
            raise ControlError(f"which server? Give --socket PATH, or set {client.VARIABLES[0]}")
        unanswered: list[int] = []
        parts = _without_signs(client.parts(self._path, command, arguments), unanswered)
        for line in _json_lines(parts) if self._as_json else view(parts):
            write_stdout(line + "\n")
        if unanswered:
            pids = ", ".join(map(str, unanswered))
            raise ControlError(f"the answer is not complete: no answer from worker {pids}")


def _without_signs(parts: Iterable[Part], unanswered: list[int]) -> Iterator[Part]:
    """Yield the parts but for signs of life; collect the pids of workers that did not answer."""
    for part in parts:
        unanswered += part.get("unanswered", ())
        if "waiting" not in part:
            yield part


def _json_lines(parts: Iterable[Part]) -> Iterator[str]:
    """Yield a line for each part, and for each connection of a page."""
    for part in parts:
        yield from map(json.dumps, part.get("connections", (part,)))


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
@click.option("--path", metavar="PATTERN", help="Only those with such a path: '/chat/*'.")
@click.option("--address", help="Only those of this client or network: 10.0.0.0/8.")
@click.option("--worker", type=int, help="Only those of this worker, by its pid or its number.")
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
