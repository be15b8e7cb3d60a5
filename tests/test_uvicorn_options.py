"""Every option of uvicorn is taken, or answered in one line."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from docs import generate
from docs.uvicorn_options import DIFFERENCES
from wsgate import cli
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.supervision import SUPERVISION_SETTINGS, Supervision

SAME, DIFFERS, ANSWERED = "same", "differs: ", "answered: "
YES: list[str] = []  # the arguments of a switch
CERTIFICATE = ["--ssl-certfile", "cert.pem"]

# The options of uvicorn 0.54 in the order of its help: arguments, and what becomes of them.
OPTIONS: dict[str, tuple[list[str], str]] = {
    "--host": (["::1"], DIFFERS),
    "--port": (["0"], SAME),
    "--uds": (["app.sock"], DIFFERS),
    "--fd": (["3"], SAME),
    "--reload": (YES, DIFFERS),
    "--reload-dir": (["src"], DIFFERS),
    "--reload-include": (["*.html"], DIFFERS),
    "--reload-exclude": (["*.tmp"], DIFFERS),
    "--reload-delay": (["1"], DIFFERS),
    "--workers": (["4"], DIFFERS),
    "--loop": (["uvloop"], DIFFERS),
    "--http": (["httptools"], DIFFERS),
    "--http2": (YES, ANSWERED),
    "--ws": (["websockets-sansio"], DIFFERS),
    "--ws-max-size": (["1000"], SAME),
    "--ws-max-queue": (["64"], DIFFERS),
    "--ws-ping-interval": (["5"], SAME),
    "--ws-ping-timeout": (["5.5"], SAME),
    "--ws-per-message-deflate": (["false"], SAME),
    "--lifespan": (["off"], DIFFERS),
    "--interface": (["asgi3"], DIFFERS),
    "--env-file": (["some.env"], DIFFERS),
    "--log-config": (["log.json"], DIFFERS),
    "--log-level": (["trace"], DIFFERS),
    "--access-log": (YES, SAME),
    "--use-colors": (YES, DIFFERS),
    "--proxy-headers": (YES, DIFFERS),
    "--server-header": (YES, DIFFERS),
    "--date-header": (YES, DIFFERS),
    "--forwarded-allow-ips": (["127.0.0.1,10.0.0.0/8"], DIFFERS),
    "--root-path": (["/api"], DIFFERS),
    "--limit-concurrency": (["100"], DIFFERS),
    "--backlog": (["100"], SAME),
    "--limit-max-requests": (["1000"], DIFFERS),
    "--limit-max-requests-jitter": (["10"], SAME),
    "--timeout-keep-alive": (["10"], DIFFERS),
    "--timeout-graceful-shutdown": (["30"], DIFFERS),
    "--timeout-worker-healthcheck": (["10"], DIFFERS),
    "--ssl-keyfile": (["key.pem", *CERTIFICATE], DIFFERS),
    "--ssl-certfile": (["cert.pem"], DIFFERS),
    "--ssl-keyfile-password": (["secret", *CERTIFICATE], DIFFERS),
    "--ssl-version": (["17"], DIFFERS),
    "--ssl-cert-reqs": (["0"], DIFFERS),
    "--ssl-ca-certs": (["ca.pem", *CERTIFICATE], DIFFERS),
    "--ssl-ciphers": (["ECDHE+AESGCM", *CERTIFICATE], DIFFERS),
    "--header": (["X-A: b"], DIFFERS),
    "--version": (YES, DIFFERS),
    "--app-dir": ([""], DIFFERS),
    "--h11-max-incomplete-event-size": (["100000"], DIFFERS),
    "--reset-contextvars": (YES, SAME),
    "--factory": (YES, SAME),
}
SWITCHES = {"--access-log", "--use-colors", "--proxy-headers", "--server-header", "--date-header"}

KNOWN = {name for parameter in cli.main.params for name in parameter.opts}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Collect the options of the calls of `run`, which only checks them."""
    calls: list[dict[str, Any]] = []
    of_run = ("factory", "app_dir", "interface", "log_config")

    def run(app: str, **options: Any) -> None:
        calls.append(options)
        of_supervisor = {one.name for one in SUPERVISION_SETTINGS}
        Supervision(**{name: options[name] for name in of_supervisor})
        of_server = options.keys() - {*of_run, *of_supervisor}
        Config(**{name: options[name] for name in of_server})

    monkeypatch.setattr(cli, "run", run)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some.env").write_text("NAME=value\n")
    monkeypatch.setenv("NAME", "restored after the test")
    return calls


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.main, ["main:app", *args], prog_name="wsgate")


