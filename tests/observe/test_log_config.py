import configparser
import contextlib
import copy
import io
import json
import logging
import logging.config
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.saved_loggers import bare_loggers
from wsgate import loggers
from wsgate.errors import ConfigError
from wsgate.logging import LOGGING_CONFIG, AccessFormatter, DefaultFormatter, JsonFormatter
from wsgate.observe import log_config
from wsgate.observe.access_log import log_event
from wsgate.observe.events import RequestDone

NAMES = ["uvicorn", "uvicorn.error", "uvicorn.access"]


@pytest.fixture(autouse=True)
def _bare_loggers() -> Iterator[None]:
    """Restore the loggers, the root logger and those of uvicorn after a test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with bare_loggers():
        yield
    root.handlers, root.level = handlers, level
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate, logger.disabled = [], True, False
        logger.setLevel(logging.NOTSET)


def config_for(server: str) -> dict[str, Any]:
    """Return a configuration as uvicorn's own, for the loggers and formatters of a server."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "default": {
                "()": f"{server}.logging.DefaultFormatter",
                "fmt": "E %(levelprefix)s %(message)s",
            },
            "access": {
                "()": f"{server}.logging.AccessFormatter",
                "fmt": "A %(levelprefix)s %(client_addr)s %(request_line)s %(status_code)s",
            },
            "plain": {"format": "P %(message)s"},
        },
        "handlers": {
            "default": {
                "class": "logging.StreamHandler",
                "formatter": "default",
                "stream": "ext://sys.stderr",
            },
            "access": {
                "class": "logging.StreamHandler",
                "formatter": "access",
                "stream": "ext://sys.stdout",
            },
        },
        "loggers": {
            server: {"handlers": ["default"], "level": "INFO", "propagate": False},
            f"{server}.error": {"level": "INFO"},
            f"{server}.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        },
    }


INI = """
[loggers]
keys = root, error, access
[handlers]
keys = err
[formatters]
keys = default
[logger_root]
level = WARNING
handlers = err
[logger_error]
level = INFO
handlers = err
propagate = 0
qualname = {0}.error
[logger_access]
level = INFO
handlers = err
propagate = 0
qualname = {0}.access
[handler_err]
class = StreamHandler
formatter = default
args = (sys.stderr,)
[formatter_default]
class = {0}.logging.DefaultFormatter
format = E %(levelprefix)s %(message)s
"""

TAKEN = ("The log configuration names loggers of uvicorn: {}. Its settings are used for {}").format


def log_lines() -> None:
    loggers.error.debug("too low")
    loggers.error.info("an error")
    loggers.access.info('%s - "%s" %s', "a:1", "GET /", "200")


def write(folder: Path, name: str, server: str) -> Path:
    path = folder / name
    config = config_for(server)
    path.write_text(INI.format(server) if name.endswith(("ini", "conf")) else json.dumps(config))
    return path


