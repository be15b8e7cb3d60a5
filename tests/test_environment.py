import os
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from wsgate import cli, environment
from wsgate.config import SETTINGS, Config
from wsgate.errors import ConfigError
from wsgate.server.worker import Worker
from wsgate.settings import Setting
from wsgate.supervision import SUPERVISION_SETTINGS, Supervision

LINK = "tcp://10.0.0.1:80"
PARAMETERS = [p for p in cli.main.params if isinstance(p, environment.Parameter)]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings that the environment of the tests may have."""
    for name in list(os.environ):
        if name.startswith("WSGATE_"):
            monkeypatch.delenv(name)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Do nothing."""


Options = dict[str, Any]


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Options:
    """Collect the options of a call of `run`, which only checks them."""
    kept: Options = {}

    def run(app_name: str, *, factory: bool, app_dir: str, interface: str, **options: Any) -> None:
        kept.update(options, app=app_name, factory=factory, app_dir=app_dir, interface=interface)
        options.pop("log_config", None)
        of_supervisor = {one.name for one in SUPERVISION_SETTINGS}
        Supervision(**{name: options.pop(name) for name in of_supervisor})
        Worker(app, Config(**options))

    monkeypatch.setattr(cli, "run", run)
    return kept


def invoke(*args: str, **env: str) -> Result:
    return CliRunner().invoke(cli.main, args, env=env, prog_name="wsgate")


def test_every_parameter_but_those_that_print_has_a_variable() -> None:
    names = [p.name for p in cli.main.params if p not in PARAMETERS]
    assert names == ["show_config", "version"]


def test_each_name_of_an_option_is_a_variable(options: Options) -> None:
    invoke("main:app", WSGATE_H11_MAX_INCOMPLETE_EVENT_SIZE="200000")
    assert options["limit_request_head"] == 200_000
    invoke("main:app", WSGATE_H11_MAX_INCOMPLETE_EVENT_SIZE="1", WSGATE_LIMIT_REQUEST_HEAD="2")
    assert options["limit_request_head"] == 2
    option = environment.Option(["--one", "--another-one", "name"], group="")
    assert option.variables == ["WSGATE_ONE", "WSGATE_ANOTHER_ONE", "WSGATE_NAME"]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_variables_are_the_declared_ones(setting: Setting) -> None:
    (parameter,) = (p for p in PARAMETERS if p.name == setting.name)
    assert tuple(parameter.variables) == setting.variables


def test_the_name_takes_precedence_over_an_alias_in_the_environment(options: Options) -> None:
    invoke("main:app", WSGATE_WS_FAST_LANE="false")
    assert options["ws_fast_path"] is False
    invoke("main:app", WSGATE_WS_FAST_LANE="false", WSGATE_WS_FAST_PATH="true")
    assert options["ws_fast_path"] is True


# -- invalid values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("WSGATE_PORT", "http", "'http' is not a valid integer"),
        ("WSGATE_PORT", "10.0.0.1:80", "'10.0.0.1:80' is not a valid integer"),
        ("WSGATE_WS_PING_TIMEOUT", "soon", "'soon' is not a valid float"),
        ("WSGATE_LOG_LEVEL", "loud", "'loud' is not one of"),
        ("WSGATE_ACCESS_LOG", "maybe", "'maybe' is neither true nor false"),
        ("WSGATE_WS_FAST_LANE", "maybe", "'maybe' is neither true nor false"),
        ("WSGATE_RESET_CONTEXTVARS", "maybe", "'maybe' is neither true nor false"),
        ("WSGATE_FACTORY", "maybe", "'maybe' is neither true nor false"),
        ("WSGATE_WS_PER_MESSAGE_DEFLATE", "maybe", "'maybe' is neither true nor false"),
        ("WSGATE_HEADER", "X-A: b\nnone", "'none' is not of the form NAME:VALUE"),
        ("WSGATE_HEADERS", "none", "'none' is not of the form NAME:VALUE"),
        ("WSGATE_LIMIT_REQUEST_HEAD", "x", "'x' is not a valid integer"),
        ("WSGATE_H11_MAX_INCOMPLETE_EVENT_SIZE", "x", "'x' is not a valid integer"),
    ],
)
def test_a_value_that_cannot_be_parsed_names_its_variable(
    options: Options, variable: str, value: str, reason: str
) -> None:
    result = invoke("main:app", **{variable: value})
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith(
        f"Error: Invalid value for {variable}: {reason}"
    )
    assert "--" not in result.output.splitlines()[-1]
    assert options == {}


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("WSGATE_PORT", "65536", "must be 0 to 65535"),
        ("WSGATE_WS_MAX_SIZE", "-1", "must be greater than 0"),
        ("WSGATE_LIMIT_REQUEST_HEAD", "0", "must be greater than 0"),
        ("WSGATE_H11_MAX_INCOMPLETE_EVENT_SIZE", "0", "must be greater than 0"),
        ("WSGATE_ROOT_PATH", "api", "must be /like/this, or empty"),
        ("WSGATE_HEADER", "a b:c", "'a b' is not the name of a header"),
        ("WSGATE_HEADER", "Upgrade:c", "upgrade is set by the server"),
        (
            "WSGATE_WS_ORIGINS",
            "example.com",
            "'example.com' is not an origin such as https://example.com",
        ),
    ],
)
def test_a_value_that_is_out_of_bounds_names_its_variable(
    options: Options, variable: str, value: str, reason: str
) -> None:
    result = invoke("main:app", **{variable: value})
    assert (result.exit_code, result.output) == (
        1,
        f"Error: Invalid value for {variable}: {reason}\n",
    )


