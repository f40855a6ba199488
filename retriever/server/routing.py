"""Routes whose requests are read by their model at once: FastAPI's reading costs more than a short answer.

1. An endpoint takes the request, the state and ``asked``, a model of :mod:`retriever.server.schemas`. FastAPI describes
   it from these as ever.
2. At a request the model reads the bytes of the body itself, or the fields of the address, and tells what is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, get_origin, get_type_hints
from urllib.parse import unquote_plus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from retriever.server.state import State

Endpoint = Callable[[Request, State, Any], Awaitable[Response]]


class ModelRoute(APIRoute):
    """A route whose endpoint takes ``(request, state, asked)``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        model: type[BaseModel] = get_type_hints(self.endpoint)["asked"]
        endpoint: Endpoint = self.endpoint
        lists = frozenset(name for name, field in model.model_fields.items() if get_origin(field.annotation) is list)

        async def handle(request: Request) -> Response:
            state: State = request.app.state.retriever
            place = "query" if request.method == "GET" else "body"
            try:
                if place == "query":
                    asked = model.model_validate(_fields(request.scope["query_string"], lists))
                else:
                    asked = model.model_validate_json(await request.body())
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False)
                raise RequestValidationError([{**one, "loc": (place, *one["loc"])} for one in found]) from error
            return await endpoint(request, state, asked)

        return handle


def _fields(query: bytes, lists: frozenset[str]) -> dict[str, str | list[str]]:
    """The fields of an address; of those given several times the last one, unless they are lists."""
    fields: dict[str, str | list[str]] = {}
    for part in query.decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        if "%" in part or "+" in part:
            name, value = unquote_plus(name), unquote_plus(value)
        if name in lists:
            fields.setdefault(name, []).append(value)  # type: ignore[union-attr]
        elif name or value:
            fields[name] = value
    return fields
