import os
import threading
from pathlib import Path

import pytest

from wsgate.text_file import MAX_SIZE, read_text


def test_text_is_returned_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("é\r\n\nb".encode())
    assert read_text(path) == read_text(str(path)) == "é\r\n\nb"


def test_a_file_may_be_as_large_as_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * MAX_SIZE)
    assert len(read_text(path)) == MAX_SIZE
    path.write_bytes(b"a" * (MAX_SIZE + 1))
    with pytest.raises(ValueError, match=r"^it is larger than 1 MiB$"):
        read_text(path)


def test_a_device_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="larger"):
        read_text("/dev/zero")


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("port = 1",))
    writer.start()
    assert read_text(path) == "port = 1"
    writer.join()


@pytest.mark.parametrize(
    ("data", "line"), [(b"\xff", 1), (b"a\n\nb\xc3", 3), (b"\n\xed\xa0\x80", 2)]
)
def test_other_encodings_are_refused_with_the_line(tmp_path: Path, data: bytes, line: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^line {line} is not UTF-8$"):
        read_text(path)


def test_a_missing_file_and_a_folder_are_errors_of_the_system(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(OSError, match="directory"):
            read_text(path)
