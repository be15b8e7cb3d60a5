"""Reads small text files that the operator names."""

import os
from pathlib import Path

MAX_SIZE = 1024 * 1024  # bytes


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file, with its line breaks as they are.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8, or is larger than 1 MiB: a device may never end.
    """
    with Path(path).open("rb") as file:
        data = file.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise ValueError("it is larger than 1 MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8") from None
