import copy
import dataclasses
import inspect
import logging
import math
import pickle
from pathlib import Path
from typing import Any, cast

import pytest

from wsgate.config import PROGRAM_SETTINGS, SETTINGS, Config
from wsgate.errors import ConfigError
from wsgate.settings import Kind, Setting

FIELDS = [one.name for one in SETTINGS]
MAX_INT = 2**31 - 1
MAX_SIZE = 2**62
TINY = math.nextafter(0, 1)  # the smallest number above 0


def config_of(**options: Any) -> Config:
    """Return a Config of options that a type checker would refuse."""
    return Config(**options)


def test_the_defaults_are_the_documented_ones() -> None:
    assert dataclasses.asdict(Config()) == {
        "host": (),
        "port": None,
        "uds": (),
        "uds_perms": None,
        "fd": None,
        "systemd_sockets": (),
        "backlog": 2048,
        "proxy_headers": True,
        "forwarded_allow_ips": None,
        "forwarded_values": ("for", "proto"),
        "proxy_protocol": False,
        "proxy_allow_from": ("127.0.0.1", "::1"),
        "ssl_keyfile": (),
        "ssl_certfile": (),
        "ssl_keyfile_password": None,
        "ssl_version": 17,
        "ssl_min_version": "TLSv1.2",
        "ssl_cert_reqs": 0,
        "ssl_ca_certs": None,
        "ssl_ciphers": None,
        "ssl_context_factory": None,
        "lifespan": "auto",
        "root_path": "",
        "reset_contextvars": False,
        "loop": "auto",
        "http": "auto",
        "ws": "auto",
        "log_level": None,
        "use_colors": None,
        "access_log": True,
        "log_format": "text",
        "access_log_format": None,
        "limit_connections": None,
        "limit_connections_per_ip": None,
        "limit_concurrency": None,
        "limit_max_requests": None,
        "limit_max_requests_jitter": 0,
        "limit_request_head": 65_536,
        "limit_request_target": None,
        "limit_request_fields": None,
        "timeout_request_body": 60.0,
        "timeout_keep_alive": 5.0,
        "headers": (),
        "date_header": True,
        "server_header": True,
        "static": (),
        "static_cache_control": "no-cache",
        "timeout_graceful_shutdown": 10.0,
        "drain_seconds": 0.0,
        "ws_origins": (),
        "ws_handshake_timeout": 10.0,
        "ws_max_size": 16_777_216,
        "ws_max_fragments": 131_072,
        "ws_max_queue": 16,
        "ws_max_queue_size": 1_048_576,
        "ws_max_message_rate": 0.0,
        "ws_max_message_burst": None,
        "ws_fast_path": True,
        "ws_ping_interval": 20.0,
        "ws_ping_timeout": 20.0,
        "ws_idle_timeout": 0.0,
        "ws_max_lifetime": 0.0,
        "ws_reconnect_field": None,
        "ws_send_timeout": 60.0,
        "ws_close_timeout": 10.0,
        "ws_per_message_deflate": True,
        "ws_deflate_threshold": 1_024,
        "ws_deflate_context_takeover": False,
        "ws_deflate_window_bits": 15,
        "topics": None,
        "topics_rule": (),
        "topics_max": 1_000_000,
        "topics_max_per_connection": 1000,
        "topics_history_max_bytes": 268_435_456,
        "topics_publish_timeout": 5.0,
        "topics_max_outlet": 1_048_576,
        "metrics": None,
        "status_token": None,
        "readyz_broker_grace": 30.0,
    }


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]


def test_a_config_can_be_copied_pickled_and_replaced() -> None:
    config = Config(port=1, headers=(("a", "b"),))
    assert copy.copy(config) == pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config, port=2) == Config(port=2, headers=(("a", "b"),))


def test_the_constructor_has_the_signature_of_its_fields() -> None:
    parameters = inspect.signature(Config).parameters
    assert list(parameters) == [field.name for field in dataclasses.fields(Config)]
    assert parameters["backlog"].annotation is int
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())


