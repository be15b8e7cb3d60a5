import contextlib
import io
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from wsgate import streams

# -- missing streams -------------------------------------------------------------------------------

OPEN_MISSING = """
import os, sys
from wsgate import streams
streams.open_missing()
streams.open_missing()
files = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
print("printed")
print("error", file=sys.stderr)
assert sys.stdin.read() == ""
assert all(os.get_inheritable(number) for number in range(3))
with open(sys.argv[1], "w") as out:
    print(*files, file=out)
"""


@pytest.mark.parametrize("closed", range(8))
def test_missing_descriptors_are_opened_as_devnull(closed: int, tmp_path: Path) -> None:
    names = ["<", ">", "2>"]
    missing = [bool(closed & 1 << number) for number in range(3)]
    redirections = " ".join(
        f"{n}&-" for n, is_missing in zip(names, missing, strict=True) if is_missing
    )
    path = tmp_path / "files"
    command = [
        "sh",
        "-c",
        f'exec "$@" {redirections}',
        "sh",
        sys.executable,
        "-c",
        OPEN_MISSING,
        str(path),
    ]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=True)
    files = path.read_text().split()
    assert [file == "/dev/null" for file in files] == missing
    assert done.stdout == (b"" if missing[1] else b"printed\n")
    assert done.stderr == (b"" if missing[2] else b"error\n")


REUSED_NUMBER = """
import os, sys
reused = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
assert reused == 1, reused
from wsgate import streams
streams.open_missing()
print("printed", flush=True)
assert os.fstat(1).st_ino == os.stat(sys.argv[1]).st_ino
"""


def test_file_with_the_number_of_stdout_gets_no_prints(tmp_path: Path) -> None:
    path = tmp_path / "database"
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", REUSED_NUMBER, str(path)]
    subprocess.run(command, timeout=60, check=True)
    assert path.read_bytes() == b""


def test_existing_streams_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stdin, sys.stdout, sys.stderr
    streams.open_missing()
    assert (sys.stdin, sys.stdout, sys.stderr) == before


# -- writes that must not block --------------------------------------------------------------------


def test_warning_is_escaped_and_cut_to_one_atomic_write(capfd: pytest.CaptureFixture[str]) -> None:
    streams.warn("é 日本")
    streams.warn("x" * 100_000)
    first, second = capfd.readouterr().err.splitlines()
    assert first == "\\xe9 \\u65e5\\u672c"
    assert second == "x" * (select.PIPE_BUF - 1)


def test_warning_to_a_full_pipe_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, bytes(65_536)):
            pass
    os.set_blocking(writer, True)
    monkeypatch.setattr(streams, "_STDERR", writer)
    streams.warn("lost")
    os.close(writer)
    os.close(reader)


def test_warning_is_dropped_if_stderr_was_closed_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "__stderr__", None)
    streams.warn("lost")
    assert capfd.readouterr().err == ""


FULL = """
import os
from wsgate import streams
reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while os.write(writer, bytes(4096)):
        pass
except BlockingIOError:
    os.set_blocking(writer, True)
os.dup2(writer, 2)
streams.warn("nobody reads it")
os.dup2(writer, 1)
print("nor this")
import sys
streams.flush(sys.stdout)
os.read(reader, 1 << 20)
streams.flush(sys.stdout)
assert os.read(reader, 100) == b"nor this\\n"
os.close(reader)
streams.warn("a broken pipe")
print("a broken pipe")
streams.flush(sys.stdout)
os.close(2)
streams.warn("a closed descriptor")
os._exit(0)
"""


ONE_PAGE = """
import fcntl, os, sys
from wsgate import streams
reader, writer = os.pipe()
os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) - 4096))
assert streams.is_writable(writer) and not streams.can_flush(writer)
os.dup2(writer, 1)
sys.stdout.write("x" * 7000)  # more than a page, less than Python's buffer
streams.flush(sys.stdout)
os.read(reader, 1 << 20)
assert streams.can_flush(writer)
streams.flush(sys.stdout)
assert len(os.read(reader, 1 << 20)) == 7000
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has F_GETPIPE_SZ")
def test_pipe_with_room_for_one_page_is_not_flushed_to() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    subprocess.run([sys.executable, "-c", ONE_PAGE], env=environment, timeout=60, check=True)


def test_full_broken_and_closed_pipes_neither_block_nor_raise() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    subprocess.run([sys.executable, "-c", FULL], env=environment, timeout=60, check=True)


def test_flush_ignores_streams_without_a_descriptor() -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (io.StringIO(), closed, None, object()):
        streams.flush(stream)  # type: ignore[arg-type]


def test_flush_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("w") as stream:
        stream.write("printed")
        streams.flush(stream)
        assert path.read_text() == "printed"
    with Path(os.devnull).open("w") as stream:
        streams.flush(stream)
