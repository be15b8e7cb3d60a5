"""The sockets of workers: their files."""

import os
import socket
import stat
from pathlib import Path

from wsgate.brokers.local import worker_socket


def test_only_the_owner_may_connect_and_the_path_is_short(tmp_path: Path) -> None:
    hub = str(tmp_path / "hub.sock")
    path = worker_socket.path_of(hub, worker_socket.make_name())
    assert len(path) <= len(hub) + worker_socket.LONGEST_SUFFIX
    with worker_socket.listen(path) as sock, socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        client.connect(path)
        assert worker_socket.is_listening(path)
        sock.close()
        assert not worker_socket.is_listening(path)
    worker_socket.remove(path)
    assert not worker_socket.is_listening(path)


def test_the_files_of_processes_that_have_ended_are_removed(tmp_path: Path) -> None:
    hub = tmp_path / "hub.sock"
    own = worker_socket.path_of(str(hub), worker_socket.make_name())
    other = worker_socket.path_of(str(hub), "1-0123abcd")
    for path in (own, other, hub, tmp_path / "hub.sock.1-x", tmp_path / "hubXsock.1-0123abcd"):
        socket_at(str(path))
    plain = tmp_path / "hub.sock.1-01234567"
    plain.touch()
    worker_socket.remove_files(str(hub), os.getpid())
    assert not Path(own).exists()
    worker_socket.remove_files(str(hub))
    assert {path.name for path in tmp_path.iterdir()} == {
        *("hub.sock", "hub.sock.1-x", "hubXsock.1-0123abcd", plain.name)
    }
    worker_socket.remove_files("/missing/hub.sock")


def socket_at(path: str) -> None:
    """Leave the file of a socket at a path."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
