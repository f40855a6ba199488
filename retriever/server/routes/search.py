"""``/search`` and ``/search/batch``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic_core import to_json
from starlette.responses import Response

from retriever.server import schemas
from retriever.server.errors import json_response
from retriever.server.routing import ModelRoute
from retriever.server.state import REFUSALS, Served, State
from retriever.server.tasks import Found, Search

TURN = 1 << 20  # bytes of JSON

router = APIRouter(tags=["search"], responses=REFUSALS, route_class=ModelRoute)


@router.get("/search", response_model=schemas.SearchAnswer)
async def search_get(request: Request, state: Served, asked: Annotated[schemas.SearchRequest, Query()]) -> Response:
    """The best documents for a query; `filters` may be given several times."""
    return await _search(request, state, asked)


@router.post("/search", response_model=schemas.SearchAnswer)
async def search(request: Request, state: Served, asked: schemas.SearchRequest) -> Response:
    """The best documents for a query."""
    return await _search(request, state, asked)


@router.post("/search/batch", response_model=schemas.BatchAnswer)
async def search_batch(request: Request, state: Served, asked: schemas.BatchRequest) -> Response:
    """The best documents for each of several queries."""
    began = time.perf_counter()
    answers = await _answers(request, state, asked, asked.queries)
    took = _milliseconds(began)
    results = await _as_json({**answer, "took_ms": took} for answer in answers)
    return Response(b'{"results":[%b],"took_ms":%b}' % (results, to_json(took)), media_type="application/json")


async def _as_json(answers: Iterable[dict[str, Any]]) -> bytes:
    """Answers as JSON with commas between them; other requests have their turn after every ``TURN`` bytes.

    A thread would not help: who writes JSON holds the interpreter's lock.
    """
    written, since = [], 0
    for answer in answers:
        written.append(to_json(answer))
        since += len(written[-1])
        if since > TURN:
            await asyncio.sleep(0)
            since = 0
    return b",".join(written)


async def _search(request: Request, state: State, asked: schemas.SearchRequest) -> Response:
    began = time.perf_counter()
    (answer,) = await _answers(request, state, asked, [asked.q])
    return json_response({**answer, "took_ms": _milliseconds(began)})


async def _answers(
    request: Request, state: State, asked: schemas.Asking, queries: Sequence[str]
) -> list[dict[str, Any]]:
    request.scope["queries"] = queries
    task = Search(
        state.index,
        asked.mode,
        asked.fusion,
        asked.weight,
        asked.k,
        asked.offset,
        tuple(asked.filters),
        asked.explain,
        asked.highlight,
    )
    found = await state.reads.submit(task, queries)
    return [
        {"query": query, "mode": asked.mode, "hits": [_hit(one, asked) for one in hits]}
        for query, hits in zip(queries, found, strict=True)
    ]


def _hit(found: Found, asked: schemas.Asking) -> dict[str, Any]:
    hit = found.hit
    parts = hit.parts if asked.mode == "hybrid" else {asked.mode: {"score": hit.score, "rank": hit.rank}}
    answer = {"rank": hit.rank, "id": hit.id, "score": hit.score, "parts": parts, "title": hit.title}
    if asked.text:
        answer["text"] = hit.text
    answer["metadata"] = hit.metadata
    if asked.highlight:
        answer["passage"], answer["heading"] = found.passage, found.heading
    return answer


def _milliseconds(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
