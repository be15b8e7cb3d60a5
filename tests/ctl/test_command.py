"""The command line of `wsgate ctl`: what it asks for, and what it prints."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from click.testing import CliRunner, Result

from wsgate import cli
from wsgate.ctl import client
from wsgate.ctl.client import ControlError, Part

ITEM = {
    **dict.fromkeys(("address", "path", "age", "received_messages", "received_bytes")),
    **dict.fromkeys(("sent_messages", "sent_bytes")),
    "id": "7-1",
    "type": "idle",
}


class Server:
    """Stands in for the client: records the requests. answer: the parts; error: raised after."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.answer: list[Part] = []
        self.error: str | None = None

    def __call__(self, path: str, command: str, arguments: Mapping[str, Any]) -> Iterator[Part]:
        given = {name: value for name, value in arguments.items() if value is not None}
        self.requests.append((path, command, given))
        yield from self.answer
        if self.error is not None:
            raise ControlError(self.error)


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(client, "parts", server)
    for name in client.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return server


def invoke(*args: str, **env: str) -> Result:
    return CliRunner().invoke(cli.main, ("ctl", *args), env=env, prog_name="wsgate")


@pytest.mark.parametrize(
    ("args", "request_"),
    [
        ("status", ("status", {})),
        ("restart", ("restart", {"wait": False})),
        ("restart --wait --timeout 9", ("restart", {"wait": True, "timeout": 9})),
        ("scale 3", ("scale", {"target": 3})),
        ("drain 17", ("drain", {"worker": 17})),
        ("connections", ("connections", {"limit": 100})),
        ("connections --limit 0 --worker 2", ("connections", {"worker": 2, "limit": 0})),
        (
            "connections --path /a/* --address 10.0.0.0/8 --limit 5",
            ("connections", {"path": "/a/*", "address": "10.0.0.0/8", "limit": 5}),
        ),
        ("topics", ("topics", {"limit": 50})),
        ("topics --topic room:* --limit 5", ("topics", {"topic": "room:*", "limit": 5})),
        ("close 7-1", ("close", {"id": "7-1"})),
        ("close 7-1 1008 abuse", ("close", {"id": "7-1", "code": 1008, "reason": "abuse"})),
        ("stack", ("stack", {})),
        ("stack 2 --tasks", ("stack", {"worker": 2, "tasks": True})),
        ("log-level debug", ("log-level", {"level": "debug"})),
    ],
)
def test_each_command_and_its_arguments(server: Server, args: str, request_: Any) -> None:
    result = invoke(*args.split(), "--socket", "s")
    assert (result.output, result.exit_code) == ("", 0)
    assert server.requests == [("s", *request_)]


def test_the_socket_before_and_after_the_command_and_in_the_environment(server: Server) -> None:
    invoke("--socket", "a", "status")
    invoke("status", "--socket", "b")
    invoke("--socket", "a", "status", "--socket", "b")
    invoke("status", WSGATE_CONTROL_SOCKET="c")
    invoke("--socket", "a", "status", WSGATE_CONTROL_SOCKET="c")
    invoke("status", WSGATE_CONTROL_SOCKET="c", WSGATE_CTL_SOCKET="d")
    invoke("status", WSGATE_CONTROL_SOCKET="c", WSGATE_CTL_SOCKET="")
    assert [path for path, *_ in server.requests] == ["a", "b", "b", "c", "a", "d", "c"]


@pytest.mark.parametrize("env", [{}, {"WSGATE_CONTROL_SOCKET": ""}])
def test_a_socket_has_to_be_named(env: dict[str, str]) -> None:
    result = invoke("status", **env)
    text = "Error: which server? Give --socket PATH, or set WSGATE_CTL_SOCKET\n"
    assert (result.output, result.exit_code) == (text, 1)


def test_json_has_a_line_for_each_part_and_each_connection(server: Server) -> None:
    server.answer = [{"connections": [{"id": 1}, {"id": 2}]}, {"waiting": True}, {"total": 2}]
    result = invoke("connections", "--socket", "s")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"id": 1},
        {"id": 2},
        {"total": 2},
    ]


def test_json_has_a_line_for_each_topic(server: Server) -> None:
    server.answer = [{"topics": [{"topic": "a"}, {"topic": "b"}]}, {"total": 2}]
    result = invoke("topics", "--socket", "s")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines == [{"topic": "a"}, {"topic": "b"}, {"total": 2}]


@pytest.mark.parametrize("limit", ["0", "1001", "x"])
def test_a_limit_of_topics_that_cannot_be_used(server: Server, limit: str) -> None:
    assert invoke("topics", "--limit", limit, "--socket", "s").exit_code == 2
    assert server.requests == []


@pytest.mark.parametrize("args", [("--json", "close", "7-1"), ("close", "7-1", "--json")])
def test_json_on_a_terminal(
    server: Server, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    server.answer = [{"closed": "7-1", "code": 1012}]
    text = invoke("close", "7-1", "--socket", "s").stdout
    assert text == "7-1 closed with 1012\n"
    lines = invoke(*args, "--socket", "s").stdout
    assert json.loads(lines) == {"closed": "7-1", "code": 1012}


def test_a_table_in_a_pipe(server: Server) -> None:
    server.answer = [{"target": 3, "before": 2}]
    for words in (("scale", "3", "--table"), ("--table", "scale", "3")):
        assert invoke(*words, "--socket", "s").stdout == "3 workers instead of 2\n"


def test_an_error_is_one_line_after_what_was_printed(server: Server) -> None:
    server.answer, server.error = [{"restarting": 2}], "the restart has failed: \x1b[2J\nno"
    result = invoke("restart", "--wait", "--socket", "s")
    assert json.loads(result.stdout) == {"restarting": 2}
    assert result.stderr == "Error: the restart has failed: \\x1b[2J\\nno\n"
    assert result.exit_code == 1


def test_an_answer_that_is_not_complete_is_an_error(server: Server) -> None:
    server.answer = [{"connections": [ITEM]}, {"total": 1, "listed": 1, "unanswered": [7, 8]}]
    result = invoke("connections", "--socket", "s")
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == "Error: the answer is not complete: no answer from workers 7, 8\n"
    assert result.exit_code == 1


@pytest.mark.parametrize(
    "args",
    [
        ["unknown"],
        ["scale"],
        ["scale", "many"],
        ["close"],
        ["status", "more"],
        ["restart", "--timeout", "5"],
        ["status", "--json", "--table"],
    ],
)
def test_wrong_use_has_the_status_2(server: Server, args: list[str]) -> None:
    result = invoke(*args, "--socket", "s")
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: wsgate ctl")
    assert not server.requests


def test_help() -> None:
    text = invoke("--help").output
    assert text.startswith("Usage: wsgate ctl [OPTIONS] COMMAND")
    for command in (
        "status",
        "restart",
        "scale",
        "drain",
        "connections",
        "close",
        "log-level",
        "top",
        "stack",
    ):
        assert f"  {command} " in text
    assert "--wait" in invoke("restart", "--help").output
    assert "..." not in text.partition("Commands:")[2]


def test_an_app_may_be_called_ctl(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []
    monkeypatch.setattr(cli, "run", lambda app, **_: served.append(app))
    result = CliRunner().invoke(cli.main, ["ctl:app"])
    assert result.exit_code == 0
    CliRunner().invoke(cli.main, ["--port", "0", "ctl"])
    assert served == ["ctl:app", "ctl"]


def test_the_command_reads_the_words_of_the_process(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["wsgate", "ctl", "status", "--socket", "s"])
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == 0
    assert server.requests == [("s", "status", {})]
