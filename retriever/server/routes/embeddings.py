"""``/v1/embeddings`` and ``/v1/models`` as OpenAI has them, and ``/embed`` as text-embeddings-inference has it."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.responses import Response

from retriever.encoder.encoder import Kind
from retriever.server import schemas
from retriever.server.errors import RefusedError, json_response
from retriever.server.state import REFUSALS, Served, State
from retriever.server.tasks import Embed, Embedding

router = APIRouter(tags=["embeddings"], responses=REFUSALS)


@router.post("/v1/embeddings", response_model=schemas.EmbeddingsAnswer)
async def embeddings(state: Served, asked: schemas.EmbeddingsRequest) -> Response:
    """Vectors of texts, as the model makes them."""
    name = await _name(state)
    if asked.model != name:
        raise RefusedError(404, "model_not_found", f"There is no model of this name here: ask for {name}.")
    kind: Kind = "query" if asked.input_type in ("query", "search_query") else "document"
    found = await _embed(state, asked.input, kind)
    vectors = _vectors(found, asked.dimensions, normalise=False)
    as_text = asked.encoding_format == "base64"
    tokens = sum(one.lengths[0].tokens for one in found)
    return json_response(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": row, "embedding": _base64(vector) if as_text else vector.tolist()}
                for row, vector in enumerate(vectors)
            ],
            "model": name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


@router.post("/embed", response_model=list[list[float]])
async def embed(state: Served, asked: schemas.EmbedRequest) -> Response:
    """Vectors of texts."""
    found = await _embed(state, asked.inputs, asked.prompt_name)
    cut = [length for one in found for length in one.lengths if not length.fits]
    if cut and not asked.truncate:
        longest = max(cut, key=lambda length: length.tokens)
        raise RefusedError(
            422,
            "too_long",
            f"A text has {longest.tokens:,} tokens, with the model's prompt if it has one, and the model reads "
            f"{longest.limit:,}: cut it, or set truncate.",
        )
    return json_response(_vectors(found, asked.dimensions, asked.normalize).tolist())


@router.get("/v1/models")
async def models(state: Served) -> Response:
    """The model that is served."""
    model = {"id": await _name(state), "object": "model", "created": 0, "owned_by": "retriever"}
    return json_response({"object": "list", "data": [model]})


async def _name(state: State) -> str:
    """Of the model of what is served now."""
    return await state.ask(lambda: state.service.name)


async def _embed(state: State, texts: str | Sequence[str], kind: Kind) -> list[Embedding]:
    return await state.reads.submit(Embed(state.service, kind), [texts] if isinstance(texts, str) else texts)


def _vectors(found: Sequence[Embedding], dimensions: int | None, normalise: bool) -> NDArray[np.float32]:
    """Vectors (N, D), or their first ``dimensions`` entries brought to length 1."""
    whole = len(found[0].vector)
    if dimensions is not None and dimensions > whole:
        raise RefusedError(422, "invalid", f"dimensions is {dimensions}, and the model's vectors have {whole}.")
    vectors: NDArray[np.float32] = np.stack([one.vector for one in found])[:, :dimensions]
    if normalise or (dimensions or whole) < whole:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return vectors


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
