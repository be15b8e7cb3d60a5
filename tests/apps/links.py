"""A Starlette app that responds with URLs of its own, and redirects."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def page(request: Request) -> JSONResponse:
    """Respond with the URL of this request, and with the one that a link to it would have."""
    return JSONResponse({"url": str(request.url), "url_for": str(request.url_for("page"))})


app = Starlette(routes=[Route("/page", page)])
