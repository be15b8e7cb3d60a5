import contextlib
import http.client
import importlib
import importlib.util
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import click
import pytest
from click.testing import CliRunner, Result

import wsgate
from wsgate import cli
from wsgate.config import PROGRAM_SETTINGS, SETTINGS
from wsgate.errors import ConfigError
from wsgate.foreign_options import INSTEAD
from wsgate.supervision import SUPERVISION_SETTINGS

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0  # seconds for a process on a loaded machine
ALL_SETTINGS = (*SETTINGS, *SUPERVISION_SETTINGS)
FIELDS = [one.name for one in ALL_SETTINGS]
DEFAULTS = {one.name: one.default for one in ALL_SETTINGS}
VERSION = (
    f"Running wsgate {wsgate.__version__} with {platform.python_implementation()} "
    f"{platform.python_version()} on {platform.system()}\n"
)
WITHOUT = "without C extensions: no compiler was found at the installation, so it is slower\n"
EXTENSIONS_LINES = ("with C extensions\n", WITHOUT)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings that the environment of the tests may have."""
    for name in list(os.environ):
        if name.startswith("WSGATE_") or name in {"FORWARDED_ALLOW_IPS", "WEB_CONCURRENCY"}:
            monkeypatch.delenv(name)


# -- parsing the command line ----------------------------------------------------------------------


class Calls(list[tuple[str, dict[str, Any]]]):
    """The calls of `run`, and the error that each of them raises."""

    error: BaseException | None = None

    def __call__(self, app: str, **options: Any) -> None:
        self.append((app, options))
        if self.error is not None:
            raise self.error

    @property
    def options(self) -> dict[str, Any]:
        """The options of the only call."""
        ((_, options),) = self
        return options


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    monkeypatch.setattr(cli, "run", calls)
    return calls


def invoke(*args: str, **env: str) -> Result:
    return CliRunner().invoke(cli.main, args, env=env, prog_name="wsgate")


def option_of(setting: str) -> str:
    return next(one.option for one in (*ALL_SETTINGS, *PROGRAM_SETTINGS) if one.name == setting)


# Another value than the default for each setting: as it is written, and as it is parsed.
SAMPLES: dict[str, tuple[str, Any]] = {
    "host": ("::1", ("::1",)),
    "port": ("0", 0),
    "uds": ("app.sock", ("app.sock",)),
    "uds_perms": ("0o600", 0o600),
    "fd": ("3", 3),
    "systemd_sockets": ("http", ("http",)),
    "backlog": ("7", 7),
    "proxy_headers": ("false", False),
    "forwarded_allow_ips": ("10.0.0.0/8, unix:", ("10.0.0.0/8", "unix:")),
    "forwarded_values": ("for, host", ("for", "host")),
    "proxy_protocol": ("true", True),
    "proxy_allow_from": ("10.0.0.1,::1", ("10.0.0.1", "::1")),
    "ssl_keyfile": ("key.pem", ("key.pem",)),
    "ssl_certfile": ("cert.pem", ("cert.pem",)),
    "ssl_keyfile_password": ("secret", "secret"),
    "ssl_version": ("2", 2),
    "ssl_min_version": ("TLSv1.3", "TLSv1.3"),
    "ssl_cert_reqs": ("2", 2),
    "ssl_ca_certs": ("ca.pem", "ca.pem"),
    "ssl_ciphers": ("HIGH", "HIGH"),
    "lifespan": ("on", "on"),
    "root_path": ("/api", "/api"),
    "reset_contextvars": ("true", True),
    "loop": ("asyncio", "asyncio"),
    "http": ("h11", "h11"),
    "ws": ("none", "none"),
    "log_level": ("debug", "debug"),
    "use_colors": ("true", True),
    "access_log": ("false", False),
    "log_format": ("json", "json"),
    "access_log_format": ("%(h)s", "%(h)s"),
    "limit_connections": ("7", 7),
    "limit_connections_per_ip": ("7", 7),
    "limit_concurrency": ("7", 7),
    "limit_max_requests": ("7", 7),
    "limit_max_requests_jitter": ("7", 7),
    "limit_request_head": ("7", 7),
    "limit_request_target": ("7", 7),
    "limit_request_fields": ("7", 7),
    "timeout_request_body": ("0.5", 0.5),
    "timeout_keep_alive": ("0.5", 0.5),
    "headers": ("X-Name: a value", (("X-Name", "a value"),)),
    "date_header": ("false", False),
    "server_header": ("false", False),
    "static": ("/=public", ("/=public",)),
    "static_cache_control": ("max-age=60", "max-age=60"),
    "timeout_graceful_shutdown": ("0.5", 0.5),
    "drain_seconds": ("0.5", 0.5),
    "ws_origins": ("https://a.example, none", ("https://a.example", "none")),
    "ws_handshake_timeout": ("0.5", 0.5),
    "ws_max_size": ("7", 7),
    "ws_max_fragments": ("7", 7),
    "ws_max_queue": ("7", 7),
    "ws_max_queue_size": ("7", 7),
    "ws_max_message_rate": ("0.5", 0.5),
    "ws_max_message_burst": ("7", 7),
    "ws_fast_path": ("false", False),
    "ws_ping_interval": ("0.5", 0.5),
    "ws_ping_timeout": ("0.5", 0.5),
    "ws_idle_timeout": ("0.5", 0.5),
    "ws_max_lifetime": ("0.5", 0.5),
    "ws_reconnect_field": ("was", "was"),
    "ws_send_timeout": ("0.5", 0.5),
    "ws_close_timeout": ("0.5", 0.5),
    "ws_per_message_deflate": ("false", False),
    "ws_deflate_threshold": ("7", 7),
    "ws_deflate_context_takeover": ("true", True),
    "ws_deflate_window_bits": ("9", 9),
    "topics": ("local:", "local:"),
    "topics_rule": ("room:* history=9", ("room:* history=9",)),
    "topics_max": ("9", 9),
    "topics_max_per_connection": ("9", 9),
    "topics_history_max_bytes": ("9", 9),
    "topics_publish_timeout": ("0.5", 0.5),
    "topics_max_outlet": ("9", 9),
    "metrics": ("127.0.0.1:9090", "127.0.0.1:9090"),
    "status_token": ("a token of tests", "a token of tests"),
    "readyz_broker_grace": ("0.5", 0.5),
    "workers": ("1", "1"),
    "preload": ("true", True),
    "restart_parallel": ("true", True),
    "timeout_worker_healthcheck": ("0.5", 0.5),
    "worker_max_rss": ("7", 7),
    "worker_max_lifetime": ("0.5", 0.5),
    "reload": ("true", True),
    "reload_dirs": ("src", ("src",)),
    "reload_includes": ("*.html", ("*.html",)),
    "reload_excludes": ("*.tmp", ("*.tmp",)),
    "reload_delay": ("0.5", 0.5),
    "control_socket": ("control.sock", "control.sock"),
}
SWITCHES = {
    *("access_log", "date_header", "server_header", "ws_fast_path", "reset_contextvars"),
    *("proxy_headers", "proxy_protocol"),
    *("use_colors", "preload", "restart_parallel", "reload"),
}
PROGRAM = {"factory": False, "app_dir": "", "interface": "auto"}
# Other names that an option has.
ALIASES = {
    "--h11-max-incomplete-event-size": "limit_request_head",
    "--ws-fast-lane": "ws_fast_path",
}


def test_every_setting_has_a_sample() -> None:
    assert list(SAMPLES) == FIELDS
    assert all(DEFAULTS[name] != value for name, (_, value) in SAMPLES.items())


def test_the_defaults_are_those_of_the_settings(calls: Calls) -> None:
    assert invoke("main:app").exit_code == 0
    assert calls == [("main:app", PROGRAM | DEFAULTS)]


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_an_option(calls: Calls, name: str) -> None:
    written, value = SAMPLES[name]
    option = option_of(name)
    args = [option, written]
    if name in SWITCHES:
        args = [option if value else "--no-" + option[2:]]
    assert invoke("main:app", *args).output == ""
    assert calls.options == (PROGRAM | DEFAULTS | {name: value})


@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_a_switch_overrides_its_variable_both_ways(calls: Calls, name: str) -> None:
    option = option_of(name)
    variable = "WSGATE_" + name.upper()
    invoke("main:app", option, **{variable: "false"})
    invoke("main:app", "--no-" + option[2:], **{variable: "true"})
    assert [options[name] for _, options in calls] == [True, False]


def test_every_alias_is_tested_here() -> None:
    declared = [(option, one.name) for one in ALL_SETTINGS for option in one.options[1:]]
    assert declared == list(ALIASES.items())


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_an_option_and_a_variable(calls: Calls, alias: str) -> None:
    name = ALIASES[alias]
    written, value = SAMPLES[name]
    args = ["--no-" + alias[2:]] if name in SWITCHES else [alias, written]
    assert invoke("main:app", *args).output == ""
    variable = "WSGATE_" + alias[2:].replace("-", "_").upper()
    assert invoke("main:app", **{variable: written}).output == ""
    assert [options[name] for _, options in calls] == [value, value]


def test_the_last_of_several_names_counts(calls: Calls) -> None:
    invoke("main:app", "--no-ws-fast-lane", "--ws-fast-path")
    invoke("main:app", "--ws-fast-path", "--no-ws-fast-lane")
    invoke("main:app", "--no-ws-fast-path", "--ws-fast-lane")
    assert [options["ws_fast_path"] for _, options in calls] == [True, False, True]


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_variable(calls: Calls, name: str) -> None:
    written, value = SAMPLES[name]
    variable = "WSGATE_" + option_of(name)[2:].replace("-", "_").upper()
    assert invoke("main:app", **{variable: written}).output == ""
    assert calls.options[name] == value


def test_the_app_and_its_options_have_variables(calls: Calls) -> None:
    invoke(WSGATE_APP="main:make", WSGATE_FACTORY="1", WSGATE_APP_DIR="src")
    ((app, options),) = calls
    assert (app, options["factory"], options["app_dir"]) == ("main:make", True, "src")


def test_an_option_overrides_its_variable(calls: Calls) -> None:
    invoke("main:app", "--port", "1", WSGATE_PORT="2")
    assert calls.options["port"] == 1


def test_an_address_may_be_given_several_times(calls: Calls) -> None:
    invoke("main:app", "--host", "::1", "--host", "", "--uds", "a,b", "--uds", "c")
    assert (calls.options["host"], calls.options["uds"]) == (("::1", ""), ("a,b", "c"))
    invoke("main:app", WSGATE_HOST="::1, 127.0.0.1", WSGATE_UDS="a,b", WSGATE_SYSTEMD_SOCKET="a,b")
    options = calls[1][1]
    assert (options["host"], options["uds"]) == (("::1", "127.0.0.1"), ("a", "b"))
    assert options["systemd_sockets"] == ("a", "b")


@pytest.mark.parametrize("written", ["660", "0660", "0o660"])
def test_permissions_are_octal(calls: Calls, written: str) -> None:
    assert invoke("main:app", "--uds-perms", written).output == ""
    assert calls.options["uds_perms"] == 0o660
    assert invoke("main:app", WSGATE_UDS_PERMS=written).output == ""
    assert calls[1] == calls[0]


def test_an_empty_variable_counts_as_not_set(calls: Calls) -> None:
    assert invoke("main:app", WSGATE_LOG_LEVEL="", WSGATE_UDS="").exit_code == 0
    assert (calls.options["log_level"], calls.options["uds"]) == (None, ())


def test_a_version_in_the_environment_is_not_an_option(calls: Calls) -> None:
    assert invoke("main:app", WSGATE_VERSION="0.1.0").output == ""
    assert len(calls) == 1


@pytest.mark.parametrize("variable", ["WSGATE_HEADER", "WSGATE_HEADERS"])
def test_a_variable_has_one_header_on_each_line(calls: Calls, variable: str) -> None:
    invoke("main:app", **{variable: "X-One: a b\nX-Two:c:d"})
    assert calls.options["headers"] == (("X-One", "a b"), ("X-Two", "c:d"))


def test_headers_may_be_given_several_times(calls: Calls) -> None:
    invoke("main:app", "--header", "X-One: a b ", "--header", "X-Two:c:d", "--header", "Empty:")
    assert calls.options["headers"] == (("X-One", "a b"), ("X-Two", "c:d"), ("Empty", ""))


def test_a_parsed_value_stays_as_it_is() -> None:
    assert cli._HeaderType().convert(("X-One", "a"), None, None) == ("X-One", "a")
    assert cli._ListType().convert(("a", "b"), None, None) == ("a", "b")
    assert cli._OctalType().convert(0o660, None, None) == 0o660


def test_origins_have_commas_between_them(calls: Calls) -> None:
    invoke("main:app", "--ws-origins", " https://a.example,, none ,")
    invoke("main:app", "--ws-origins", "")
    assert [options["ws_origins"] for _, options in calls] == [("https://a.example", "none"), ()]


def test_factory_and_folder(calls: Calls) -> None:
    invoke("main:make", "--factory", "--app-dir", "src")
    assert (calls.options["factory"], calls.options["app_dir"]) == (True, "src")


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to an empty folder; restore the environment afterwards."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def shown(*args: str, **env: str) -> dict[str, tuple[str, str]]:
    """Return what --show-config prints: value and source of each setting that is no default."""
    result = invoke("--show-config", *args, **env)
    assert result.exit_code == 0, result.output
    rows = [re.split(r" += | +# ", line) for line in result.output.splitlines()]
    assert len(rows) == len(ALL_SETTINGS) + len(PROGRAM_SETTINGS)
    return {key: (value, where) for key, value, where in rows if not where.startswith("default")}


def test_each_source_goes_before_the_next(calls: Calls, here: Path) -> None:
    (here / "wsgate.toml").write_text(
        'app = "main:app"\nport = 1\nbacklog = 1\nroot-path = "/1"\nws-max-size = 1\n'
    )
    (here / "more.env").write_text("WSGATE_BACKLOG=2\nWSGATE_ROOT_PATH=/2\nWSGATE_WS_MAX_SIZE=2\n")
    args = ("--env-file", "more.env", "--ws-max-size", "4")
    env = {"WSGATE_ROOT_PATH": "/3", "WSGATE_WS_MAX_SIZE": "3"}
    assert shown(*args, **env) == {
        "app": ('"main:app"', "wsgate.toml:1"),
        "env-file": ('"more.env"', "command line"),
        "port": ("1", "wsgate.toml:2"),
        "backlog": ("2", "variable WSGATE_BACKLOG of more.env"),
        "root-path": ('"/3"', "variable WSGATE_ROOT_PATH"),
        "ws-max-size": ("4", "command line"),
    }
    assert calls == []
    assert invoke(*args, **env).output == ""
    names = ("port", "backlog", "root_path", "ws_max_size")
    assert [calls.options[name] for name in names] == [1, 2, "/3", 4]
    assert calls[0][0] == "main:app"


def test_what_is_shown_is_a_file_that_sets_the_same(calls: Calls, here: Path) -> None:
    names = [one.name for one in ALL_SETTINGS if not (one.secret or one.name == "preload")]
    args = [argument for name in names for argument in as_arguments(name)]
    first = invoke("--show-config", "main:app", "--factory", "--app-dir", "src", *args).output
    (here / "wsgate.toml").write_text(first)
    second = invoke("--show-config").output

    def without_origin(text: str) -> list[str]:
        return [line.rpartition(" # ")[0].strip() for line in text.splitlines()]

    assert without_origin(second) == without_origin(first)
    invoke("main:app", "--factory", "--app-dir", "src", "--config", os.devnull, *args)
    invoke()
    (_, given), (_, from_file) = calls
    as_lists = {name: tuple(map(tuple, given[name])) for name in ("headers", "ws_origins")}
    assert {name: tuple(map(tuple, from_file[name])) for name in as_lists} == as_lists
    assert {**from_file, **as_lists} == {**given, **as_lists}


def test_the_page_about_configuration_shows_what_is_printed(here: Path) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    (file,) = re.findall(r"(?s)```toml\n(.*?)```", page)
    (here / "wsgate.toml").write_text(file)
    command, *lines = re.findall(r"(?s)```console\n(.*?)```", page)[0].splitlines()
    assert command.startswith("$ WSGATE_PORT=9001 wsgate --show-config --backlog 100 | grep ")
    output = invoke("--show-config", "--backlog", "100", WSGATE_PORT="9001").output.splitlines()
    assert len(lines) == 5
    assert set(lines) <= set(output)


def test_a_secret_is_not_shown() -> None:
    files = ("--ssl-certfile", "cert.pem", "--ssl-keyfile-password", "hunter2")
    output = invoke("--show-config", *files).output
    assert "hunter2" not in output
    (line,) = (one for one in output.splitlines() if "password" in one)
    assert re.match(r"#ssl-keyfile-password += \(not shown\) +# command line$", line)


def as_arguments(name: str) -> list[str]:
    """Return a setting's sample on the command line."""
    written, value = SAMPLES[name]
    if name in {"fd", "access_log_format"}:  # they exclude --uds and --log-format
        return []
    if name in SWITCHES:
        return [option_of(name) if value else "--no-" + option_of(name)[2:]]
    return [option_of(name), written]


