"""``/documents``: adding, replacing, reading and deleting."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import Response

from retriever.data.document import Document
from retriever.server import schemas
from retriever.server.errors import RefusedError, json_response
from retriever.server.state import REFUSALS, Served
from retriever.server.tasks import Delete, Get, Upsert


class _IdConvertor(PathConvertor):
    """The rest of an address, also beyond the end of a line, where Starlette's own ends."""

    regex = "(?s:.*)"


register_url_convertor("id", _IdConvertor())

router = APIRouter(tags=["documents"], responses=REFUSALS)


@router.post("/documents", response_model=schemas.UpsertAnswer)
async def upsert(state: Served, asked: schemas.UpsertRequest) -> Response:
    """Index documents; they are on disk, and are found, when this answers. All are indexed, or none."""
    index = state.writable_index
    documents = [Document(one.id, one.title, one.text, one.metadata) for one in asked.documents]
    replaced = await state.writes.submit(Upsert(index, state.service.dtype), documents)
    counts = {"added": replaced.count(False), "replaced": replaced.count(True)}
    return json_response({**counts, "documents": await state.ask(lambda: len(index))})


@router.get("/documents/{name:id}", response_model=schemas.DocumentBody)
async def get(state: Served, name: str) -> Response:
    """The document of an id."""
    (document,) = await state.reads.submit(Get(state.index), [name])
    if document is None:
        raise _missing()
    return json_response(
        {"id": document.id, "title": document.title, "text": document.text, "metadata": document.metadata}
    )


@router.delete("/documents/{name:id}", response_model=schemas.DeleteAnswer)
async def delete(state: Served, name: str) -> Response:
    """Delete the document of an id; it is gone from disk, and is not found, when this answers."""
    index = state.writable_index
    (was_there,) = await state.writes.submit(Delete(index), [name])
    if not was_there:
        raise _missing()
    return json_response({"deleted": name, "documents": await state.ask(lambda: len(index))})


def _missing() -> RefusedError:
    return RefusedError(404, "not_found", "There is no document of this id.")
