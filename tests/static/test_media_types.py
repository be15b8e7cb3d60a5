import pytest

from wsgate.static.media_types import media_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("a.HTM", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.js.map", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.css.gz", "application/gzip"),
        ("a.css.br", "application/octet-stream"),
        ("a.unknown-suffix", "application/octet-stream"),
        ("README", "application/octet-stream"),
        ("data:text;html,x", "application/octet-stream"),
        ("a?b.html", "text/html; charset=utf-8"),
        ("html", "application/octet-stream"),
    ],
)
def test_the_type_comes_from_the_end_of_the_name(name: str, expected: str) -> None:
    assert media_type(name) == expected.encode()
