"""What a command writes to stdout, also if that is not possible."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from wsgate.printing import write_stdout

PROGRAM = "from wsgate.printing import write_stdout\nwrite_stdout('x' * 100_000)"


def test_text_is_written_in_utf8() -> None:
    with CliRunner(charset="latin-1").isolation() as (out, *_):
        write_stdout("é\n")
        assert out.getvalue() == "é\n".encode()


def test_a_reader_that_has_left_ends_the_command_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has it")  # noqa: PTH110
def test_a_full_disk_is_an_error_of_the_command() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert b"stdout cannot be written: No space left on device" in done.stderr
