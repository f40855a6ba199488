"""``/``: the page to search with. Its files are the server's own: it loads nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

KINDS = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_CONTENTS = {name: files("retriever.server").joinpath("page", name).read_bytes() for name in KINDS}


def _file(name: str) -> Response:
    return Response(_CONTENTS[name], media_type=f"{KINDS[name]}; charset=utf-8")


@router.get("/")
async def page() -> Response:
    """The page."""
    return _file("index.html")


@router.get("/page.css")
async def style() -> Response:
    """How it looks."""
    return _file("page.css")


@router.get("/page.js")
async def script() -> Response:
    """What it does."""
    return _file("page.js")
