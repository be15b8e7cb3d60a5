"""The command `wsgate publish`, which publishes one message from a shell."""

import logging
import sys

import click

from wsgate.errors import one_line
from wsgate.printing import write_stdout


@click.command(context_settings={"max_content_width": 100})
@click.argument("url")
@click.argument("topic")
@click.argument("text")
@click.option("--id", metavar="ID", help="The id of the message in a topic with history.")
def main(url: str, topic: str, text: str, id: str | None) -> None:
    """Publish TEXT to a topic of running servers.

    URL is what the servers have as --topics. The id of the message is printed if a history keeps
    it. The exit status is 1 if the message was not published.
    """
    from wsgate.topics.errors import TopicsError  # noqa: PLC0415  # the server starts without it
    from wsgate.topics.publisher import SyncPublisher  # noqa: PLC0415  # the same

    logging.disable()  # the error says why
    try:
        with SyncPublisher(url) as publisher:
            kept = publisher.publish(topic, text, id=id)
    except (TopicsError, ValueError) as error:
        click.echo(f"Error: {one_line(str(error))}", err=True)
        sys.exit(1)
    if kept is not None:
        write_stdout(kept + "\n")