def test_the_defaults_are_shown_with_their_texts() -> None:
    lines = invoke("--show-config").output.splitlines()
    assert lines[0].split() == ["#app", "=", "none", "#", "default"]
    assert re.match(r"#port += none +# default: 8000$", next(x for x in lines if "port " in x))
    (level,) = (line for line in lines if line.startswith("#log-level "))
    assert level.endswith("# default: info, or the levels in --log-config")


def test_the_variable_that_uvicorn_reads_is_shown(calls: Calls, here: Path) -> None:
    key, name = "forwarded-allow-ips", "FORWARDED_ALLOW_IPS"
    variables = {name: "10.0.0.1, unix:"}
    assert shown(**variables) == {key: ('["10.0.0.1", "unix:"]', f"variable {name}")}
    assert shown(**{name: ""}) == {key: ("[]", f"variable {name}")}
    assert shown("--" + key, "::1", **variables) == {key: ('["::1"]', "command line")}
    own = f"WSGATE_{name}"
    assert shown(**variables, **{own: "::1"}) == {key: ('["::1"]', f"variable {own}")}
    (here / "some.env").write_text(f"{name}=::1\n")
    assert shown("--env-file", "some.env")[key] == ('["::1"]', f"variable {name} of some.env")
    os.environ[name] = "*"
    (here / "wsgate.toml").write_text(f"{key} = '::1'\n")
    assert shown() == {key: ('["::1"]', "wsgate.toml:1")}


