"""Writes what a command prints to stdout; each failure is one line or a quiet exit."""

import os
import sys

import click


def write_stdout(text: str) -> None:
    """Write to stdout, always in UTF-8, which TOML has to be in.

    A reader that has left, as in `wsgate --help | head`, has what it wanted.

    Raises:
        ClickException: It cannot be written.
        SystemExit: The reader has left.
    """
    try:
        click.echo(text.encode(), nl=False)
    except BrokenPipeError:
        _discard_stdout()
        sys.exit(1)
    except OSError as error:
        _discard_stdout()
        raise click.ClickException(f"stdout cannot be written: {error.strerror}") from None


def _discard_stdout() -> None:
    """Connect stdout to /dev/null, or Python fails at its exit to write what is still buffered."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
