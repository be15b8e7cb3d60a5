from typing import Any

import pytest

from wsgate.asgi.scope import (
    ForwardedPeer,
    Mount,
    Peer,
    http_scope,
    lifespan_scope,
    websocket_scope,
)
from wsgate.http.request import Request

CLIENT = ("127.0.0.1", 50_000)
ID = "7-abcd-1"
EXTENSIONS: dict[str, Any] = {
    "http.response.trailers": {},
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
    "wsgate": {"connection_id": "7-abcd-1"},
}
HEADERS = [(b"host", b"example.org"), (b"x-twice", b"1"), (b"x-twice", b"2")]


def request_for(path: bytes = b"/", query: bytes = b"", *, version: str = "1.1") -> Request:
    target = path + (b"?" + query if query else b"")
    return Request("POST", target, path, query, version, HEADERS)


def peer(*, scheme: str = "http", tls: dict[str, Any] | None = None) -> Peer:
    return Peer(CLIENT, ("127.0.0.1", 8_000), scheme, tls)


def mount(*, root_path: str = "", state: dict[str, Any] | None = None) -> Mount:
    return Mount(root_path, state or {})


def test_the_scope_of_a_request_has_every_key_of_the_specification() -> None:
    scope = http_scope(request_for(b"/a%20b", b"q=%20"), peer(), mount(state={"db": 1}), ID)
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"q=%20",
        "root_path": "",
        "headers": HEADERS,
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "state": {"db": 1},
        "extensions": EXTENSIONS,
    }


def test_the_scope_of_a_websocket_has_every_key_of_the_specification() -> None:
    scope = websocket_scope(request_for(b"/chat"), peer(), mount(), ID, ["v2", "v1"])
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"",
        "root_path": "",
        "headers": HEADERS,
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "subprotocols": ["v2", "v1"],
        "state": {},
        "extensions": {"websocket.http.response": {}, "wsgate": EXTENSIONS["wsgate"]},
    }


@pytest.mark.parametrize(("scheme", "secure"), [("http", "ws"), ("https", "wss")])
def test_the_scheme_of_a_websocket_follows_from_its_connection(scheme: str, secure: str) -> None:
    assert http_scope(request_for(), peer(scheme=scheme), mount(), ID)["scheme"] == scheme
    assert websocket_scope(request_for(), peer(scheme=scheme), mount(), ID, [])["scheme"] == secure


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (
            b"/caf%C3%A9",
            "/café",
        ),  # "the percent-encoded sequences and UTF-8 byte sequences decoded"
        (b"/a%2Fb", "/a/b"),
        (b"/a+b", "/a+b"),  # a plus is a space in a query alone
        (b"/%FF", "/\ufffd"),
        (b"/100%", "/100%"),
        (b"*", "*"),
    ],
)
def test_the_path_is_decoded_and_the_raw_path_is_not(raw: bytes, path: str) -> None:
    scope = http_scope(request_for(raw), peer(), mount(), ID)
    assert (scope["path"], scope["raw_path"]) == (path, raw)


def test_both_paths_start_with_the_root_path() -> None:
    scope = http_scope(request_for(b"/a%20b"), peer(), mount(root_path="/api"), ID)
    assert scope["root_path"] == "/api"
    assert scope["path"] == "/api/a b"
    assert scope["raw_path"] == b"/api/a%20b"


@pytest.mark.parametrize(("prefix", "root"), [("/app", "/app"), ("", ""), (None, "/own")])
def test_the_prefix_that_a_proxy_names_replaces_the_root_path(
    prefix: str | None, root: str
) -> None:
    forwarded = ForwardedPeer(CLIENT, None, "https", None, prefix)
    scope = http_scope(request_for(b"/a"), forwarded, mount(root_path="/own"), ID)
    assert (scope["root_path"], scope["path"]) == (root, f"{root}/a")
    assert scope["raw_path"] == f"{root}/a".encode()


def test_the_scope_has_the_http_version() -> None:
    assert http_scope(request_for(version="1.0"), peer(), mount(), ID)["http_version"] == "1.0"


def test_a_unix_socket_has_a_path_as_server_and_no_client() -> None:
    scope = http_scope(request_for(), Peer(None, ("/run/app.sock", None)), mount(), ID)
    assert scope["client"] is None
    assert scope["server"] == ("/run/app.sock", None)


@pytest.mark.parametrize("version", [0x0303, 0x0304])
def test_tls_is_an_extension_with_a_copy_of_its_own(version: int) -> None:
    tls = {"tls_version": version}
    both = peer(scheme="https", tls=tls)
    for scope in (
        http_scope(request_for(), both, mount(), ID),
        websocket_scope(request_for(), both, mount(), ID, []),
    ):
        assert scope["extensions"]["tls"] == tls
        scope["extensions"]["tls"].clear()
    assert tls == {"tls_version": version}


def test_each_scope_has_a_shallow_copy_of_the_state() -> None:
    shared: list[int] = []
    where = mount(state={"shared": shared})
    first, second = (
        http_scope(request_for(), peer(), where, ID),
        websocket_scope(request_for(), peer(), where, ID, []),
    )
    first["state"]["mine"] = True
    assert second["state"] == {"shared": shared}
    assert second["state"]["shared"] is shared
    assert where.state == {"shared": shared}


def test_extensions_are_not_shared() -> None:
    where = mount()
    first, second = (
        http_scope(request_for(), peer(), where, ID),
        http_scope(request_for(), peer(), where, ID),
    )
    first["extensions"]["mine"] = {}
    first["extensions"]["http.response.trailers"]["mine"] = 1
    assert second["extensions"] == EXTENSIONS


def test_the_scope_of_a_lifespan_holds_the_state_itself() -> None:
    state: dict[str, Any] = {}
    scope = lifespan_scope(state, {"an extension": {}})
    assert scope == {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": {},
        "extensions": {"an extension": {}},
    }
    scope["state"]["db"] = 1
    assert state == {"db": 1}