def test_a_value_of_the_command_line_names_its_option(options: Options) -> None:
    result = invoke("main:app", "--ws-max-size", "0", WSGATE_WS_MAX_SIZE="-1", WSGATE_PORT="1")
    assert (result.exit_code, result.output) == (1, "Error: --ws-max-size must be greater than 0\n")
    result = invoke("main:app", "--port", "x", WSGATE_PORT="y")
    assert result.exit_code == 2
    assert "Error: Invalid value for '--port': 'x' is not a valid integer." in result.output


def test_an_error_in_an_alias_names_the_option(options: Options) -> None:
    result = invoke("main:app", "--h11-max-incomplete-event-size", "x")
    assert result.output.endswith(
        "Error: Invalid value for '--limit-request-head': 'x' is not a valid integer.\n"
    )
    result = invoke("main:app", "--h11-max-incomplete-event-size", "0")
    assert result.output == "Error: --limit-request-head must be greater than 0\n"


def test_an_error_of_no_setting_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise ConfigError("cannot listen on a:1: no such host")

    monkeypatch.setattr(cli, "run", run)
    result = invoke("main:app", WSGATE_HOST="a", WSGATE_PORT="1")
    assert (result.exit_code, result.output) == (1, "Error: cannot listen on a:1: no such host\n")


def test_a_parameter_outside_a_command_names_its_option() -> None:
    option = environment.Option(["--port"], group="")
    assert str(click.BadParameter("no", param=option).format_message()) == (
        "Invalid value for '--port': no"
    )


# -- Kubernetes ------------------------------------------------------------------------------------


def ignored(variable: str, value: str) -> str:
    return (
        f"Warning: {variable}={value} is ignored: it is the address of a service, "
        "set by Kubernetes (enableServiceLinks)\n"
    )


@pytest.mark.parametrize("value", [LINK, "udp://10.0.0.1:53", "sctp://a:1", "tcp://[fd00::1]:80"])
def test_the_address_of_a_service_is_ignored(options: Options, value: str) -> None:
    result = invoke("main:app", WSGATE_PORT=value)
    assert (result.exit_code, result.output) == (0, ignored("WSGATE_PORT", value))
    assert options["port"] == Config().port


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_the_address_of_a_service_is_ignored_everywhere(
    options: Options, parameter: environment.Parameter
) -> None:
    args = [] if parameter.name == "app" else ["main:app"]
    result = invoke(*args, **dict.fromkeys(parameter.variables, LINK))
    warnings = "".join(ignored(variable, LINK) for variable in parameter.variables)
    if args:
        assert (result.exit_code, result.output) == (0, warnings)
    else:
        assert result.output.startswith(warnings)
        assert result.output.endswith(" or in WSGATE_APP\n")


def test_no_warning_where_the_command_line_sets_the_option(options: Options) -> None:
    result = invoke("main:app", "--port", "1", WSGATE_PORT=LINK)
    assert (result.exit_code, result.output) == (0, "")
    assert options["port"] == 1


def test_another_variable_of_the_option_is_used(options: Options) -> None:
    invoke("main:app", WSGATE_HEADER=LINK, WSGATE_HEADERS="a:b")
    assert options["headers"] == (("a", "b"),)
    result = invoke("main:app", WSGATE_HEADER=LINK, WSGATE_HEADERS="a")
    assert "Error: Invalid value for WSGATE_HEADERS: " in result.output


def test_other_variables_of_kubernetes_are_ignored(options: Options) -> None:
    result = invoke(
        "main:app",
        WSGATE_SERVICE_HOST="10.0.0.1",
        WSGATE_SERVICE_PORT="80",
        WSGATE_PORT_80_TCP=LINK,
        WSGATE_PORT_80_TCP_ADDR="10.0.0.1",
        WSGATE_PORT_80_TCP_PORT="80",
        WSGATE_PORT_80_TCP_PROTO="tcp",
        WSGATE_PROT="9000",
        WSGATE_HELP="1",
        WSGATE_VERSION="1",
    )
    assert (result.exit_code, result.output) == (0, "")
    assert options["port"] == Config().port
