"""Every refusal as one JSON object: ``{"error": one sentence, "error_type": a name, "request_id": an id}``.

1. What the server itself refuses is a :class:`RefusedError`.
2. What the caller got wrong in the library's eyes is told in the library's sentence, without the folders it names.
3. Anything else is a sentence that tells nothing of the inside; the log has the rest under the request's id.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from retriever.errors import BusyError, DataError, OtherModelError, RetrieverError
from retriever.server.batcher import OverloadedError
from retriever.server.methods import allowed
from retriever.server.schemas import BRANCHES

logger = logging.getLogger("retriever.server")

_FOLDERS = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=['\"(]))/(?:[^\s/'\"]+/)+")
_SENTENCES = {
    400: "The request cannot be read: send JSON, UTF-8, with the header Content-Type: application/json.",
    404: "There is no such page: GET /openapi.json lists what there is.",
    405: "This address does not take this method: GET /openapi.json lists what there is.",
    413: "The body is too large: send less at once.",
}
_KINDS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


@dataclass(frozen=True)
class _Later:
    """The answer to what may go well another time: its status, name and sentence, and when to come back."""

    status: int
    kind: str
    sentence: str
    seconds: int
    is_logged: bool = False


_UNAVAILABLE = _Later(
    503, "unavailable", "What is served cannot be read or written now: the server's log tells why.", 5, is_logged=True
)
_LATER: dict[type, _Later] = {
    OverloadedError: _Later(429, "overloaded", "Too many requests are waiting: come back in a second.", 1),
    TimeoutError: _Later(503, "timeout", "There was no answer in time: ask for less at once, or come back later.", 5),
    BusyError: _Later(409, "busy", "Another process is writing the index: come back when it is done.", 5),
    OtherModelError: _Later(
        503,
        "other_model",
        "Another model than the one given has built the index anew: start the server again with that one.",
        60,
        is_logged=True,
    ),
    RetrieverError: _UNAVAILABLE,
    OSError: _UNAVAILABLE,  # such as too many open files
}


class RefusedError(HTTPException):
    """A request that is refused.

    Args:
        status: Of HTTP.
        kind: The error's name, for programs.
        sentence: What is wrong and the way out.
        headers: Of the answer.
    """

    def __init__(self, status: int, kind: str, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, sentence, headers)
        self.kind = kind

    def response(self, scope: Scope) -> Response:
        """The answer to a request."""
        return refusal(scope, self.status_code, self.kind, self.detail, self.headers)


def refusal(scope: Scope, status: int, kind: str, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that is refused."""
    body = {"error": sentence, "error_type": kind, "request_id": scope.get("request_id", "")}
    return json_response(body, status, headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:  # noqa: ANN401
    """Any value as JSON."""
    return Response(to_json(value), status, headers, media_type="application/json")


def unexpected(scope: Scope, error: BaseException) -> Response:
    """The answer where something broke; the log has the traceback."""
    logger.error("failed", extra={"request_id": scope.get("request_id", "")}, exc_info=error)
    return refusal(scope, 500, "internal", "The server failed at this request: its log tells more under the id.")


def install(app: FastAPI) -> None:
    """Make an app answer in this form."""
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DataError, _mistaken)
    for kind in _LATER:
        app.add_exception_handler(kind, _later)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return error.response(request.scope)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _unreadable(request.scope, error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    sentence = _SENTENCES.get(status, f"{HTTPStatus(status).phrase}.")
    headers = {"Allow": allowed(request.scope)} if status == 405 else error.headers
    return refusal(request.scope, status, _KINDS.get(status, "refused"), sentence, headers)


async def _mistaken(request: Request, error: Exception) -> Response:
    return refusal(request.scope, 422, "invalid", without_folders(str(error)))


async def _later(request: Request, error: Exception) -> Response:
    answer = next(_LATER[kind] for kind in type(error).__mro__ if kind in _LATER)
    if answer.is_logged:
        logger.error("unavailable: %s", error, extra={"request_id": request.scope.get("request_id", "")})
    headers = {"Retry-After": str(answer.seconds)}
    return refusal(request.scope, answer.status, answer.kind, answer.sentence, headers)


def without_folders(sentence: str) -> str:
    """A sentence with the last names of the paths in it only."""
    return _FOLDERS.sub("", sentence)


def _unreadable(scope: Scope, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return refusal(scope, 400, "bad_request", _SENTENCES[400])
    place = ".".join(_names(first["loc"])) or str(first["loc"][0])
    if len(first["loc"]) == 1 and first["type"] != "value_error":  # what is asked of the whole is told by itself
        sentence = "The body is no JSON object: send one, with the header Content-Type: application/json."
        return refusal(scope, 422, "invalid", sentence)
    message = str(first["msg"]).removeprefix("Value error, ")
    reason = message[:1].lower() + message[1:].rstrip(".")
    return refusal(scope, 422, "invalid", f"{place[:100]} is wrong: {reason}.")


def _names(place: Sequence[str | int]) -> list[str]:
    """The names in the place of a wrong value, without its first part, body or query, and without those of types."""
    return [str(part) for number, part in enumerate(place) if number and not (number == 2 and part in BRANCHES)]