def test_the_documentation_of_the_class_explains_every_setting() -> None:
    assert Config.__doc__ is not None
    for setting in SETTINGS:
        assert f"    {setting.name}: {setting.help}\n" in Config.__doc__


# -- bounds ----------------------------------------------------------------------------------------

POSITIVE = "greater than 0"
NOT_NEGATIVE = "0 or greater"
AT_MOST_SIZE = "at most 4611686018427387904"

# The values at the edges of each number's bounds, and one beyond each edge with the expected bound.
Refused = list[tuple[Any, str]]
EDGES: dict[str, tuple[list[Any], Refused]] = {
    "port": ([0, 65535], [(-1, "0 to 65535"), (65536, "0 to 65535")]),
    "uds_perms": ([0, 0o777], [(-1, "octal, 0 to 777"), (0o1000, "octal, 0 to 777")]),
    "fd": ([0, MAX_INT], [(-1, "0 to 2147483647"), (MAX_INT + 1, "0 to 2147483647")]),
    "backlog": ([1, MAX_INT], [(0, POSITIVE), (MAX_INT + 1, "at most 2147483647")]),
    "ssl_version": (
        [2, 5, 17],
        [
            (value, "17 (all versions from --ssl-min-version on) or 5 (TLS 1.2 only)")
            for value in (0, 3, 16)
        ],
    ),
    "ssl_cert_reqs": ([0], [(-1, "0 to 2"), (3, "0 to 2")]),
    "limit_connections": ([1], [(0, POSITIVE), (-1, POSITIVE)]),
    "limit_connections_per_ip": ([1], [(0, POSITIVE), (-1, POSITIVE)]),
    "limit_concurrency": ([1], [(0, POSITIVE), (-1, POSITIVE)]),
    "limit_max_requests": ([1], [(0, POSITIVE), (-1, POSITIVE)]),
    "limit_max_requests_jitter": ([0, 1], [(-1, NOT_NEGATIVE)]),
    "limit_request_head": ([1, MAX_SIZE], [(0, POSITIVE), (MAX_SIZE + 1, AT_MOST_SIZE)]),
    # The limit of the head holds as well, so these have no maximum.
    "limit_request_target": ([1, 2**70], [(0, POSITIVE), (-1, POSITIVE)]),
    "limit_request_fields": ([1, 2**70], [(0, POSITIVE), (-1, POSITIVE)]),
    "timeout_request_body": ([TINY, math.inf], [(0, POSITIVE), (math.nan, POSITIVE)]),
    "timeout_keep_alive": ([TINY, math.inf], [(0, POSITIVE), (math.nan, POSITIVE)]),
    "timeout_graceful_shutdown": ([0], [(-TINY, NOT_NEGATIVE), (math.nan, NOT_NEGATIVE)]),
    # Without a bound, a stop might never end.
    "drain_seconds": (
        [0, 86_400],
        [(value, "0 to 86400") for value in (-TINY, 86_401, math.inf, math.nan)],
    ),
    "ws_handshake_timeout": ([TINY, math.inf], [(0, POSITIVE), (math.nan, POSITIVE)]),
    "ws_max_size": ([1, MAX_SIZE], [(0, POSITIVE), (MAX_SIZE + 1, AT_MOST_SIZE)]),
    "ws_max_fragments": ([1], [(0, POSITIVE), (-1, POSITIVE)]),
    "ws_max_queue": ([1, MAX_SIZE], [(0, POSITIVE), (MAX_SIZE + 1, AT_MOST_SIZE)]),
    "ws_max_queue_size": ([1, MAX_SIZE], [(0, POSITIVE), (MAX_SIZE + 1, AT_MOST_SIZE)]),
    # Two seconds' worth of the rate has to be a whole number.
    "ws_max_message_rate": (
        [0, TINY, MAX_INT],
        [(value, "0 to 2147483647") for value in (-TINY, MAX_INT + 1, math.inf, math.nan)],
    ),
    "ws_max_message_burst": ([1, MAX_INT], [(0, POSITIVE), (MAX_INT + 1, "at most 2147483647")]),
    "ws_ping_interval": ([0, math.inf], [(-TINY, NOT_NEGATIVE), (math.nan, NOT_NEGATIVE)]),
    "ws_ping_timeout": ([TINY, math.inf], [(0, POSITIVE), (math.nan, POSITIVE)]),
    "ws_idle_timeout": ([0, math.inf], [(-TINY, NOT_NEGATIVE), (math.nan, NOT_NEGATIVE)]),
    "ws_max_lifetime": ([0, math.inf], [(-TINY, NOT_NEGATIVE), (math.nan, NOT_NEGATIVE)]),
    "ws_send_timeout": ([TINY, math.inf], [(0, POSITIVE), (math.nan, POSITIVE)]),
    "ws_close_timeout": ([TINY, math.inf], [(0, POSITIVE), (math.nan, POSITIVE)]),
    "ws_deflate_threshold": ([0], [(-1, NOT_NEGATIVE)]),
    "ws_deflate_window_bits": ([9, 15], [(8, "9 to 15"), (16, "9 to 15")]),
    "topics_max": ([1], [(0, POSITIVE)]),
    "topics_max_per_connection": ([1], [(0, POSITIVE)]),
    "topics_history_max_bytes": ([1, MAX_SIZE], [(0, POSITIVE), (MAX_SIZE + 1, AT_MOST_SIZE)]),
    "topics_publish_timeout": (
        [TINY, 86_400],
        [(0, POSITIVE), (math.nan, POSITIVE), (86_401, "at most 86400")],
    ),
    "topics_max_outlet": ([1, MAX_SIZE], [(0, POSITIVE), (MAX_SIZE + 1, AT_MOST_SIZE)]),
    "readyz_broker_grace": (
        [0, 86_400],
        [(-1, "0 to 86400"), (math.nan, "0 to 86400"), (86_401, "0 to 86400")],
    ),
}