def test_the_documentation_lists_the_same_options() -> None:
    assert list(DIFFERENCES) == list(OPTIONS)


def test_no_option_is_missing() -> None:
    assert set(OPTIONS) <= KNOWN


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_has_its_verdict_in_the_documentation(option: str) -> None:
    verdict = OPTIONS[option][1]
    (row,) = (row for row in generate.uvicorn_table().splitlines() if f"| `{option}` |" in row)
    text = row.removeprefix(f"| `{option}` | ").removesuffix(" |")
    assert text.startswith(verdict)
    assert (text == SAME) == (verdict == SAME)


@pytest.mark.parametrize("option", [one for one in OPTIONS if OPTIONS[one][1] != ANSWERED])
def test_an_option_is_taken(calls: list[dict[str, Any]], option: str) -> None:
    result = invoke(option, *OPTIONS[option][0])
    assert result.exit_code == 0
    if option == "--version":
        assert result.output.startswith("Running wsgate ")
    else:
        assert result.output == ""
        assert len(calls) == 1


@pytest.mark.parametrize("option", sorted(SWITCHES))
def test_a_switch_can_be_off(calls: list[dict[str, Any]], option: str) -> None:
    assert invoke(f"--no-{option[2:]}").output == ""
    assert calls[0][option[2:].replace("-", "_")] is False


@pytest.mark.parametrize("option", [one for one in OPTIONS if OPTIONS[one][1] == ANSWERED])
def test_an_option_is_answered_in_one_line(calls: list[dict[str, Any]], option: str) -> None:
    result = invoke(option, *OPTIONS[option][0])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {option} must be ")
    assert result.output.count("\n") == 1
    assert ": " in result.output.removeprefix("Error: "), "it says what to use instead"


# The keywords of `uvicorn.run` with the values that it has for them by default.
DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 8000,
    "uds": None,
    "fd": None,
    "loop": "auto",
    "http": "auto",
    "http2": False,
    "ws": "auto",
    "ws_max_size": 16777216,
    "ws_max_queue": 32,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": True,
    "lifespan": "auto",
    "reload": False,
    "reload_dirs": None,
    "reload_includes": None,
    "reload_excludes": None,
    "reload_delay": 0.25,
    "workers": None,
    "log_level": None,
    "access_log": True,
    "server_header": True,
    "date_header": True,
    "root_path": "",
    "limit_concurrency": None,
    "backlog": 2048,
    "limit_max_requests": None,
    "limit_max_requests_jitter": 0,
    "timeout_keep_alive": 5,
    "timeout_graceful_shutdown": None,
    "timeout_worker_healthcheck": 5,
    "headers": None,
    "use_colors": None,
    "h11_max_incomplete_event_size": None,
    "reset_contextvars": False,
    "proxy_headers": True,
    "forwarded_allow_ips": None,
    "ssl_keyfile": None,
    "ssl_certfile": None,
    "ssl_keyfile_password": None,
    "ssl_version": 17,
    "ssl_cert_reqs": 0,
    "ssl_ca_certs": None,
    "ssl_ciphers": "TLSv1",
    "ssl_context_factory": None,
}


def test_the_keywords_of_uvicorn_are_taken_with_its_defaults() -> None:
    config = Config(**DEFAULTS)
    assert config.ws_max_queue == 32
    assert config.limit_request_head == Config().limit_request_head


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("workers", 4),
        ("reload", True),
        ("reload_dirs", ["src"]),
        ("reload_dirs", "src"),
        ("reload_includes", ["*.html"]),
        ("reload_excludes", ["*.tmp"]),
        ("reload_delay", 1),
        ("http2", True),
    ],
)
def test_a_keyword_is_answered_in_one_line(keyword: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^(--)?{keyword} must be .+: .+$"):
        Config(**{keyword: value})


@pytest.mark.skipif(importlib.util.find_spec("uvicorn") is None, reason="uvicorn is not installed")
def test_the_list_is_that_of_uvicorn() -> None:
    command = importlib.import_module("uvicorn.main").main
    options = [parameter.opts[0] for parameter in command.params if parameter.name != "app"]
    assert options == list(OPTIONS)
