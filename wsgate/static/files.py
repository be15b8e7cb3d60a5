"""An ASGI app that serves the files of a folder, with what browsers and caches need."""

import asyncio
import os
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

from wsgate.fields import Fields, combine_headers
from wsgate.static.conditions import Outcome, Part, outcome, requested_part
from wsgate.static.encodings import acceptable_encodings
from wsgate.static.lookup import FoundFile, FoundFolder, names_of, open_file
from wsgate.static.media_types import media_type
from wsgate.types import Header, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD"})
INDEX = "index.html"
_PIECE = 131_072  # bytes of a file in memory, where the server cannot send files
_NANOSECONDS = 1_000_000_000
_ZEROCOPY = "http.response.zerocopysend"


class StaticFiles:
    """Serves the files below a folder for GET and HEAD; an app for requests only.

    Hidden files, links that lead out of the folder, and all that is not a regular file are not
    found. A folder is served as its index.html. `NAME.br` and `NAME.gz` are sent in place of `NAME`
    to clients that accept them.

    Args:
        folder: Its path. It may be a link, which is followed at each request.
        cache_control: The value of Cache-Control; without one if it is empty.
        headers: Further headers of each file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        cache_control: str = "no-cache",
        headers: Sequence[Header] = (),
    ) -> None:
        self.folder = os.path.abspath(folder)  # noqa: PTH100  # pathlib's resolves links
        self._headers: list[Header] = [*headers]
        if cache_control:
            self._headers.append((b"cache-control", cache_control.encode("latin-1")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: with 404 if there is no such file, with 405 to other methods.

        Refuses WebSockets, and raises ValueError for a lifespan.
        """
        del receive
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            raise ValueError(f"static files have no {scope['type']}")
        if scope["method"] not in METHODS:
            await _answer(send, 405, [(b"allow", b"GET, HEAD")])
        elif not await self.serve(scope, path_below_root(scope), send):
            await _answer(send, 404, [])

    async def serve(self, scope: Scope, path: str, send: Send) -> bool:
        """Answer a GET or HEAD request if there is a file; return whether there is.

        Args:
            scope: Of the request.
            path: Below the folder; starts with a slash, or is empty.
            send: The send callable of the request.

        Raises:
            OSError: The system fails, or the client has left.
        """
        names = names_of(path or "/")
        if names is None:
            return False
        fields = combine_headers(list(scope["headers"]))
        found = await self._find(names, acceptable_encodings(fields.get(b"accept-encoding", b"")))
        if found is None:
            return False
        if isinstance(found, FoundFolder):
            await _redirect(scope, send)
            return True
        file, encoding = found
        try:
            if path or not scope["path"]:
                await self._send(scope, fields, file, encoding, send)
            else:  # the prefix without a slash: it is a folder, too
                await _redirect(scope, send)
        finally:
            file.close()
        return True

    async def _find(
        self, names: list[str], encodings: Sequence[tuple[bytes, str]]
    ) -> tuple[FoundFile, bytes] | FoundFolder | None:
        """Find a file in a thread; the file's content coding is b"" for none."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(None, find, self.folder, names, encodings)
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.add_done_callback(_discard)
            raise
        return work.result()

    async def _send(
        self, scope: Scope, fields: Fields, file: FoundFile, encoding: bytes, send: Send
    ) -> None:
        tag = _entity_tag(file, encoding)
        headers = [(b"etag", tag), (b"vary", b"accept-encoding"), *self._headers]
        result = outcome(fields, tag, file.modified // _NANOSECONDS)
        if result is Outcome.NOT_MODIFIED:
            await _answer(send, 304, headers)
            return
        if result is Outcome.FAILED:
            await _answer(send, 412, [])
            return
        is_get = scope["method"] == "GET"
        part = requested_part(fields, tag, file.size) if is_get else None
        if part is not None and not part.size:
            await _answer(send, 416, [(b"content-range", b"bytes */%d" % file.size)])
            return
        status, part, content_range = _describe(part, file.size)
        headers += [*_about(file, encoding), *content_range]
        headers.append((b"content-length", b"%d" % part.size))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if not is_get:
            await send({"type": "http.response.body"})
        elif file.data is not None:
            body = file.data[part.start : part.start + part.size]
            await send({"type": "http.response.body", "body": body})
        else:
            await _send_part(scope, file, part, send)


def path_below_root(scope: Scope) -> str:
    """Return the path of a request without the root path of the app."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def find(
    folder: str, names: list[str], encodings: Sequence[tuple[bytes, str]]
) -> tuple[FoundFile, bytes] | FoundFolder | None:
    """Open a file, or its compressed form; read it if it is small. Returns its content coding."""
    is_index = not names[-1]
    if is_index:
        names = [*names[:-1], INDEX]
    found = open_file(folder, names)
    if isinstance(found, FoundFolder):
        return found if not is_index and _has_index(folder, names) else None
    if found is None:
        return None
    try:
        found, encoding = _preferred(found, folder, names, encodings)
        found.read()
    except BaseException:
        found.close()
        raise
    return found, encoding


