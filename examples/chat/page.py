"""The page of the chat: how it is served, and what a browser may do with it."""

import base64
import hashlib
import re
from pathlib import Path

from wsgate.static import StaticFiles

Headers = list[tuple[bytes, bytes]]

STATIC = Path(__file__).with_name("static")  # index.html: style, structure and script


def make_page() -> StaticFiles:
    """Return the app that serves the page."""
    return StaticFiles(STATIC, headers=page_headers((STATIC / "index.html").read_bytes()))


def page_headers(html: bytes) -> Headers:
    """Return the headers that protect the page and its visitors."""
    return [
        (b"content-security-policy", content_security_policy(html)),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]


def content_security_policy(html: bytes) -> bytes:
    """Return a policy that allows the page's own script, style and WebSocket, and nothing else."""
    return b"; ".join(
        [
            b"default-src 'none'",
            b"script-src " + _hashes(html, b"script"),
            b"style-src " + _hashes(html, b"style"),
            b"connect-src 'self'",
            b"img-src data:",
            b"base-uri 'none'",
            b"form-action 'none'",
            b"frame-ancestors 'none'",
        ]
    )


def _hashes(html: bytes, tag: bytes) -> bytes:
    blocks = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(block).digest()) for block in blocks)
    return b" ".join(b"'sha256-%b'" % digest for digest in digests)
