"""The page: its file, and what a browser may do with it."""

import base64
import hashlib
import re
from importlib import resources
from typing import NamedTuple


class Page(NamedTuple):
    """The page. policy: the value of its Content-Security-Policy."""

    html: bytes
    policy: bytes


def load_page() -> Page:
    """Read the page. It blocks."""
    html = resources.files("wsgate.status").joinpath("page.html").read_bytes()
    return Page(html, make_policy(html))


def make_policy(html: bytes) -> bytes:
    """Return a policy that allows the page's own script, style and WebSocket, and nothing else.

    Nobody may frame it: it has buttons that close connections.
    """
    return b"; ".join(
        [
            b"default-src 'none'",
            b"script-src " + _hashes(html, b"script"),
            b"style-src " + _hashes(html, b"style"),
            b"img-src data:",
            b"connect-src 'self'",
            b"base-uri 'none'",
            b"form-action 'none'",
            b"frame-ancestors 'none'",
        ]
    )


def _hashes(html: bytes, tag: bytes) -> bytes:
    """Return the sources of the contents of all elements with a tag."""
    contents = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(one).digest()) for one in contents)
    return b" ".join(b"'sha256-%b'" % digest for digest in digests)