def test_every_number_has_its_bounds_in_this_file() -> None:
    numbers = {Kind.WHOLE_NUMBER, Kind.PERMISSIONS, Kind.NUMBER}
    assert {setting.name for setting in SETTINGS if setting.kind in numbers} == set(EDGES)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, (edges, _) in EDGES.items() for value in edges]
)
def test_a_number_at_its_bound_is_accepted(name: str, value: Any) -> None:
    assert getattr(Config(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [(name, *refused) for name, (_, beyond) in EDGES.items() for refused in beyond],
)
def test_a_number_beyond_its_bound_names_its_option(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(**{name: value})
    assert str(raised.value) == f"--{name.replace('_', '-')} must be {wanted}"
    assert raised.value.setting == name


CHOICES = {
    "lifespan": ("auto", "on", "off"),
    "loop": ("auto", "asyncio", "uvloop", "none"),
    "http": ("auto", "fast", "h11", "httptools"),
    "ws": ("auto", "websockets", "websockets-sansio", "wsproto", "none"),
    "log_level": ("critical", "error", "warning", "info", "debug", "trace"),
}


@pytest.mark.parametrize(
    ("name", "choice"), [(name, choice) for name, choices in CHOICES.items() for choice in choices]
)
def test_each_choice_is_accepted(name: str, choice: Any) -> None:
    assert getattr(Config(**{name: choice}), name) == choice


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["", "AUTO", "trio", 1, True, ["auto"]])
def test_another_choice_names_its_option(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(**{name: value})
    option = name.replace("_", "-")
    assert str(raised.value) == f"--{option} must be one of {', '.join(CHOICES[name])}"


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (None, None),
        ("INFO", "info"),
        ("Debug", "debug"),
        *((getattr(logging, level.upper()), level) for level in CHOICES["log_level"][:-1]),
        (5, "trace"),
        (logging.NOTSET, None),
    ],
)
def test_a_level_is_taken_as_logging_and_uvicorn_take_it(level: Any, name: str | None) -> None:
    assert Config(log_level=level).log_level == name


