import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process import sockets, unix_socket
from wsgate.server.listener import name_of

PATH = "app.sock"
PATIENCE = 60.0  # seconds for a process on a loaded machine
IN_USE = "--uds app.sock is in use by another server"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a new folder, so that a Unix socket's path stays short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """Let no socket wait for long that should not wait at all."""
    socket.setdefaulttimeout(30)
    yield
    socket.setdefaulttimeout(None)


@contextlib.contextmanager
def listening(path: str = PATH, **options: Any) -> Iterator[sockets.OpenSockets]:
    opened = sockets.open_sockets(Config(uds=path, **options))
    try:
        yield opened
    finally:
        opened.close()


def told(path: str = PATH, **options: Any) -> str:
    """Return what `listen` says of a path where it cannot."""
    with pytest.raises(ConfigError) as raised, listening(path, **options):
        pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


def other(kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket of another server, bound to the path."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(PATH)
    return sock


def leave_stale(mode: int) -> None:
    """Leave what a server that crashed leaves."""
    with other():
        Path(PATH).chmod(mode)


def is_reached(sock: socket.socket) -> bool:
    """Tell whether a client that connects to the path comes to this socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(PATH)
        with contextlib.closing(sock.accept()[0]) as accepted:
            accepted.sendall(b"x")
        return client.recv(1) == b"x"


def mode_of(path: str = PATH) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116


# -- the file --------------------------------------------------------------------------------------


def test_a_unix_socket_is_there_for_everyone_and_listens(here: Path) -> None:
    with listening() as opened:
        (sock,) = opened.sockets
        assert (here / PATH).is_socket()
        assert mode_of() == 0o666
        assert name_of(sock) == "unix socket app.sock"
        assert is_reached(sock)
    assert list(here.iterdir()) == []


def test_a_path_may_be_used_again_after_a_stop() -> None:
    for _ in range(2):
        with listening() as opened:
            assert is_reached(opened.sockets[0])


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o777, 0])
def test_a_mode_is_set(mode: int) -> None:
    with listening(uds_perms=mode):
        assert mode_of() == mode


def test_the_umask_of_the_process_does_not_matter() -> None:
    before = os.umask(0o077)
    try:
        with listening(uds_perms=0o666):
            assert mode_of() == 0o666
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_nobody_connects_before_the_mode_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    chmod = os.chmod

    def connecting(path: str, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            results.append(client.connect_ex(path))
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", connecting)
    with listening(uds_perms=0o600):
        assert results == [errno.ECONNREFUSED]


@pytest.mark.parametrize(("perms", "mode"), [(None, 0o640), (0o600, 0o600)])
def test_the_mode_of_a_stale_file_is_kept(perms: int | None, mode: int) -> None:
    leave_stale(0o640)
    with listening(uds_perms=perms) as opened:
        assert mode_of() == mode
        assert is_reached(opened.sockets[0])


# -- what is in use --------------------------------------------------------------------------------


def test_the_socket_of_a_server_that_runs_is_not_replaced() -> None:
    with other() as running:
        running.listen()
        assert told() == IN_USE
        running.accept()[0].close()  # the one that asked
        assert is_reached(running)


def test_nor_is_that_of_one_that_has_not_started_yet() -> None:
    with listening() as opened:
        assert told() == IN_USE
        opened.sockets[0].accept()[0].close()  # the one that asked
        assert is_reached(opened.sockets[0])


def test_nor_is_that_of_one_that_is_too_busy_to_answer() -> None:
    with other() as busy, contextlib.ExitStack() as clients:
        busy.listen(0)
        while True:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(PATH):
                break
        assert told() == IN_USE


def test_nor_is_that_of_something_that_takes_datagrams() -> None:
    with other(socket.SOCK_DGRAM) as log:
        assert told() == IN_USE
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"log", PATH)
        assert log.recv(3) == b"log"


def test_a_file_is_not_replaced(here: Path) -> None:
    (here / PATH).write_text("mine")
    assert told() == "--uds app.sock exists and is no socket"
    assert (here / PATH).read_text() == "mine"


def test_a_link_is_not_replaced(here: Path) -> None:
    (here / PATH).symlink_to("nowhere")
    assert told() == "--uds app.sock exists and is no socket"
    assert (here / PATH).is_symlink()


def test_a_socket_that_may_not_be_asked_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_stale(0o600)
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.EACCES)
    assert told() == f"--uds app.sock: {os.strerror(errno.EACCES)}"
    assert Path(PATH).is_socket()


def test_a_stale_file_that_was_replaced_meanwhile_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_stale(0o600)
    with contextlib.ExitStack() as late:

        def refuse(*_: object) -> int:
            """Let another server replace the file as soon as the stale one has been probed."""
            os.rename(PATH, "stale.sock")  # noqa: PTH104  # it keeps its inode
            late.enter_context(other())
            return errno.ECONNREFUSED

        monkeypatch.setattr(socket.socket, "connect_ex", refuse)
        assert told() == IN_USE
        assert Path(PATH).is_socket()


def test_a_stale_file_that_is_removed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_stale(0o600)
    connect = socket.socket.connect_ex

    def remove(sock: socket.socket, address: Any) -> int:
        os.unlink(PATH)  # noqa: PTH108
        return connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect_ex", remove)
    with listening():
        assert mode_of() == 0o666


def test_of_servers_that_start_at_once_on_a_stale_file_one_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unix_socket, "LOCK_TIMEOUT", PATIENCE)
    count = 4
    for _ in range(50):
        leave_stale(0o600)
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(count))
            start = threading.Barrier(count)

            def listen(start: threading.Barrier = start) -> sockets.OpenSockets | str:
                start.wait(PATIENCE)
                try:
                    return sockets.open_sockets(Config(uds=PATH))
                except ConfigError as error:
                    return str(error)

            results = [task.result() for task in [pool.submit(listen) for _ in range(count)]]
            winners = [result for result in results if isinstance(result, sockets.OpenSockets)]
            for winner in winners:
                stack.callback(winner.close)
            assert [result for result in results if result not in winners] == [IN_USE] * (count - 1)
            (sock,) = winners[0].sockets
            for _ in range(count - 1):
                sock.accept()[0].close()  # those that asked
            assert is_reached(sock)


def test_a_folder_that_someone_keeps_locked_is_used(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_socket, "LOCK_TIMEOUT", 0.01)
    folder = os.open(here, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with listening() as opened:
            assert is_reached(opened.sockets[0])
    finally:
        os.close(folder)


def test_a_folder_whose_file_system_has_no_locks_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with listening() as opened:
        assert is_reached(opened.sockets[0])


def test_a_folder_that_may_not_be_read_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", fail)
    with listening() as opened:
        assert is_reached(opened.sockets[0])


# -- removing it -----------------------------------------------------------------------------------


def test_the_file_is_removed_although_the_app_changes_its_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening():
        monkeypatch.chdir("/")
    assert not (here / PATH).exists()


def test_a_file_of_another_server_is_not_removed() -> None:
    with contextlib.ExitStack() as second:
        with listening():
            os.unlink(PATH)  # noqa: PTH108
            opened = second.enter_context(listening())
        assert is_reached(opened.sockets[0])
    assert not Path(PATH).exists()


def test_a_file_of_another_kind_is_not_removed(here: Path) -> None:
    with listening():
        (here / PATH).unlink()
        (here / PATH).write_text("mine")
    assert (here / PATH).read_text() == "mine"


def test_a_folder_in_its_place_is_not_removed(here: Path) -> None:
    with listening():
        (here / PATH).unlink()
        (here / PATH).mkdir()
    assert (here / PATH).is_dir()


def test_a_file_that_is_gone_is_none_to_remove(here: Path) -> None:
    with listening():
        (here / PATH).unlink()
    assert list(here.iterdir()) == []


def test_a_file_that_may_not_be_removed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch, listening():
        patch.setattr(os, "unlink", fail)
    assert Path(PATH).is_socket()


def test_a_file_is_removed_once() -> None:
    with listening() as opened:
        opened.close()
        with other():
            opened.close()
            assert Path(PATH).is_socket()


def test_a_forked_child_does_not_remove_the_file() -> None:
    script = """if True:
        import os
        from wsgate.config import Config
        from wsgate.process.sockets import open_sockets

        listening = open_sockets(Config(uds="app.sock"))
        if (child := os.fork()) == 0:
            listening.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert os.path.exists("app.sock"), "the child has removed it"
        listening.close()
        assert not os.path.exists("app.sock")
    """
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere/app.sock", os.strerror(errno.ENOENT)),
        ("file/app.sock", os.strerror(errno.ENOTDIR)),
        ("", os.strerror(errno.ENOENT)),
        ("x" * 200, "AF_UNIX path too long"),
        ("x" * 300, os.strerror(errno.ENAMETOOLONG)),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_a_path_that_cannot_be(here: Path, path: str, reason: str) -> None:
    (here / "file").touch()
    assert told(path) == f"--uds {path}: {reason}"


def test_a_path_with_a_null_character() -> None:
    assert re.fullmatch("--uds a\0b: .*embedded null.*", told("a\0b"))


NOT_ALLOWED = [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EADDRINUSE]


@pytest.mark.parametrize("number", NOT_ALLOWED, ids=errno.errorcode.get)
def test_a_folder_that_takes_no_socket(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", fail)
    assert told() == f"--uds app.sock: {os.strerror(number)}"


def test_a_stale_file_that_may_not_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    leave_stale(0o600)
    monkeypatch.setattr(os, "unlink", fail)
    assert told() == f"--uds app.sock: {os.strerror(errno.EROFS)}"


@pytest.mark.parametrize(("owner", "name"), [(os, "chmod"), (socket.socket, "listen")])
def test_a_socket_that_fails_after_its_bind_leaves_no_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(owner, name, denied)
    assert told() == f"--uds app.sock: {os.strerror(errno.EPERM)}"
    assert list(here.iterdir()) == []


@pytest.fixture
def tmpfs(here: Path) -> Iterator[Path]:
    """Mount a file system that has room for one file, where this process may."""
    place = here / "small"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mounting, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk(tmpfs: Path) -> None:
    (tmpfs / "file").touch()
    assert told("small/s") == f"--uds small/s: {os.strerror(errno.ENOSPC)}"


def test_a_disk_that_may_only_be_read(tmpfs: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("small/stale")
    subprocess.run(["mount", "-o", "remount,ro", tmpfs], check=True)
    for path in ("small/s", "small/stale"):
        assert told(path) == f"--uds {path}: {os.strerror(errno.EROFS)}"
