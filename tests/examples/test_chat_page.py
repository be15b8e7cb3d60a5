"""The chat's page: how it is served, and what it may do."""

import base64
import hashlib
import re

import pytest

from examples.chat.app import Chat, Event
from examples.chat.page import STATIC

PAGE = (STATIC / "index.html").read_bytes()


async def http(
    app: Chat, method: str, path: str, root_path: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and the body of the response to a request."""
    sent: list[Event] = []

    async def send(event: Event) -> None:
        sent.append(event)

    async def receive() -> Event:
        raise AssertionError("the page needs no request body")

    scope: Event = {"type": "http", "method": method, "path": path, "root_path": root_path}
    scope["headers"] = []
    await app(scope, receive, send)
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, body.get("body", b"")


async def test_get_returns_the_page(chat: Chat) -> None:
    status, headers, body = await http(chat, "GET", "/")
    assert (status, body) == (200, PAGE)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-length"] == str(len(PAGE))
    assert headers["x-content-type-options"] == "nosniff"


async def test_head_returns_the_same_headers_without_a_body(chat: Chat) -> None:
    _, got, _ = await http(chat, "GET", "/")
    assert await http(chat, "HEAD", "/") == (200, got, b"")


@pytest.mark.parametrize("path", ["/favicon.ico", "/ws", "/../app.py", "/..", "/nothing"])
async def test_other_paths_are_not_found(chat: Chat, path: str) -> None:
    status, headers, body = await http(chat, "GET", path)
    assert status == 404
    assert headers["content-length"] == str(len(body))


async def test_head_of_an_unknown_path_has_no_body(chat: Chat) -> None:
    assert (await http(chat, "HEAD", "/nothing"))[2] == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused(chat: Chat, method: str) -> None:
    status, headers, _ = await http(chat, method, "/")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_the_app_works_below_a_root_path(chat: Chat) -> None:
    assert (await http(chat, "GET", "/talk/", root_path="/talk"))[2] == PAGE


async def test_the_content_security_policy_allows_only_the_page(chat: Chat) -> None:
    _, headers, _ = await http(chat, "GET", "/")
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    script = PAGE.partition(b"<script>")[2].partition(b"</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    assert policy["script-src"] == f"'sha256-{digest}'"
    assert re.fullmatch(r"'sha256-[\w+/=]{44}'", policy["style-src"])
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"


@pytest.mark.parametrize(
    "trap", [b"innerHTML", b"outerHTML", b"insertAdjacentHTML", b"document.write", b"eval("]
)
def test_user_data_never_becomes_html(trap: bytes) -> None:
    assert trap not in PAGE


def test_the_page_has_no_external_resources() -> None:
    addresses = set(re.findall(rb"(?:src|href)=\"(?!data:)[^\"]*", PAGE))
    assert addresses == set()
    assert not re.search(rb"@import|url\(|\son\w+=\"| style=\"", PAGE)