@pytest.mark.parametrize("level", [False, 6, 11, "loud", "WARN"])
def test_another_level_is_refused(level: Any) -> None:
    with pytest.raises(ConfigError, match=r"^--log-level must be one of critical, error, warning"):
        Config(log_level=level)


@pytest.mark.parametrize("path", ["", "/a", "/a/b"])
def test_a_root_path_is_accepted(path: str) -> None:
    assert Config(root_path=path).root_path == path


@pytest.mark.parametrize("path", ["/", "a", "a/", "/a/"])
def test_another_root_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^--root-path must be /like/this, or empty$"):
        Config(root_path=path)


def test_a_unix_socket_does_not_exclude_a_port() -> None:
    assert Config(uds="app.sock", port=1).uds == ("app.sock",)


def test_a_path_object_becomes_a_string() -> None:
    for config in (
        config_of(uds=Path("app.sock")),
        config_of(uds=[Path("app.sock")]),
        dataclasses.replace(Config(), uds=cast("Any", Path("app.sock"))),
    ):
        assert config.uds == ("app.sock",)
        assert type(config.uds[0]) is str


@pytest.mark.parametrize("name", ["host", "uds", "systemd_sockets"])
def test_an_address_may_be_one_or_several(name: str) -> None:
    assert getattr(config_of(**{name: "a"}), name) == ("a",)
    assert getattr(config_of(**{name: ["a", "b"]}), name) == ("a", "b")


def test_none_is_no_unix_socket() -> None:  # it is uvicorn's default, which frameworks pass on
    assert not Config(uds=None).uds