# -- applying --------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_file", [False, True])
def test_a_mapping_is_applied(
    as_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config: Any = write(tmp_path, "a.json", "wsgate") if as_file else config_for("wsgate")
    log_config.apply(config)
    log_lines()
    assert capsys.readouterr() == ("A INFO:     a:1 GET / 200\n", "E INFO:     an error\n")


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.yml", "a.ini", "a.conf"])
@pytest.mark.parametrize("server", ["wsgate", "uvicorn"])
def test_a_file_is_applied_for_both_servers(
    name: str, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, name, server)
    log_config.apply(path if server == "wsgate" else str(path))
    log_lines()
    out, err = capsys.readouterr()
    is_ini = name.endswith(("ini", "conf"))
    expected = "E INFO:     an error\n"
    if server == "uvicorn":
        theirs = NAMES[1:] if is_ini else NAMES
        ours = [one.replace("uvicorn", "wsgate") for one in theirs]
        expected = f"E WARNING:  {TAKEN(', '.join(theirs), ', '.join(ours))}\n{expected}"
    access = 'E INFO:     a:1 - "GET /" 200\n' if is_ini else "A INFO:     a:1 GET / 200\n"
    assert (out, err) == (("", expected + access) if is_ini else (access, expected))


def test_a_parser_and_an_open_file_are_applied(capsys: pytest.CaptureFixture[str]) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(INI.format("uvicorn"))
    sections = parser.sections()
    for config in (parser, io.StringIO(INI.format("uvicorn"))):
        log_config.apply(config)
        loggers.error.info("an error")
        assert capsys.readouterr().err.splitlines()[-1] == "E INFO:     an error"
    assert parser.sections() == sections, "what the program passes is not changed"


def test_a_mapping_of_the_program_is_not_changed() -> None:
    config = config_for("uvicorn")
    log_config.apply(config, use_colors=True)
    assert config == config_for("uvicorn")


# -- a configuration for uvicorn -------------------------------------------------------------------


def test_loggers_of_uvicorn_stay_configured() -> None:
    log_config.apply(config_for("uvicorn"))
    assert logging.getLogger("uvicorn.access").handlers
    assert not logging.getLogger("uvicorn").propagate


def test_loggers_of_uvicorn_mean_nothing_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    config = config_for("wsgate")
    config["loggers"]["uvicorn.access"] = {"handlers": ["default"]}
    log_config.apply(config)
    log_lines()
    assert capsys.readouterr() == ("A INFO:     a:1 GET / 200\n", "E INFO:     an error\n")


def test_a_formatter_may_be_a_class_of_uvicorn(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs change `uvicorn.config.LOGGING_CONFIG`, or write the class itself."""
    theirs = type("AccessFormatter", (), {"__module__": "uvicorn.logging"})
    config = config_for("uvicorn")
    config["formatters"]["access"]["()"] = theirs
    config["formatters"]["default"] = {
        "class": "uvicorn.logging.ColourizedFormatter",
        "format": "C %(levelprefix)s",
    }
    log_config.apply(config)
    formatters = [
        logging.getLogger(name).handlers[0].formatter for name in ("wsgate", "wsgate.access")
    ]
    assert list(map(type, formatters)) == [DefaultFormatter, AccessFormatter]


def test_other_parts_are_left_to_logging(capsys: pytest.CaptureFixture[str]) -> None:
    config = {"version": 1, "disable_existing_loggers": False, "root": {"level": "INFO"}}
    log_config.apply(config)
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger().level == logging.INFO


# -- options ---------------------------------------------------------------------------------------


def test_a_level_goes_before_those_of_the_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_config.apply(config_for("wsgate"), level="warning")
    log_lines()
    loggers.error.warning("a warning")
    assert capsys.readouterr() == ("", "E WARNING:  a warning\n")


@pytest.mark.parametrize("server", ["wsgate", "uvicorn"])
def test_colours_are_set_in_the_formatters_of_ours(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log_config.apply(config_for(server), use_colors=True)
    log_lines()
    out, err = capsys.readouterr()
    assert out == "A \033[32mINFO\033[0m:     a:1 GET / 200\n"
    assert err.endswith("E \033[32mINFO\033[0m:     an error\n")


# -- bad input -------------------------------------------------------------------------------------


def error_of(config: object) -> str:
    with pytest.raises(ConfigError) as raised:
        log_config.apply(config)
    assert raised.value.setting == "log_config"
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", "{", "Expecting property name enclosed in double quotes: line 1 column 2"),
        ("a.json", "[]", "it is not a mapping"),
        ("a.json", "{}", "dictionary doesn't specify a version"),
        ("a.json", '{"version": 1, "loggers": 1}', "TypeError: 'int' object is not iterable"),
        ("a.json", '{"version": 1, "formatters": {"a": 1}}', "Unable to configure formatter 'a'"),
        (
            "a.json",
            '{"version": 1, "handlers": {"a": {"class": "wsg_nowhere.Handler"}}}',
            "Unable to configure handler 'a': ValueError: Cannot resolve 'wsg_nowhere.Handler'",
        ),
        ("a.yaml", "a: [", "yaml.parser.ParserError: "),
        ("a.yml", "", "it is not a mapping"),
        ("a.ini", "", "KeyError: 'formatters'"),
        ("a.ini", "a", "configparser.MissingSectionHeaderError: "),
        ("a.ini", "[loggers]\nkeys=a", "KeyError: 'formatters'"),
    ],
)
def test_a_file_that_cannot_be_applied(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert error_of(path).startswith(f"--log-config {path}: {reason}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "a.json"
    assert error_of(missing) == f"--log-config {missing}: No such file or directory"
    assert error_of(tmp_path) == f"--log-config {tmp_path}: Is a directory"
    missing.write_bytes(b"\xff")
    assert error_of(missing) == f"--log-config {missing}: line 1 is not UTF-8"


@pytest.mark.parametrize("config", [7, object(), b"a.json", ["a"]])
def test_another_object_is_refused(config: object) -> None:
    assert error_of(config) == "--log-config: it is neither a mapping nor a path"


def test_the_extra_is_named_if_pyyaml_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = write(tmp_path, "a.yaml", "wsgate")
    assert error_of(path) == (f"--log-config {path}: PyYAML is missing: pip install 'wsgate[yaml]'")


# -- the examples of the page ----------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "logging.md"
REQUEST = RequestDone(("127.0.0.1", 5), "GET", b"/a", "1.1", 200, "7-1")


@pytest.mark.parametrize(
    ("language", "error_line", "access_line"),
    [
        ("ini", r"\S+ \S+ INFO hello", '{"time":.*"event":"request".*}'),
        ("yaml", '{"time":.*"message":"hello"}', r'127.0.0.1 - - \[.*\] "GET /a HTTP/1.1" 200 .*'),
        ("toml", "time=.* message=hello", "time=.* path=/a .*"),
    ],
)
def test_the_files_of_the_page_configure_the_log(
    language: str,
    error_line: str,
    access_line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (text,) = re.findall(rf"(?s)```{language}\n(.*?)```", PAGE.read_text())
    path = tmp_path / f"log.{language}"
    path.write_text(text)
    with contextlib.chdir(tmp_path):
        log_config.apply(path)
    loggers.error.info("hello")
    log_event(REQUEST)
    for handler in loggers.access.logger.handlers:
        handler.close()
    assert re.fullmatch(error_line + "\n", capsys.readouterr().err)
    assert re.fullmatch(access_line + "\n", (tmp_path / "access.log").read_text())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = ", "Invalid value (at end of document)"),
        ("version = 2", "Unsupported version: 2"),
        ("a = 1\na = 2", "Cannot overwrite a value"),
    ],
)
def test_an_error_in_toml_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "log.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        log_config.apply(path)
    line = str(raised.value)
    assert line.startswith(f"--log-config {path}: {reason}")
    assert line.isprintable()


def test_the_formatters_of_the_server_fit_a_dict(capsys: pytest.CaptureFixture[str]) -> None:
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["default"] = {"class": "wsgate.logging.LogfmtFormatter"}
    config["formatters"]["access"] = {"()": JsonFormatter}
    log_config.apply(config, use_colors=False)
    loggers.error.info("hello")
    log_event(REQUEST)
    out, err = capsys.readouterr()
    assert json.loads(out)["event"] == "request"
    assert err.endswith("logger=wsgate.error message=hello\n")