def test_what_is_shown_is_in_utf8_whatever_the_terminal(here: Path) -> None:
    result = CliRunner(charset="ascii").invoke(cli.main, ["--show-config", "--root-path", "/é"])
    assert result.exit_code == 0
    assert tomllib.loads(result.stdout_bytes.decode())["root-path"] == "/é"


def printed_to(stdout: int, option: str) -> tuple[int, bytes]:
    """Return the exit status, and what is on stderr."""
    command = [sys.executable, "-m", "wsgate", option]
    done = subprocess.run(
        command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("option", ["--show-config", "--help", "--version"])
def test_a_full_disk_is_one_line(option: str) -> None:
    with Path("/dev/full").open("wb") as full:
        status, errors = printed_to(full.fileno(), option)
    assert status == 1
    assert errors == b"Error: stdout cannot be written: No space left on device\n"


@pytest.mark.parametrize("option", ["--show-config", "--help", "--version"])
def test_a_reader_that_has_left_is_no_error_worth_a_line(option: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert printed_to(writer, option) == (1, b"")
    finally:
        os.close(writer)


def test_a_file_can_be_named(calls: Calls, here: Path) -> None:
    (here / "wsgate.toml").write_text("port = 1\n")
    (here / "other.toml").write_text("backlog = 2\n")
    assert shown("--config", "other.toml") == {"backlog": ("2", "other.toml:1")}
    assert shown(WSGATE_CONFIG="other.toml") == {"backlog": ("2", "other.toml:1")}
    assert shown("--config", os.devnull) == {}
    (here / "more.env").write_text("WSGATE_CONFIG=other.toml\n")
    assert "backlog" in shown("--env-file", "more.env")


def test_a_file_can_name_a_file_of_variables(calls: Calls, here: Path) -> None:
    (here / "wsgate.toml").write_text('\nenv-file = "one.env"\nport = 1\n')
    (here / "one.env").write_text("WSGATE_PORT=2\n")
    (here / "two.env").write_text("WSGATE_PORT=3\n")
    assert shown()["port"] == ("2", "variable WSGATE_PORT of one.env")
    del os.environ["WSGATE_PORT"]
    assert shown(WSGATE_ENV_FILE="two.env")["port"] == ("3", "variable WSGATE_PORT of two.env")


def test_the_variables_of_a_file_are_those_of_the_app_too(calls: Calls, here: Path) -> None:
    (here / "more.env").write_text("WSG_OF_THE_APP=1\n")
    assert invoke("main:app", "--env-file", "more.env").output == ""
    assert os.environ["WSG_OF_THE_APP"] == "1"
    assert "env_file" not in calls.options, "run would read it again"


def test_a_project_can_have_the_settings(calls: Calls, here: Path) -> None:
    (here / "pyproject.toml").write_text('[tool.wsgate]\napp = "main:app"\nfactory = true\n')
    assert invoke().output == ""
    assert calls[0][0] == "main:app"
    assert calls.options["factory"] is True


@pytest.mark.parametrize(
    ("args", "env", "line"),
    [
        (["--config", "nowhere"], {}, "--config nowhere: No such file or directory"),
        (["--config", "."], {}, "--config .: Is a directory"),
        ([], {"WSGATE_CONFIG": "."}, "Invalid value for WSGATE_CONFIG: .: Is a directory"),
        (["--env-file", "nowhere"], {}, "--env-file nowhere: No such file or directory"),
        (["--env-file", "."], {}, "--env-file .: Is a directory"),
        (
            [],
            {"WSGATE_ENV_FILE": "nowhere"},
            "Invalid value for WSGATE_ENV_FILE: nowhere: No such file or directory",
        ),
        (["--config", "no.toml"], {}, "no.toml:2: env-file nowhere: No such file or directory"),
        (
            ["--config", "a.toml"],
            {},
            "a.toml:1: there is no setting prot; did you mean port?",
        ),
        (
            ["--env-file", "port.env"],
            {},
            "Invalid value for WSGATE_PORT of port.env: must be 0 to 65535",
        ),
        ([], {"WSGATE_PORT": "65536"}, "Invalid value for WSGATE_PORT: must be 0 to 65535"),
        (["--port", "65536"], {}, "--port must be 0 to 65535"),
        (["--config", "both.toml"], {}, "both.toml:3: uds must be alone, without --fd"),
        (["--config", "both.toml", "--uds", "a"], {}, "--uds must be alone, without --fd"),
    ],
)
def test_a_wrong_value_names_its_source_in_one_line(
    calls: Calls, here: Path, args: list[str], env: dict[str, str], line: str
) -> None:
    (here / "no.toml").write_text('\nenv-file = "nowhere"\n')
    (here / "a.toml").write_text("prot = 1\n")
    (here / "both.toml").write_text('fd = 3\n\nuds = "a"\n')
    (here / "port.env").write_text("WSGATE_PORT=65536\n")
    result = invoke("--show-config", *args, **env)
    assert (result.exit_code, result.output) == (1, f"Error: {line}\n")


def test_an_error_of_the_server_names_the_line(calls: Calls, here: Path) -> None:
    (here / "wsgate.toml").write_text('app = "main:app"\nfd = 9\n')
    calls.error = ConfigError("--fd 9 is not a socket", setting="fd")
    assert invoke().output == "Error: wsgate.toml:2: fd 9 is not a socket\n"
    calls.error = ConfigError('"main:app" is 7, not an ASGI app', setting="app")
    assert invoke().output == 'Error: wsgate.toml:1: "main:app" is 7, not an ASGI app\n'
    assert invoke("other:app").output == 'Error: "main:app" is 7, not an ASGI app\n'


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_does_not_need_a_file_that_can_be_read(here: Path, args: list[str]) -> None:
    (here / "wsgate.toml").write_text("nonsense")
    assert invoke(*args).exit_code == 0
    assert invoke().output.startswith("Error: wsgate.toml:1: ")
    context = cli.main.make_context("wsgate", [], resilient_parsing=True)
    assert context.params["port"] is None


def test_the_configuration_of_logging_is_passed_on(calls: Calls) -> None:
    invoke("main:app", "--log-config", "log.ini")
    assert calls.options["log_config"] == "log.ini"


# -- help and version ------------------------------------------------------------------------------


def test_help_lists_every_setting() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    listed = set(re.findall(r"(?m)^  (--[-a-z0-9]+)", result.output))
    settings = {option_of(name) for name in FIELDS}
    program = {option_of(one.name) for one in PROGRAM_SETTINGS} - {"--app"}
    assert listed == settings | program | {"--config", "--show-config", "--version", "--help"}
    assert {"--no-" + option_of(name)[2:] for name in SWITCHES} <= set(
        re.findall(r"--no-[-a-z]+", result.output)
    )


def sections(text: str) -> dict[str, set[str]]:
    """Return the first option of each entry of a help text, by its heading."""
    found = {}
    for part in text.split("\n\n"):
        if heading := re.match(r"(\S.*):\n", part):
            found[heading[1]] = set(re.findall(r"(?m)^  (--[-a-z0-9]+)", part))
    return found


def test_help_has_the_settings_under_the_headings_of_their_groups() -> None:
    found = sections(invoke("--help").output)
    groups = dict.fromkeys(setting.group for setting in ALL_SETTINGS)
    assert list(found) == [*groups, "Other options"]
    for group in groups:
        settings = (one for one in (*ALL_SETTINGS, *PROGRAM_SETTINGS) if one.group == group)
        assert found[group] == {option_of(one.name) for one in settings} - {"--app"}
    assert found["Other options"] == {"--config", "--show-config", "--version", "--help"}


def test_help_does_not_show_aliases() -> None:
    text = invoke("--help").output
    assert "fast-lane" not in text
    assert "--h11-max-incomplete-event-size" not in text


def test_help_has_the_texts_of_the_declarations() -> None:
    text = "".join(invoke("--help").output.split())  # which lines break at hyphens
    for setting in ALL_SETTINGS:
        assert "".join(setting.plain_help.split()) in text
    assert "`" not in text


def test_help_shows_the_defaults() -> None:
    text = " ".join(invoke("--help").output.split())
    for default in ("2048", "auto", "16777216", "20.0", "(here)"):
        assert f"[default: {default}]" in text
    stale = "those of the stale file that a socket replaces, or 666"
    for default in ("127.0.0.1", "8000", stale, "no limit", "any"):
        assert f"[default: ({default})]" in text
    assert "None" not in text


def test_help_shows_the_units() -> None:
    text = invoke("--help").output
    for option in ("--ws-ping-interval SECONDS", "--ws-max-size BYTES", "--ws-max-queue MESSAGES"):
        assert option in text
    assert "--ws-max-message-rate FLOAT" in text


def test_version(calls: Calls) -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.output in [VERSION + line for line in EXTENSIONS_LINES]
    assert calls == []


@pytest.mark.parametrize("missing", [None, *cli._EXTENSIONS])
def test_version_says_whether_the_extensions_are_used(
    monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    for name in cli._EXTENSIONS:
        module = None if name == missing else types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
    line = EXTENSIONS_LINES[0] if missing is None else WITHOUT
    assert invoke("--version").output == VERSION + line


def test_version_does_not_disturb_completion() -> None:
    context = cli.main.make_context("wsgate", ["--version"], resilient_parsing=True)
    assert context.params["app"] is None


def test_older_clicks_have_parameters_that_are_not_generic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NotGeneric(click.ParamType):  # type: ignore[type-arg]
        __class_getitem__ = None  # type: ignore[assignment]

    monkeypatch.setattr(click, "ParamType", NotGeneric)
    spec = importlib.util.spec_from_file_location("wsgate_cli_again", cli.__file__)
    assert spec is not None
    assert spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert again._HeaderType().convert("a:b", None, None) == ("a", "b")


LOOPS = "'auto', 'asyncio', 'uvloop', 'none'"

# -- invalid command lines -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--port", "http"], "Invalid value for '--port': 'http' is not a valid integer."),
        (
            ["--uds-perms", "9z"],
            "Invalid value for '--uds-perms': '9z' is not an octal number such as",
        ),
        (["--loop", "trio"], "Invalid value for '--loop': 'trio' is not one of "),
        (["--log-level", "loud"], "Invalid value for '--log-level': 'loud' is not one of "),
        (
            ["--loop", "a:b"],
            f"Invalid value for '--loop': 'a:b' is not one of {LOOPS}; wsgate takes no",
        ),
        (
            ["--ws-deflate-context-takeover", "--port", "1"],
            "Invalid value for '--ws-deflate-context-takeover': '--port' is neither true nor false",
        ),
        (["-b", "0.0.0.0:80"], "No such option: -b; use --host HOST --port PORT, or --uds PATH"),
        (["--bind=a"], "No such option: --bind; use --host HOST --port PORT, or --uds PATH"),
        (["-k", "uvloop"], "No such option: -k; leave it out: there is one kind of worker"),
        (["-w4"], "No such option: -w; use --workers"),
        (["--ws-ping-timeout", "soon"], "Invalid value for '--ws-ping-timeout': 'soon' is not a "),
        (["--header", "x"], "Invalid value for '--header': 'x' is not of the form NAME:VALUE"),
        (["--nonsense"], "No such option"),
    ],
)
def test_a_command_line_that_cannot_be_parsed(calls: Calls, args: list[str], line: str) -> None:
    result = invoke("main:app", *args)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith(f"Error: {line}")
    assert calls == []


def test_an_option_of_another_server_is_none_of_ours() -> None:
    known = {name for one in cli.main.params for name in (*one.opts, *one.secondary_opts)}
    assert not known & INSTEAD.keys()
    named = {name for text in INSTEAD.values() for name in re.findall(r"--[a-z][-a-z]+", text)}
    assert named <= known


@pytest.mark.parametrize("level", ["INFO", "info", "Info"])
def test_a_level_may_be_in_any_case(calls: Calls, level: str) -> None:
    assert invoke("main:app", "--log-level", level).output == ""
    assert invoke("main:app", WSGATE_LOG_LEVEL=level).output == ""
    assert [options["log_level"] for _, options in calls] == ["info", "info"]


def test_a_variable_of_a_switch_is_true_or_false(calls: Calls) -> None:
    result = invoke("main:app", WSGATE_ACCESS_LOG="maybe")
    assert result.exit_code == 2
    assert result.output.endswith(
        "Error: Invalid value for WSGATE_ACCESS_LOG: 'maybe' is neither true nor false\n"
    )


def test_no_app_at_all() -> None:
    result = invoke()
    assert result.exit_code == 2
    ways = 'as in `wsgate main:app`, by `app = "main:app"` in wsgate.toml, or in WSGATE_APP'
    assert result.output.endswith(f"Error: Missing argument 'APP'. Name it {ways}\n")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("--port must be free"), 1, "Error: --port must be free\n"),
        (SystemExit(3), 3, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_each_failure_has_its_exit_status(
    calls: Calls, error: BaseException, status: int, line: str
) -> None:
    calls.error = error
    result = invoke("main:app")
    assert (result.exit_code, result.output) == (status, line)


# -- real processes --------------------------------------------------------------------------------

APPS = """
import asyncio
import time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": repr(scope["server"]).encode()})

async def refuses(scope, receive, send):
    await send({"type": "lifespan.startup.failed", "message": "no database"})

def make():
    return app

def fails():
    raise LookupError("no settings")

number = 7

async def make_later():
    return app

async def never():
    print("making", flush=True)
    await asyncio.Event().wait()

async def fails_late():
    try:
        await never()
    except asyncio.CancelledError:
        raise OSError("no database") from None

async def blocks():
    print("making", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with apps, and with modules that cannot be served."""
    (tmp_path / "apps.py").write_text(APPS)
    (tmp_path / "broken.py").write_text("import wsg_nowhere")
    (tmp_path / "wrong.py").write_text("def app(:")
    (tmp_path / "reads.py").write_text("import json\n\napp = json.loads('[')")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit()")
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which wsgate is found from any folder.

    Coverage is not among it: its handler of SIGTERM ends the process by that signal.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    return {**inherited, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **more}


COMMAND = (sys.executable, "-m", "wsgate")


def ended(folder: Path, *args: str, **options: Any) -> tuple[int, str]:
    """Run the command to its end; return its exit status and its stderr."""
    done = subprocess.run(
        [*COMMAND, *args],
        cwd=folder,
        env=environment(**options.pop("env", {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        **options,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["nowhere:app"], r'could not import module "nowhere": no such module'),
        (
            ["broken:app"],
            r'could not import "broken": ModuleNotFoundError: .*wsg_nowhere.*broken\.py, line 1\)',
        ),
        (["wrong:app"], r'could not import "wrong": SyntaxError: .*wrong\.py, line 1\)'),
        (["reads:app"], r'could not import "reads": .*JSONDecodeError: .*reads\.py, line 3\)'),
        (["exits:app"], r'could not import "exits": SystemExit \(.*exits\.py, line 2\)'),
        (["apps:app", "--app-dir", "nowhere"], r"--app-dir nowhere: No such file or directory"),
        (["apps"], r'"apps" is not of the form "module:attribute"'),
        (["apps.py"], r'"apps.py" is not .*"; did you mean apps:app\?'),
        (["apps.py:make"], r"could not .* no such module; did you mean apps:make\?"),
        (["apps:nothing"], r'attribute "nothing" not found in "apps" \(.*apps\.py\)'),
        (["apps:number"], r'"apps:number" is 7, not an ASGI app'),
        (
            ["apps:fails", "--factory"],
            r"the app's factory failed: LookupError: no settings \(.*apps\.py, line 18\)",
        ),
        (["apps:app", "--uds", "apps.py"], r"--uds apps\.py exists and is not a socket"),
        (["apps:app", "--uds-perms", "1000"], r"--uds-perms must be octal, 0 to 777"),
        (["apps:app", "--fd", "0"], r"--fd 0 is not a socket: .+"),
        (["apps:app", "--fd", "-1"], r"--fd must be 0 to 2147483647"),
        (["apps:app", "--port", "65536"], r"--port must be 0 to 65535"),
        (["apps:app", "--ws-max-size", "0"], r"--ws-max-size must be greater than 0"),
        (["apps:app", "--header", "a b:c"], r"--header: 'a b' is not the name of a header"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line(folder: Path, args: list[str], line: str) -> None:
    status, err = ended(folder, *args)
    assert re.fullmatch(f"Error: {line}\n", err), err
    assert status == 1


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("WSGATE_APP", "apps", '"apps" is not of the form "module:attribute"'),
        ("WSGATE_APP", "nowhere:app", 'could not import module "nowhere": no such module'),
        ("WSGATE_APP", "apps:number", '"apps:number" is 7, not an ASGI app'),
        ("WSGATE_APP_DIR", "nowhere", "nowhere: No such file or directory"),
        ("WSGATE_FD", "0", "0 is not a socket: Socket operation on non-socket"),
    ],
)
def test_an_error_names_its_variable(folder: Path, variable: str, value: str, line: str) -> None:
    args = [] if variable == "WSGATE_APP" else ["apps:app"]
    status, err = ended(folder, *args, env={variable: value})
    assert (status, err) == (1, f"Error: Invalid value for {variable}: {line}\n")


def test_an_app_that_fails_is_no_error_in_its_variable(folder: Path) -> None:
    status, err = ended(folder, env={"WSGATE_APP": "reads:app"})
    assert status == 1
    assert err.startswith('Error: could not import "reads": json.decoder.JSONDecodeError: ')


def test_the_traceback_of_an_import_error_is_logged_at_debug_level(folder: Path) -> None:
    _, line = ended(folder, "reads:app")
    status, err = ended(folder, "reads:app", "--log-level", "debug")
    log, error = err[: -len(line)], err[-len(line) :]
    assert (status, error) == (1, line)
    assert log.startswith("DEBUG:    The app could not be loaded\n  Traceback (most recent call ")
    assert re.search(r'reads\.py", line 3, in <module>\n.*json\.loads', log)
    assert re.search(r'decoder\.py", line \d+, in decode\n', log)


@pytest.mark.parametrize("factory", ["never", "fails_late", "blocks"])
def test_an_interrupted_factory_ends_without_a_traceback(
    folder: Path, loop_name: str, factory: str
) -> None:
    with subprocess.Popen(
        [*COMMAND, f"apps:{factory}", "--factory", "--port", "0", "--loop", loop_name],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "making\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate() == ("", "")
        finally:
            watchdog.cancel()
    assert process.returncode == 128 + signal.SIGINT


def test_a_port_in_use_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        status, err = ended(folder, "apps:app", "--port", port)
    assert re.fullmatch(rf"Error: cannot listen on 127\.0\.0\.1:{port}: .+\n", err), err
    assert status == 1


def test_a_failed_startup_has_its_message_and_exit_status(folder: Path) -> None:
    status, err = ended(folder, "apps:refuses", "--port", "0")
    assert status == 3
    assert err == "ERROR:    no database\nERROR:    Application startup failed. Exiting.\n"


def test_an_interrupt_during_the_import_shows_no_traceback(folder: Path) -> None:
    (folder / "slow.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGINT)\nasync def app(*_): pass\n"
    )
    assert ended(folder, "slow:app", "--port", "0") == (130, "")


def test_the_installed_command_is_the_same() -> None:
    command = Path(sys.executable).with_name("wsgate")
    if not command.exists():
        pytest.skip("wsgate is not installed beside this Python")
    done = subprocess.run(
        [command, "--version"], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.startswith(VERSION)
    assert done.stderr == ""


def test_importing_the_command_does_not_run_it() -> None:
    assert importlib.import_module("wsgate.__main__").main is cli.main


class Running:
    """A server in another process; where: its address as logged; seen: the lines up to that."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.where = ""
        self.seen: list[str] = []

    def wait(self) -> Self:
        """Wait for the log line with the address."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.seen.append(line)
            if match := re.search(r"wsgate running on (.+) \(Press CTRL\+C to quit\)$", line):
                self.where = match[1]
                return self
        raise AssertionError("".join(self.seen))

    def stop(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal; return the exit status, stdout and stderr."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.send_signal(number)
        err, out = self._process.stderr.read(), self._process.stdout.read()
        return self._process.wait(), out, err


@contextlib.contextmanager
def running(folder: Path, *args: str, **options: Any) -> Iterator[Running]:
    """Run the command during the context, for at most PATIENCE seconds."""
    with subprocess.Popen(
        [*COMMAND, *args],
        cwd=folder,
        env=environment(**options.pop("env", {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            yield Running(process).wait()
        finally:
            watchdog.cancel()
            process.kill()


def answer(sock: socket.socket) -> str:
    """Send a request on a connection, return the body of its response, and close it."""
    with contextlib.closing(sock):
        sock.settimeout(PATIENCE)
        sock.sendall(b"GET /path HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.status == 200
        return response.read().decode()


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), PATIENCE)


STOPPED = "INFO:     Shutting down\nINFO:     Stopped\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_on_a_free_port_stops_gracefully(
    folder: Path, loop_name: str, number: signal.Signals
) -> None:
    # The line may be logged a moment before the signal handlers are installed; the response is
    # sent after.
    with running(folder, "apps:app", "--port", "0", "--loop", loop_name) as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.where)
        port = server.where.rsplit(":", 1)[1]
        assert answer(connected(server.where)) == f"('127.0.0.1', {port})"
        status, out, err = server.stop(number)
    assert (status, err) == (0, STOPPED)
    assert re.fullmatch(r'INFO:     127\.0\.0\.1:\d+ - "GET /path HTTP/1\.1" 200 OK\n', out)


def test_a_server_on_a_unix_socket_removes_it(
    folder: Path, loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # the whole path may be too long for a Unix socket
    with running(folder, "apps:app", "--uds", "app.sock", "--loop", loop_name) as server:
        assert server.where == "unix socket app.sock"
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect("app.sock")
        assert answer(sock) == "('app.sock', None)"
        status, out, err = server.stop(signal.SIGTERM)
    assert (status, out, err) == (
        0,
        'INFO:      - "GET /path HTTP/1.1" 200 OK\n',
        STOPPED,
    )
    assert not (folder / "app.sock").exists()


def test_a_server_on_an_inherited_socket(folder: Path, loop_name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        fd, address = given.fileno(), given.getsockname()
        args = ("apps:make", "--factory", "--fd", str(fd), "--loop", loop_name)
        with running(folder, *args, pass_fds=[fd]) as server:
            assert server.where == f"http://127.0.0.1:{address[1]}"
            assert answer(connected(server.where)) == repr(address)
            assert server.stop(signal.SIGINT)[0] == 0


def test_a_server_with_its_settings_in_the_environment(folder: Path, tmp_path: Path) -> None:
    env = {"WSGATE_APP": "apps:app", "WSGATE_PORT": "0", "WSGATE_ACCESS_LOG": "false"}
    (tmp_path / "elsewhere").mkdir()
    env["WSGATE_APP_DIR"] = os.pardir
    with running(tmp_path / "elsewhere", env=env) as server:
        answer(connected(server.where))
        assert server.stop(signal.SIGTERM) == (0, "", STOPPED)


@pytest.mark.parametrize("factory", ["make", "make_later"])
def test_a_server_whose_app_a_factory_makes(folder: Path, loop_name: str, factory: str) -> None:
    with running(folder, f"apps:{factory}", "--port", "0", "--loop", loop_name) as server:
        assert answer(connected(server.where)).startswith("('127.0.0.1', ")
        assert server.seen[0] == (
            "WARNING:  ASGI app factory detected: calling it to get the app. "
            "Set --factory (factory=True) to make this explicit.\n"
        )
        assert server.stop(signal.SIGTERM)[0] == 0


def test_a_server_beside_a_service_of_its_name(folder: Path) -> None:
    address = "tcp://10.0.0.1:80"
    env = {"WSGATE_UDS": address, "WSGATE_PORT": "0", "WSGATE_SERVICE_HOST": "10.0.0.1"}
    with running(folder, "apps:app", env=env) as server:
        assert server.seen[0] == (
            f"Warning: WSGATE_UDS={address} is ignored: it is the address of a service, "
            "set by Kubernetes (enableServiceLinks)\n"
        )
        assert answer(connected(server.where)).startswith("('127.0.0.1', ")
        assert server.stop(signal.SIGTERM)[0] == 0
