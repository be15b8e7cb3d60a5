"""The command `wsgate publish`, which publishes one message from a shell."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from wsgate.brokers import urls
from wsgate.errors import one_line
from wsgate.printing import write_stdout

VARIABLE = "WSGATE_TOPICS"  # also that of the server's --topics
STDIN = "-"


@click.command(
    context_settings={"max_content_width": 100}, options_metavar="[OPTIONS] [URL] TOPIC TEXT"
)
@click.argument("words", nargs=-1, metavar="")
@click.option("--id", metavar="ID", help="The id of the message in a topic with history.")
def main(words: Sequence[str], id: str | None) -> None:
    """Publish TEXT to a topic of running servers.

    URL is what the servers have as --topics, by default the value of the variable WSGATE_TOPICS.
    With - as TEXT it is read from standard input, without its last line break. The id of the
    message is printed if a history keeps it. The exit status is 1 if the message was not published.
    """
    from wsgate.topics.errors import TopicsError  # noqa: PLC0415  # the server starts without it
    from wsgate.topics.publisher import SyncPublisher  # noqa: PLC0415  # the same

    url, topic, text = _arguments_of(words)
    logging.disable()  # the error says why
    try:
        publisher = SyncPublisher(url or os.environ[VARIABLE])
    except (TopicsError, ValueError) as error:
        _fail(error if url else f"{VARIABLE}: {error}")
    try:
        data = _read_stdin() if text == STDIN else text
        with publisher:
            kept = publisher.publish(topic, data, id=id)
    except (TopicsError, ValueError) as error:
        _fail(error)
    if kept is not None:
        write_stdout(kept + "\n")


def _arguments_of(words: Sequence[str]) -> tuple[str | None, str, str]:
    """Return the URL, None for that of the variable, the topic and the text."""
    match words:
        case url, topic, text if url:
            return url, topic, text
        case _, _, _:
            raise click.UsageError("the URL is empty")
        case topic, text if not _is_url(topic):
            if not os.environ.get(VARIABLE):
                raise click.UsageError(f"the URL is missing: give it, or set {VARIABLE}")
            return None, topic, text
    if len(words) > 3:  # noqa: PLR2004
        raise click.UsageError("too many arguments: a TEXT with spaces needs quotes")
    raise click.UsageError("TOPIC and TEXT are needed")


def _is_url(word: str) -> bool:
    """Return whether a word is a URL and no topic, so that what was left out is something else."""
    return word.startswith(f"{urls.LOCAL}/") or (urls.is_redis(word) and "://" in word)


def _read_stdin() -> str:
    """Return the text of standard input; commands such as echo add a line break to it."""
    if sys.stdin is None:  # the descriptor was closed
        raise ValueError("there is no standard input")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except OSError as error:
        raise ValueError(f"standard input cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8, from byte {error.start + 1} on") from None


def _fail(error: object) -> NoReturn:
    click.echo(f"Error: {one_line(str(error))}", err=True)
    sys.exit(1)
