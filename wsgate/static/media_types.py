"""The Content-Type of a file, from its name: the same on every machine."""

from functools import lru_cache
from mimetypes import MimeTypes

_DEFAULT = "application/octet-stream"
# What Python does not know, or knows in another way in some versions.
_MORE = {
    ".avif": "image/avif",
    ".br": _DEFAULT,
    ".gz": "application/gzip",
    ".ico": "image/vnd.microsoft.icon",
    ".js": "text/javascript",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".otf": "font/otf",
    ".tgz": "application/gzip",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_TYPES = MimeTypes()  # without the files of the system
_TYPES.encodings_map = {}  # a compressed file is a file of its own, and is not decompressed
_TYPES.suffix_map = {}
for _suffix, _type in _MORE.items():
    _TYPES.add_type(_type, _suffix)


@lru_cache(maxsize=1024)
def media_type(name: str) -> bytes:
    """Return the value of Content-Type for a file with this name."""
    guessed = _TYPES.guess_type("/" + name)[0] or _DEFAULT
    # UTF-8 is what all editors write today.
    return f"{guessed}; charset=utf-8".encode() if guessed.startswith("text/") else guessed.encode()
