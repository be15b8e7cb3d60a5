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
TIMEOUT = 60.0  # seconds for a process on a loaded machine
IN_USE = "--uds app.sock is in use by another server"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a new folder, so that the socket's path is short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _socket_timeout() -> Iterator[None]:
    """Make sockets that should not block fail instead of blocking the tests."""
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


def listen_error(path: str = PATH, **options: Any) -> str:
    """Return the error of `listen` for a path."""
    with pytest.raises(ConfigError) as raised, listening(path, **options):
        pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


def foreign_socket(kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket bound to the path, like that of another server."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(PATH)
    return sock


def leave_stale(mode: int) -> None:
    """Create a socket file without a server, like that of a server that crashed."""
    with foreign_socket():
        Path(PATH).chmod(mode)


def is_reached(sock: socket.socket) -> bool:
    """Return whether a client that connects to the path reaches this socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(PATH)
        with contextlib.closing(sock.accept()[0]) as accepted:
            accepted.sendall(b"x")
        return client.recv(1) == b"x"


def mode_of(path: str = PATH) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116


# -- the file --------------------------------------------------------------------------------------


def test_socket_listens_is_open_to_all_users_and_is_removed(here: Path) -> None:
    with listening() as opened:
        (sock,) = opened.sockets
        assert (here / PATH).is_socket()
        assert mode_of() == 0o666
        assert name_of(sock) == "unix socket app.sock"
        assert is_reached(sock)
    assert list(here.iterdir()) == []


def test_path_can_be_used_again_after_a_stop() -> None:
    for _ in range(2):
        with listening() as opened:
            assert is_reached(opened.sockets[0])


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o777, 0])
def test_mode_is_set(mode: int) -> None:
    with listening(uds_perms=mode):
        assert mode_of() == mode


def test_umask_does_not_change_the_mode() -> None:
    before = os.umask(0o077)
    try:
        with listening(uds_perms=0o666):
            assert mode_of() == 0o666
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_nobody_can_connect_before_the_mode_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_mode_of_a_stale_file_is_kept(perms: int | None, mode: int) -> None:
    leave_stale(0o640)
    with listening(uds_perms=perms) as opened:
        assert mode_of() == mode
        assert is_reached(opened.sockets[0])


# -- paths in use ----------------------------------------------------------------------------------


def test_socket_of_a_running_server_is_not_replaced() -> None:
    with foreign_socket() as running:
        running.listen()
        assert listen_error() == IN_USE
        running.accept()[0].close()  # the probe
        assert is_reached(running)


def test_socket_of_a_starting_server_is_not_replaced() -> None:
    with listening() as opened:
        assert listen_error() == IN_USE
        opened.sockets[0].accept()[0].close()  # the probe
        assert is_reached(opened.sockets[0])


def test_socket_with_a_full_backlog_is_not_replaced() -> None:
    with foreign_socket() as busy, contextlib.ExitStack() as clients:
        busy.listen(0)
        while True:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(PATH):
                break
        assert listen_error() == IN_USE


def test_datagram_socket_is_not_replaced() -> None:
    with foreign_socket(socket.SOCK_DGRAM) as log:
        assert listen_error() == IN_USE
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"log", PATH)
        assert log.recv(3) == b"log"


def test_file_is_not_replaced(here: Path) -> None:
    (here / PATH).write_text("mine")
    assert listen_error() == "--uds app.sock exists and is not a socket"
    assert (here / PATH).read_text() == "mine"


def test_symbolic_link_is_not_replaced(here: Path) -> None:
    (here / PATH).symlink_to("nowhere")
    assert listen_error() == "--uds app.sock exists and is not a socket"
    assert (here / PATH).is_symlink()


def test_socket_without_permission_to_connect_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_stale(0o600)
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.EACCES)
    assert listen_error() == f"--uds app.sock: {os.strerror(errno.EACCES)}"
    assert Path(PATH).is_socket()


def test_stale_file_that_is_replaced_meanwhile_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_stale(0o600)
    with contextlib.ExitStack() as late:

        def refuse(*_: object) -> int:
            """Replace the file, as another server does, after the stale one was probed."""
            os.rename(PATH, "stale.sock")  # noqa: PTH104  # it keeps its inode
            late.enter_context(foreign_socket())
            return errno.ECONNREFUSED

        monkeypatch.setattr(socket.socket, "connect_ex", refuse)
        assert listen_error() == IN_USE
        assert Path(PATH).is_socket()


def test_stale_file_that_is_removed_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_stale(0o600)
    connect = socket.socket.connect_ex

    def remove(sock: socket.socket, address: Any) -> int:
        os.unlink(PATH)  # noqa: PTH108
        return connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect_ex", remove)
    with listening():
        assert mode_of() == 0o666


def test_one_of_several_servers_that_start_at_once_gets_the_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unix_socket, "LOCK_TIMEOUT", TIMEOUT)
    count = 4
    for _ in range(50):
        leave_stale(0o600)
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(count))
            start = threading.Barrier(count)

            def listen(start: threading.Barrier = start) -> sockets.OpenSockets | str:
                start.wait(TIMEOUT)
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
                sock.accept()[0].close()  # the probes
            assert is_reached(sock)


def test_folder_that_stays_locked_is_used_without_a_lock(
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


def test_folder_on_a_file_system_without_locks_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with listening() as opened:
        assert is_reached(opened.sockets[0])


def test_folder_that_cannot_be_read_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", fail)
    with listening() as opened:
        assert is_reached(opened.sockets[0])


# -- removing the file -----------------------------------------------------------------------------


def test_file_is_removed_although_the_app_changes_its_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening():
        monkeypatch.chdir("/")
    assert not (here / PATH).exists()


def test_file_of_another_server_is_not_removed() -> None:
    with contextlib.ExitStack() as second:
        with listening():
            os.unlink(PATH)  # noqa: PTH108
            opened = second.enter_context(listening())
        assert is_reached(opened.sockets[0])
    assert not Path(PATH).exists()


def test_file_of_another_kind_is_not_removed(here: Path) -> None:
    with listening():
        (here / PATH).unlink()
        (here / PATH).write_text("mine")
    assert (here / PATH).read_text() == "mine"


def test_folder_at_the_path_is_not_removed(here: Path) -> None:
    with listening():
        (here / PATH).unlink()
        (here / PATH).mkdir()
    assert (here / PATH).is_dir()


def test_missing_file_is_no_error(here: Path) -> None:
    with listening():
        (here / PATH).unlink()
    assert list(here.iterdir()) == []


def test_file_that_cannot_be_removed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch, listening():
        patch.setattr(os, "unlink", fail)
    assert Path(PATH).is_socket()


def test_file_is_removed_once() -> None:
    with listening() as opened:
        opened.close()
        with foreign_socket():
            opened.close()
            assert Path(PATH).is_socket()


def test_forked_child_does_not_remove_the_file() -> None:
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
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere/app.sock", "there is no folder {here}/nowhere"),
        ("file/app.sock", os.strerror(errno.ENOTDIR)),
        ("", os.strerror(errno.ENOENT)),
        ("x" * 200, "the path has 200 bytes, and a socket's may have 107"),
        ("x" * 300, "the path has 300 bytes, and a socket's may have 107"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_impossible_path(here: Path, path: str, reason: str) -> None:
    (here / "file").touch()
    assert listen_error(path) == f"--uds {path}: {reason.format(here=here)}"


def test_path_with_a_null_character() -> None:
    assert re.fullmatch(r"--uds a\\x00b: .*embedded null.*", listen_error("a\0b"))


NOT_ALLOWED = [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EADDRINUSE]


@pytest.mark.parametrize("number", NOT_ALLOWED, ids=errno.errorcode.get)
def test_folder_without_permission_or_space(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", fail)
    assert listen_error() == f"--uds app.sock: {os.strerror(number)}"


def test_stale_file_that_cannot_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    leave_stale(0o600)
    monkeypatch.setattr(os, "unlink", fail)
    assert listen_error() == f"--uds app.sock: {os.strerror(errno.EROFS)}"


@pytest.mark.parametrize(("owner", "name"), [(os, "chmod"), (socket.socket, "listen")])
def test_failure_after_bind_leaves_no_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(owner, name, denied)
    assert listen_error() == f"--uds app.sock: {os.strerror(errno.EPERM)}"
    assert list(here.iterdir()) == []


@pytest.fixture
def tmpfs(here: Path) -> Iterator[Path]:
    """Mount a file system with room for one file; skip if that is not permitted."""
    place = here / "small"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mounting, check=False).returncode:
        pytest.skip("no permission to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_full_disk(tmpfs: Path) -> None:
    (tmpfs / "file").touch()
    assert listen_error("small/s") == f"--uds small/s: {os.strerror(errno.ENOSPC)}"


def test_read_only_disk(tmpfs: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("small/stale")
    subprocess.run(["mount", "-o", "remount,ro", tmpfs], check=True)
    for path in ("small/s", "small/stale"):
        assert listen_error(path) == f"--uds {path}: {os.strerror(errno.EROFS)}"
