"""No path reaches a file outside of the folder, whatever it holds and whatever is asked for."""

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.harness.log import capture_log
from wsgate.observe.throttled_log import throttled
from wsgate.static.lookup import SMALL_FILE, FoundFile, FoundFolder, names_of, open_file

SECRET = b"secret"


def fill(folder: Path) -> Path:
    """Create a folder to serve, and files around it; return its path."""
    root = folder / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (folder / "outside").mkdir()
    (folder / "root-like").mkdir()
    for path in ("a.txt", "sub/b.txt", "sub/deep/c.txt", "with space", "gr\u00fc\u00df.txt"):
        (root / path).write_bytes(path.encode())
    for path in ("root/.env", "root/.git/config", "outside/o.txt", "top.txt", "root-like/o.txt"):
        (folder / path).write_bytes(SECRET)
    links = {
        "inner.txt": "a.txt",
        "inner": "sub",
        "self": ".",
        "absolute.txt": str(root / "sub" / "b.txt"),
        "sub/up.txt": "../a.txt",
        "there-and-back.txt": "../root/a.txt",
        "out.txt": "../top.txt",
        "out": "../outside",
        "out-like": "../root-like",
        "out-absolute": str(folder),
        "sub/out.txt": "../../top.txt",
        "chain.txt": "out.txt",
        "loop.txt": "loop.txt",
        "broken.txt": "nothing",
        "data.txt": ".data/file",  # as Kubernetes mounts a ConfigMap
        ".data": ".2026",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / ".2026").mkdir()
    (root / ".2026" / "file").write_bytes(b"data")
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield fill(Path(folder))


def look_up(root: Path, path: str) -> bytes | str | None:
    """Return the content of what is found, "folder" for a folder, None for nothing."""
    names = names_of(path)
    if names is None or not names[-1]:
        return None
    found = open_file(str(root), names)
    if isinstance(found, FoundFolder):
        return "folder"
    if found is None:
        return None
    found.read()
    assert found.descriptor == -1
    return found.data


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/a.txt", b"a.txt"),
        ("/sub/b.txt", b"sub/b.txt"),
        ("/sub/deep/c.txt", b"sub/deep/c.txt"),
        ("/with space", b"with space"),
        ("/gr\u00fc\u00df.txt", "gr\u00fc\u00df.txt".encode()),
        ("/sub", "folder"),
        ("/inner.txt", b"a.txt"),
        ("/inner/b.txt", b"sub/b.txt"),
        ("/inner/deep", "folder"),
        ("/self", "folder"),
        ("/self/self/a.txt", b"a.txt"),
        ("/absolute.txt", b"sub/b.txt"),
        ("/sub/up.txt", b"a.txt"),
        ("/there-and-back.txt", b"a.txt"),
        ("/data.txt", b"data"),
    ],
)
def test_files_below_the_folder_are_found(root: Path, path: str, content: object) -> None:
    assert look_up(root, path) == content


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/.env",
            "/.git/config",
            "/.git",
            "/.data/file",
            "/sub/.",
            "/sub/..",
            "/.",
            "/..",
            "/...",
        ),
        *("/../top.txt", "/sub/../../top.txt", "/../root/a.txt", "/sub/./b.txt"),
        *("//a.txt", "/sub//b.txt", "//etc/passwd", "/sub///b.txt"),
        *("/out.txt", "/out/o.txt", "/out", "/out-like/o.txt", "/out-absolute/top.txt"),
        *("/sub/out.txt", "/chain.txt", "/loop.txt", "/broken.txt", "/inner/out.txt"),
        *("/fifo", "/nothing", "/a.txt/", "/a.txt/b", "/nothing/a.txt", "/fifo/a"),
        *("/a.txt\0", "/\0", "/sub\0/b.txt", "/a.txt\0.png"),
        *("/%2e%2e/top.txt", "/..%2ftop.txt", "/..\\top.txt", "/\ufffd", "/\udc80", "/\ud800"),
        *("/" + "a" * 256, "/" + "a/" * 5_000 + "b", "/" + "a" * 100_000),
        *("", "a.txt", "../top.txt", "/etc/passwd"),
    ],
)
def test_nothing_else_is_found(root: Path, path: str) -> None:
    assert look_up(root, path) is None