@pytest.mark.parametrize(
    ("name", "option"), [("uds", "--uds"), ("systemd_sockets", "--systemd-socket")]
)
def test_an_inherited_socket_excludes_others(name: str, option: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(**{name: "a", "fd": 3})
    assert str(raised.value) == f"{option} must be alone, without --fd"
    assert raised.value.setting == name


@pytest.mark.parametrize("setting", [one for one in SETTINGS if one.commas], ids=lambda s: s.name)
def test_a_string_with_commas_is_a_list(setting: Setting) -> None:
    text = "for, proto,"
    assert getattr(config_of(**{setting.name: text}), setting.name) == ("for", "proto")
    assert getattr(config_of(**{setting.name: ""}), setting.name) == ()


@pytest.mark.parametrize("values", [["for", "by"], ["FOR"], "for,for-us"])
def test_other_forwarded_values_are_refused(values: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(forwarded_values=values)
    assert str(raised.value) == "--forwarded-values must be some of for, proto, host, port, prefix"


# -- types -----------------------------------------------------------------------------------------


class BytesPath:
    """A path object whose path is no string."""

    def __fspath__(self) -> bytes:
        return b"/path"


# What None stands for in uvicorn.
OF_NONE = {
    **{one.name: () for one in SETTINGS if one.repeated},
    "headers": (),
    "loop": "none",
    "timeout_graceful_shutdown": math.inf,
    "ws_ping_interval": 0.0,
    "ws_ping_timeout": math.inf,
    "ws": "none",
}

OF_ANOTHER_TYPE: dict[Kind, list[Any]] = {
    Kind.WHOLE_NUMBER: ["8000", b"8000", True, False, 1.0, [], object()],
    Kind.PERMISSIONS: ["660", 432.0, True],
    Kind.NUMBER: ["20", b"20", True, False, [], 1j],
    Kind.SWITCH: ["true", "false", "", 0, 1, None],
    Kind.TEXT: [b"/path", 1, True, ["/path"], Path("/path")],
    Kind.PATH: [b"/path", 1, True, ["/path"], BytesPath()],
    Kind.TEXTS: ["a", b"a", None, 1, {"a"}, {"a": "b"}, [b"a"], ["a", None], [["a"]]],
    Kind.PAIRS: [
        *("a:b", b"a:b", None, {"a": "b"}, {"a": "b"}.items()),
        *(["ab"], [("a",)], [("a", "b", "c")], [("a", b"b")], [(b"a", b"b")], [("a", 1)], [None]),
    ],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (setting.name, value)
        for setting in SETTINGS
        if not setting.choices
        for value in OF_ANOTHER_TYPE[setting.kind]
        if not ((setting.repeated or setting.commas) and value == "a")
        if value is not None or not (setting.is_optional or setting.name in OF_NONE)
    ],
)
def test_a_value_of_another_type_names_its_option(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(**{name: value})
    option = next(one.option for one in SETTINGS if one.name == name)
    assert str(raised.value).startswith(f"{option} must be ")
    assert "\n" not in str(raised.value)
    assert raised.value.setting == name


@pytest.mark.parametrize("name", FIELDS)
def test_none_is_refused_if_it_is_no_value(name: str) -> None:
    (setting,) = (setting for setting in SETTINGS if setting.name == name)
    if setting.is_optional or name in OF_NONE:
        config_of(**{name: None})
    else:
        with pytest.raises(ConfigError):
            config_of(**{name: None})


@pytest.mark.parametrize(("name", "value"), OF_NONE.items())
def test_none_is_what_it_is_in_uvicorn(name: str, value: Any) -> None:
    assert getattr(config_of(**{name: None}), name) == value


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"port": "8000"}, "--port must be a whole number, not '8000'"),
        ({"port": True}, "--port must be a whole number, not True"),
        ({"port": 80.0}, "--port must be a whole number, not 80.0"),
        ({"port": [80]}, "--port must be a whole number"),
        ({"port": {80}}, "--port must be a whole number, not a set"),
        ({"port": "8" * 100}, "--port must be a whole number"),
        ({"uds": b"\n"}, r"--uds must be a string or a list of strings, not b'\n'"),
        ({"uds_perms": "660"}, "--uds-perms must be file permissions such as 0o660, not '660'"),
        ({"host": 1}, "--host must be a string or a list of strings, not 1"),
        ({"ws_idle_timeout": None}, "--ws-idle-timeout must be a number, not None"),
        ({"access_log": 1}, "--access-log must be True or False, not 1"),
        ({"log_format": "xml"}, "--log-format must be one of text, json, logfmt"),
        (
            {"access_log_format": "%(h)s", "log_format": "json"},
            "--access-log-format must be alone, without --log-format json",
        ),
        ({"ws_origins": 1}, "--ws-origins must be a string or a list of strings, not 1"),
        ({"ws_origins": [1]}, "--ws-origins must be a string or a list of strings"),
        (  # a value of a header may be a secret
            {"headers": [("authorization", b"secret")]},
            "--header must be a list of (name, value) pairs, both of them strings",
        ),
    ],
)
def test_an_error_shows_the_value_if_that_helps(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(**options)
    assert str(raised.value) == line


@pytest.mark.parametrize(
    "options",
    [
        {"ws_ping_interval": 20},
        {"ws_origins": ("https://a.example", "none")},
        {"headers": [("a", "b"), ("a", "c")]},
        {"headers": (["a", "b"],)},
    ],
    ids=str,
)
def test_a_similar_type_is_accepted_as_it_is(options: dict[str, Any]) -> None:
    config = Config(**options)
    assert {name: getattr(config, name) for name in options} == options


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("127.0.0.1:80", "without a port, not '127.0.0.1:80': the port goes into --port"),
        ("example.com:80", "without a port, not 'example.com:80': the port goes into --port"),
        ("[::1]:80", "without a port, not '[::1]:80': the port goes into --port"),
        (":80", "without a port, not ':80': the port goes into --port"),
        ("[::1]", "without brackets: ::1"),
        ("http://a", "not a URL as 'http://a'"),
        ("unix:/run/a", "the path of a Unix socket goes into --uds"),
    ],
)
def test_a_host_is_an_address(host: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(host=["::1", host])
    text, setting = str(raised.value), raised.value.setting
    assert (text.replace("address: the path", "address the path"), setting) == (
        f"--host must be an address {problem}".replace("address not", "address, not"),
        "host",
    )


def test_several_hosts_are_a_list() -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(host="127.0.0.1,::1")
    assert str(raised.value) == (
        "--host must be one address, not '127.0.0.1,::1': repeat the option, or use a list in a "
        "file or in Python"
    )


@pytest.mark.parametrize(
    "host", ["", "::1", "fe80::1%eth0", "::ffff:192.0.2.1", "a.b", "::", "::1:2"]
)
def test_a_host_may_have_colons(host: str) -> None:
    assert config_of(host=host).host == (host,)


@pytest.mark.parametrize(("one", "other", "shown"), [("/=a", "/=b", "/"), ("/a=b", "/a/=c", "/a")])
def test_a_prefix_has_one_folder(one: str, other: str, shown: str) -> None:
    assert config_of(static=[one, "/other=b"]).static == (one, "/other=b")
    with pytest.raises(ConfigError) as raised:
        config_of(static=[one, "/other=b", other])
    assert str(raised.value) == f"--static has the prefix {shown} twice"
    assert raised.value.setting == "static"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("loop", "wsgate takes no factory of yours; in your own event loop, await wsgate."),
        ("http", "wsgate takes no parser of your own"),
        ("ws", "wsgate has one implementation of WebSockets, and takes none of your own"),
    ],
)
def test_a_class_of_the_program_is_answered(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(**{name: "module:Class"})
    expected = f"--{name} must be one of {', '.join(CHOICES[name])}; {reason}"
    assert str(raised.value).startswith(expected)


# -- rules of several settings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "setting", "line"),
    [
        ({"ssl_keyfile": "k"}, "ssl_keyfile", "--ssl-keyfile needs --ssl-certfile"),
        ({"ssl_ca_certs": "a"}, "ssl_ca_certs", "--ssl-ca-certs needs --ssl-certfile"),
        ({"ssl_cert_reqs": 2}, "ssl_cert_reqs", "--ssl-cert-reqs needs --ssl-certfile"),
        ({"ssl_ciphers": "HIGH"}, "ssl_ciphers", "--ssl-ciphers needs --ssl-certfile"),
        (
            {"ssl_keyfile_password": "p"},
            "ssl_keyfile_password",
            "--ssl-keyfile-password needs --ssl-certfile",
        ),
        (
            {"ssl_certfile": ["a", "b"], "ssl_keyfile": "k"},
            "ssl_keyfile",
            "--ssl-keyfile must be given for each --ssl-certfile, not 1 of 2",
        ),
        (
            {"ssl_certfile": "a", "ssl_keyfile": ["k", "l"]},
            "ssl_keyfile",
            "--ssl-keyfile must be given for each --ssl-certfile, not 2 of 1",
        ),
        (
            {"ssl_certfile": "a", "ssl_cert_reqs": 2},
            "ssl_cert_reqs",
            "--ssl-cert-reqs needs --ssl-ca-certs, to check the certificates",
        ),
        (
            {"ssl_certfile": "a", "ssl_version": 5, "ssl_min_version": "TLSv1.3"},
            "ssl_version",
            "--ssl-version 5 is TLS 1.2, which --ssl-min-version excludes",
        ),
    ],
)
def test_settings_of_tls_that_exclude_each_other(
    options: dict[str, Any], setting: str, line: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(**options)
    assert (str(raised.value), raised.value.setting) == (line, setting)


def test_what_a_framework_passes_on_as_uvicorns_defaults_is_no_tls() -> None:
    defaults: dict[str, Any] = {
        "ssl_keyfile": None,
        "ssl_certfile": None,
        "ssl_keyfile_password": None,
        "ssl_version": 17,
        "ssl_cert_reqs": 0,
        "ssl_ca_certs": None,
        "ssl_ciphers": None,
        "ssl_context_factory": None,
    }
    assert Config(**defaults) == Config()
    assert not Config().has_tls


def test_a_context_factory_is_tls_and_may_use_settings_as_it_likes() -> None:
    config = Config(
        ssl_context_factory=lambda _, default: default(),
        ssl_keyfile="k",
        ssl_keyfile_password="p",
        ssl_ca_certs="a",
    )
    assert config.has_tls
    assert Config(ssl_context_factory=print, ssl_cert_reqs=2).ssl_cert_reqs == 2
    for wrong in ("module:factory", 0, ["a"]):
        with pytest.raises(ConfigError, match=r"^ssl_context_factory must be a function, not a "):
            config_of(ssl_context_factory=wrong)


def test_a_secret_is_never_shown() -> None:
    assert "hunter2" not in repr(Config(ssl_certfile=["a"], ssl_keyfile_password="hunter2"))
    with pytest.raises(ConfigError) as raised:
        config_of(ssl_certfile=["a"], ssl_keyfile_password=b"hunter2")
    assert str(raised.value) == "--ssl-keyfile-password must be a string"


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("ws_maxsize", "ws_max_size"),
        ("ws_ping_intervall", "ws_ping_interval"),
        ("header", "headers"),
        ("h11_max_incomplete_size", "limit_request_head"),  # the option of the alias
        ("ws_fastlane", "ws_fast_path"),
    ],
)
def test_an_error_of_an_unknown_name_suggests_the_closest_one(name: str, closest: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(**{name: 1})
    assert str(raised.value) == f"there is no setting {name}; did you mean {closest}?"
    assert raised.value.setting is None


def test_a_name_unlike_any_other_is_only_refused() -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(tea=True)
    assert str(raised.value) == "there is no setting tea"


@pytest.mark.parametrize("app", ["main:app", print])
def test_an_app_says_where_it_belongs(app: Any) -> None:
    with pytest.raises(ConfigError, match=r"^the app is the first argument of wsgate\.run\(\), "):
        Config(app, port=0)  # type: ignore[call-arg]  # as in uvicorn


@pytest.mark.parametrize("name", [one.name for one in PROGRAM_SETTINGS])
def test_a_setting_of_the_program_says_where_it_belongs(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(**{name: "x"})
    assert "wsgate.run()" in str(raised.value)
    with pytest.raises(
        ConfigError, match=r"^only wsgate\.run\(\) and wsgate\.serve\(\) take app_dir$"
    ):
        config_of(app_dir="src")


ALIASES = [
    ("h11_max_incomplete_event_size", "limit_request_head", 1),
    ("ws_fast_lane", "ws_fast_path", False),
]


def test_every_alias_is_tested_here() -> None:
    declared = [(alias, setting.name) for setting in SETTINGS for alias in setting.aliases]
    assert declared == [(alias, name) for alias, name, _ in ALIASES]


@pytest.mark.parametrize(("alias", "name", "value"), ALIASES)
def test_an_alias_sets_its_setting(alias: str, name: str, value: Any) -> None:
    assert Config(**{alias: value}) == Config(**{name: value}) != Config()
    assert dataclasses.replace(Config(), **{alias: value}) == Config(**{name: value})


@pytest.mark.parametrize(("alias", "name", "value"), ALIASES)
def test_an_alias_that_is_none_is_not_given(alias: str, name: str, value: Any) -> None:
    assert config_of(**{alias: None}) == Config()
    assert config_of(**{alias: None, name: value}) == Config(**{name: value})


@pytest.mark.parametrize(("alias", "name", "value"), ALIASES)
def test_an_error_in_an_alias_names_the_option(alias: str, name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(**{alias: "x"})
    assert str(raised.value).startswith(f"--{name.replace('_', '-')} must be ")
    assert raised.value.setting == name
