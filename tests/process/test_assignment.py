"""What a worker process is told: values that cannot be passed on, and a supervisor that is gone."""

import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import ROOT, program
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process import assignment as module
from wsgate.process.assignment import Assignment, pack, pack_program, receive, receive_program
from wsgate.process.program import DefaultLog, Program


@pytest.fixture(autouse=True)
def _same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def new_program(**options: Any) -> Program:
    parts = {"log_config": DefaultLog.CONSOLE, "app": "main:app", **options}
    names = ("app", "log_config")
    return Program(
        factory=False,
        interface="auto",
        config=Config(**{name: value for name, value in parts.items() if name not in names}),
        **{name: parts[name] for name in names},
    )


def new_assignment(**options: Any) -> Assignment:
    return Assignment(
        program=new_program(**options),
        row=3,
        count=4,
        scoreboard=5,
        beat=0.5,
        stacks=6,
        sockets=[7, 8],
        inherited=[8],
        hub="/run/topics.sock",
    )


def passed_on(
    ends: tuple[socket.socket, socket.socket], assignment: Assignment
) -> Assignment | None:
    ends[0].sendall(pack(assignment))
    return receive(ends[1])


def certificates() -> None:
    """Stand in for a function that makes an SSL context."""


# -- what arrives ----------------------------------------------------------------------------------


def test_a_worker_is_told_everything(ends: tuple[socket.socket, socket.socket]) -> None:
    sent = new_assignment(ssl_context_factory=certificates, port=1)
    packed = pack(sent)
    path, arguments = sys.path[:], sys.argv[:]
    sys.path[:] = sys.argv[:] = ["another"]
    ends[0].sendall(packed)
    assert receive(ends[1]) == sent
    assert (sys.path, sys.argv) == (path, arguments)


def test_a_program_is_passed_on_alone(ends: tuple[socket.socket, socket.socket]) -> None:
    program = new_program(port=1)
    ends[0].sendall(pack_program(program))
    assert receive_program(ends[1]) == program


def test_the_default_log_is_the_same_object(ends: tuple[socket.socket, socket.socket]) -> None:
    received = passed_on(ends, new_assignment())
    assert received is not None
    assert received.program.log_config is DefaultLog.CONSOLE


def test_much_arrives_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    sent = new_assignment(headers=[("x-large", "v" * 2**20)])
    sending = threading.Thread(target=ends[0].sendall, args=(pack(sent),))
    sending.start()
    assert receive(ends[1]) == sent
    sending.join()


def test_a_value_may_be_of_a_module_that_only_the_path_finds(
    ends: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assigned_certificates.py").write_text("def make(*_):\n    pass\n")
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        import assigned_certificates  # type: ignore[import-not-found]  # noqa: PLC0415

        sent = pack(new_assignment(ssl_context_factory=assigned_certificates.make))
    del sys.modules["assigned_certificates"]
    assert str(tmp_path) not in sys.path
    ends[0].sendall(sent)
    received = receive(ends[1])
    assert received is not None
    made = received.program.config.ssl_context_factory
    assert made is not None
    assert made.__module__ == sys.modules["assigned_certificates"].__name__
    del sys.modules["assigned_certificates"]


# -- a supervisor that is gone ---------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 3, 4, 100, -1])
def test_a_supervisor_that_ends_meanwhile(
    ends: tuple[socket.socket, socket.socket], kept: int
) -> None:
    ends[0].sendall(pack(new_assignment())[:kept])
    ends[0].close()
    assert receive(ends[1]) is None


def test_a_reset(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].sendall(b"not read")
    ends[0].close()
    assert receive(ends[1]) is None


# -- values that cannot be passed on ---------------------------------------------------------------


class Odd(Exception):
    """An exception of several lines."""

    def __reduce__(self) -> Any:
        raise ValueError("two\nlines")


@pytest.mark.parametrize(
    ("options", "name", "reason"),
    [
        ({"ssl_context_factory": lambda *_: None}, "ssl_context_factory", "lambda"),
        ({"log_config": {"version": 1, "x": threading.Lock()}}, "log_config", "lock"),
        ({"log_config": Odd()}, "log_config", r"two\nlines"),
    ],
)
def test_a_value_that_cannot_be_passed_on_is_named(
    options: dict[str, Any], name: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        pack(new_assignment(**options))
    assert str(raised.value).startswith(f"{name} cannot be passed to a worker process: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.setting == name


def test_what_the_started_program_defines_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "__module__", "__main__")
    with pytest.raises(ConfigError) as raised:
        pack(new_assignment(ssl_context_factory=certificates))
    assert str(raised.value) == (
        "ssl_context_factory cannot be passed to a worker process: certificates is defined in the "
        "program that was started, which workers do not import: move it to a module"
    )


def test_another_value_than_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_settings", lambda _: iter(()))
    with pytest.raises(ConfigError, match=r"^a setting cannot be passed to a worker process: "):
        pack(new_assignment(ssl_context_factory=lambda *_: None))


def test_a_value_that_the_worker_cannot_make(ends: tuple[socket.socket, socket.socket]) -> None:
    data = pack(new_assignment(ssl_context_factory=certificates))
    broken = data[4:].replace(b"certificates", b"certificatez")
    ends[0].sendall(struct.pack("!I", len(broken)) + broken)
    with pytest.raises(ConfigError, match="cannot be passed to a worker process: AttributeError"):
        receive(ends[1])


# -- as a program ----------------------------------------------------------------------------------

PROGRAM = """
import wsgate

def make(config, default):
    return default()

if __name__ == "__main__":
    try:
        wsgate.run("tests.apps.worker:app", port=0, workers=2, ssl_context_factory=make)
    except wsgate.ConfigError as error:
        print("caught:", error)
"""


async def test_the_error_of_a_program_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(PROGRAM)
    variables = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    async with program(str(tmp_path / "serve.py"), variables=variables) as process:
        assert await process.ended() == 0
        (line,) = process.log
        assert line.startswith("caught: ssl_context_factory cannot be passed to a worker process: ")
