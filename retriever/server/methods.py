"""Methods: HEAD is answered wherever GET is, and an address tells all that it takes.

1. A HEAD passes on as a GET, so that no route has to know of it; the server that sends the answer leaves its body out.
2. A route knows its own methods only, and several routes may have one address: what the address takes is what any of
   them takes.
"""

from __future__ import annotations

from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send


class Head:
    """The middleware.

    Args:
        app: What answers to GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send)
        finally:
            scope.update({**asked, "method": "HEAD"})  # the log reads which route it was


def allowed(scope: Scope) -> str:
    """The methods that the address of a request takes, as the header ``Allow`` has them."""
    routes = [route for route in scope["app"].routes if route.matches(scope)[0] is not Match.NONE]
    methods = {method for route in routes for method in getattr(route, "methods", None) or ()}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))
