"""Static files: an ASGI app that serves a folder. It knows nothing of the server."""

from wsgate.static.files import StaticFiles

__all__ = ["StaticFiles"]