def _preferred(
    original: FoundFile, folder: str, names: list[str], encodings: Sequence[tuple[bytes, str]]
) -> tuple[FoundFile, bytes]:
    """Return the compressed form of a file and its coding, or the file itself and b""."""
    *folders, name = names
    for coding, suffix in encodings:
        compressed = open_file(folder, [*folders, name + suffix])
        if isinstance(compressed, FoundFile):
            original.close()
            compressed.name = name
            return compressed, coding
    return original, b""


def _has_index(folder: str, names: list[str]) -> bool:
    index = open_file(folder, [*names, INDEX])
    if not isinstance(index, FoundFile):
        return False
    index.close()
    return True


def _discard(work: "asyncio.Future[Any]") -> None:
    """Close the file that was found after its request had been cancelled."""
    if work.cancelled() or work.exception() is not None:
        return
    if isinstance(found := work.result(), tuple):
        found[0].close()


def _entity_tag(file: FoundFile, encoding: bytes) -> bytes:
    """Return a strong tag: RFC 9110 section 8.8.3 wants another one for each content coding."""
    suffix = b"-" + encoding if encoding else b""
    return b'"%x-%x%b"' % (file.modified, file.size, suffix)


def _describe(part: Part | None, size: int) -> tuple[int, Part, list[Header]]:
    """Return the status, the part to send, and its Content-Range."""
    if part is None:
        return 200, Part(0, size), []
    last = part.start + part.size - 1
    return 206, part, [(b"content-range", b"bytes %d-%d/%d" % (part.start, last, size))]


def _about(file: FoundFile, encoding: bytes) -> list[Header]:
    modified = formatdate(file.modified // _NANOSECONDS, usegmt=True).encode()
    about = [
        (b"content-type", media_type(file.name)),
        (b"last-modified", modified),
        (b"accept-ranges", b"bytes"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return [*about, (b"content-encoding", encoding)] if encoding else about


async def _send_part(scope: Scope, file: FoundFile, part: Part, send: Send) -> None:
    if _ZEROCOPY in (scope.get("extensions") or {}):
        file_part = {"file": file.descriptor, "offset": part.start, "count": part.size}
        await send({"type": _ZEROCOPY, **file_part})
        return
    start, end = part.start, part.start + part.size
    while start < end:
        # A cancelled call closes the file while its thread may still read: nobody gets the bytes.
        data = await asyncio.to_thread(os.pread, file.descriptor, min(_PIECE, end - start), start)
        if not data:
            raise OSError(f"{file.name} became shorter while it was sent")
        start += len(data)
        await send({"type": "http.response.body", "body": data, "more_body": start < end})


async def _redirect(scope: Scope, send: Send) -> None:
    """Send a folder's URL with a slash at its end, to which the links of its index are relative.

    The Location is relative: only the client knows how it sees the path. `./` keeps a name with a
    colon from being taken for a scheme.
    """
    name = scope["path"].rpartition("/")[2]
    location = f"./{quote(name, errors='replace')}/".encode()
    if query := scope.get("query_string"):
        location += b"?" + query
    await _answer(send, 307, [(b"location", location)])


async def _answer(send: Send, status: int, headers: list[Header]) -> None:
    """Send a response without a body."""
    if status != 304:  # noqa: PLR2004  # not modified: its length would be the file's
        headers = [*headers, (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body"})
