"""``/health``, ``/info`` and ``/metrics``."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request
from starlette.responses import Response

from retriever.errors import RetrieverError
from retriever.server import settings
from retriever.server.errors import RefusedError, json_response
from retriever.server.state import REFUSALS, Served
from retriever.server.tasks import Describe

logger = logging.getLogger("retriever.server")

LIMITS = {name.lower(): value for name, value in vars(settings).items() if name.startswith("MAX_")}

router = APIRouter(tags=["about"], responses=REFUSALS)


@router.get("/health")
async def health(request: Request, state: Served) -> Response:
    """200 if requests are answered, otherwise 503."""
    try:
        ready = state.reads.is_running and state.writes.is_running
        if (index := state.service.index) is not None:
            await state.ask(lambda: len(index))
    except (RetrieverError, OSError) as error:
        logger.error("not ready: %s", error, extra={"request_id": request.scope["request_id"]})
        ready = False
    if not ready:
        raise RefusedError(503, "not_ready", "The server cannot answer now: its log tells why.")
    return json_response({"status": "ready"})


@router.get("/info")
async def info(state: Served) -> Response:
    """What is served, and what may be asked of it."""
    limits = LIMITS | {"max_body": state.settings.max_body}
    (told,) = await state.reads.submit(Describe(state.service), [None])
    return json_response({**told, "read_only": state.settings.read_only, "limits": limits})


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(state: Served) -> Response:
    """Numbers in Prometheus' text form."""
    return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