PARTS = st.sampled_from(
    [
        *("", ".", "..", "...", "a.txt", "b.txt", "sub", "deep", "self", "inner", "out", "out.txt"),
        *("out-like", "out-absolute", "chain.txt", "top.txt", "o.txt", "root", "outside"),
        *("root-like", ".git", ".env", ".data", "%2e%2e", "..%2f", "\0", "fifo", "loop.txt"),
    ]
)


@settings(max_examples=500)
@given(st.lists(st.one_of(PARTS, st.text(max_size=5)), max_size=8).map("/".join))
def test_no_path_leads_out_of_the_folder(root: Path, path: str) -> None:
    for each in (path, "/" + path):
        content = look_up(root, each)
        assert content != SECRET
        if isinstance(content, bytes) and content != b"data":
            assert (root / content.decode()).is_file()


def test_the_folder_itself_may_be_a_link_that_is_replaced(tmp_path: Path) -> None:
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "a.txt").write_text(release)
        (tmp_path / release / "link.txt").symlink_to("a.txt")
        (tmp_path / "new").symlink_to(release)
        (tmp_path / "new").replace(tmp_path / "current")
        assert look_up(tmp_path / "current", "/a.txt") == release.encode()
        assert look_up(tmp_path / "current", "/link.txt") == release.encode()


def test_the_root_of_the_file_system_can_be_served(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "link.txt").symlink_to("a.txt")
    for name in ("a.txt", "link.txt"):
        assert look_up(Path("/"), str(tmp_path.resolve() / name)) == b"a"


def test_a_link_that_is_put_in_place_after_the_check_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = os.path.realpath

    def swap(path: Any, **options: Any) -> str:
        """Return what the link was; by now it leads out."""
        found = resolve(path, **options)
        return os.path.join(root, "out", "o.txt") if "inner" in str(path) else found  # noqa: PTH118

    monkeypatch.setattr(os.path, "realpath", swap)
    assert look_up(root, "/inner/b.txt") is None


def test_sockets_and_devices_are_not_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    open_ = os.open

    def spy(path: str, *arguments: Any, **options: Any) -> int:
        opened.append(path)
        return open_(path, *arguments, **options)

    monkeypatch.setattr(os, "open", spy)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "socket"))
        assert look_up(root, "/socket") is None
        (root / "socket").unlink()
    assert look_up(root, "/fifo") is None
    assert look_up(Path("/dev"), "/zero") is None
    assert not {"socket", "fifo", "zero"} & {*opened}


def test_a_file_that_becomes_a_fifo_meanwhile_is_closed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ = os.open

    def swap(path: str, *arguments: Any, **options: Any) -> int:
        return open_("fifo" if path == "a.txt" else path, *arguments, **options)

    monkeypatch.setattr(os, "open", swap)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert look_up(root, "/a.txt") is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_a_file_without_permission_is_logged_and_not_found(
    root: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(code, os.strerror(code))

    throttled.forget()
    monkeypatch.setattr(os, "open", refuse)
    with capture_log() as log:
        assert look_up(root, "/a.txt") is None
        assert look_up(root, "/a.txt") is None
    assert log.problems == [f"Static files: permission denied below {root}"]


def test_a_failure_of_the_system_is_not_a_missing_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="Too many open files"):
        look_up(root, "/a.txt")


def test_a_large_file_stays_open(tmp_path: Path) -> None:
    for size in (SMALL_FILE, SMALL_FILE + 1):
        (tmp_path / "file").write_bytes(b"x" * size)
        found = open_file(str(tmp_path), ["file"])
        assert isinstance(found, FoundFile)
        found.read()
        assert (found.size, found.data is None) == (size, size > SMALL_FILE)
        assert (found.descriptor >= 0) == (size > SMALL_FILE)
        found.close()
        found.close()
