"""``/predict``: labels for texts."""

from __future__ import annotations

import time
from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import Response

from retriever.server import schemas
from retriever.server.errors import json_response
from retriever.server.state import REFUSALS, Served
from retriever.server.tasks import Predict

router = APIRouter(tags=["labels"], responses=REFUSALS)


@router.post("/predict", response_model=schemas.PredictAnswer)
async def predict(request: Request, state: Served, asked: schemas.PredictRequest) -> Response:
    """The labels that fit each text best."""
    began = time.perf_counter()
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    request.scope["queries"] = texts
    found = await state.reads.submit(Predict(state.labels, asked.k, state.service.dtype), texts)
    predictions = [
        {"text": text, "labels": [asdict(tag) for tag in tags]} for text, tags in zip(texts, found, strict=True)
    ]
    return json_response({"predictions": predictions, "took_ms": round((time.perf_counter() - began) * 1000, 3)})
