"""A client of ``retriever serve``: the calls of an open index and its model, over HTTP.

    with Client("http://127.0.0.1:8080") as client:
        client.add([Document("note-1", text="Hold both buttons.")])
        for hit in client.search("how do I reset the device", k=5):
            print(hit.rank, hit.id, hit.score)
        vectors = client.embed(["a text", "another"])  # (2, D)

What the server refuses is a :class:`retriever.ServerError` with its sentence, status, kind and request id.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from retriever.data.document import Document
from retriever.errors import DataError, ServerError, refuse_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DOCUMENTS = 500  # sent at once, or fewer where the server takes no body of that size
TEXTS = 256  # likewise


@dataclass(frozen=True, slots=True)
class Part:
    """What one side of a hybrid search says of a hit."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A document found.

    Attributes:
        rank: From 1.
        id: Its id.
        score: How well it fits.
        title: Its title.
        text: Its text.
        metadata: Its metadata.
        passage: The part of the text that fits best, as pieces of plain text and whether they match the query.
        parts: Score and rank by part; None where a part does not have the hit among its first ones.
    """

    rank: int
    id: str
    score: float
    title: str
    text: str
    metadata: Mapping[str, Any]
    passage: list[tuple[str, bool]]
    parts: Mapping[str, Part | None]


@dataclass(frozen=True, slots=True)
class Label:
    """A label found for a text: its id, its text, and how well it fits."""

    label: str
    text: str
    score: float


class Client:
    """A connection to a server.

    Args:
        url: Its address, as ``retriever serve`` prints it.
        api_key: A key, if the server asks for one.
        timeout: Seconds to wait for an answer.

    All methods raise :class:`retriever.ServerError` if the server cannot be reached or refuses, and
    :class:`retriever.DataError` if a text is given instead of a list, an id that is no text, or something that JSON
    cannot hold.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8080", api_key: str | None = None, *, timeout: float = 60.0
    ) -> None:
        http = _http()
        self.url = url.rstrip("/")
        headers = {} if api_key is None else {"Authorization": f"Bearer {_key(api_key)}"}
        self._late, self._failures = http.TimeoutException, (http.RequestError, http.InvalidURL)
        try:
            self._http = http.Client(base_url=self.url, headers=headers, timeout=timeout)
        except http.InvalidURL as error:
            raise ServerError(f"{url} is no address ({error}): give one such as http://127.0.0.1:8080.") from error

    def search(
        self,
        query: str,
        k: int = 10,
        mode: Literal["hybrid", "dense", "bm25"] = "hybrid",
        *,
        filters: Sequence[str] = (),
        fusion: str | None = None,
        weight: float | None = None,
        offset: int = 0,
        explain: bool = False,
    ) -> list[SearchHit]:
        """The best documents for a query; see :meth:`retriever.Index.search_batch`.

        Args:
            query: The query.
            k: Hits wanted.
            mode: ``hybrid``, ``dense`` or ``bm25``.
            filters: Conditions such as ``year>=2020``.
            fusion: How ``hybrid`` fuses.
            weight: The share of the vectors in it.
            offset: Hits to skip before them.
            explain: Whether hits of a hybrid search tell their parts.
        """
        refuse_text("filters", filters)
        asked = {"k": k, "mode": mode, "filters": list(filters), "offset": offset, "explain": explain}
        body = _json("The search", {"q": query, **asked, "fusion": fusion, "weight": weight})
        return [_hit(one) for one in self._call("POST", "/search", "hits", body)["hits"]]

    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        mode: Literal["hybrid", "dense", "bm25"] = "hybrid",
        *,
        filters: Sequence[str] = (),
    ) -> list[list[SearchHit]]:
        """The best documents for each of several queries, at most 256, and 10,000 hits in all; see :meth:`search`."""
        refuse_text("queries", queries)
        refuse_text("filters", filters)
        asked = {"queries": list(queries), "k": k, "mode": mode, "filters": list(filters)}
        answer = self._call("POST", "/search/batch", "results", _json("The search", asked))
        return [[_hit(one) for one in result["hits"]] for result in answer["results"]]

    def add(self, documents: Iterable[Document]) -> tuple[int, int]:
        """Add documents; one whose id is there already replaces the old one.

        They are sent 500 at a time, or fewer where these are more bytes than the server takes. What was sent before a
        refusal is in the index.

        Returns:
            How many are new, and how many replaced another.
        """
        added = replaced = 0
        rows = (_row(document) for document in documents)
        for counts in self._send("/documents", "added", "documents", rows, DOCUMENTS, {}):
            added, replaced = added + counts["added"], replaced + counts["replaced"]
        return added, replaced

    def get(self, name: str) -> Document | None:
        """The document of an id, or None."""
        answer = self._unless_missing("GET", _address(name), "id")
        return None if answer is None else Document(answer["id"], answer["title"], answer["text"], answer["metadata"])

    def delete(self, ids: Iterable[str]) -> list[str]:
        """Delete documents.

        Returns:
            The ids that are not there; all others are deleted.
        """
        refuse_text("ids", ids)
        addresses = [(name, _address(name)) for name in ids]
        return [name for name, address in addresses if self._unless_missing("DELETE", address, "deleted") is None]

    def embed(self, texts: Sequence[str], kind: Literal["query", "document"] = "document") -> NDArray[np.float32]:
        """Vectors (N, D) of N texts, which must not be empty; see :meth:`retriever.Encoder.encode`."""
        import numpy as np

        refuse_text("texts", texts)
        vectors = [np.empty((0, self.info["dimension"]), np.float32)]
        asked = {"model": self.info["model"], "input_type": kind, "encoding_format": "base64"}
        for answer in self._send("/v1/embeddings", "data", "input", map(_text, texts), TEXTS, asked):
            rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in answer["data"]]
            vectors.append(np.stack(rows))
        return np.concatenate(vectors)

    def predict(self, texts: Sequence[str], k: int = 5) -> list[list[Label]]:
        """The labels of each text, best first; see :meth:`retriever.LabelIndex.predict`."""
        refuse_text("texts", texts)
        found: list[list[Label]] = []
        for answer in self._send("/predict", "predictions", "inputs", map(_text, texts), TEXTS, {"k": k}):
            found += [[Label(**label) for label in one["labels"]] for one in answer["predictions"]]
        return found

    @cached_property
    def info(self) -> dict[str, Any]:
        """What the server told of itself at the first question."""
        return self._call("GET", "/info", "limits")

    def close(self) -> None:
        """Close the connections; nothing can be asked any more."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(
        self, path: str, answer: str, name: str, values: Iterable[bytes], count: int, asked: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """The answers to values in JSON, of which as many are sent at once as the server takes, at most ``count``.

        Args:
            path: Whom to ask.
            answer: The field that every answer holds.
            name: The field that holds the values.
            values: The values.
            count: How many to send at once at most.
            asked: The other fields.
        """
        head = _json("The request", {**asked, name: []}).removesuffix(b"]}")
        some: list[bytes] = []
        size = 0  # bytes of the body with these values and its end
        for value in values:
            if some and (len(some) == count or size + len(value) + 1 > self.info["limits"]["max_body"]):
                yield self._call("POST", path, answer, head + b",".join(some) + b"]}")
                some = []
            size = size + len(value) + 1 if some else len(head) + len(value) + 2
            some.append(value)
        if some:
            yield self._call("POST", path, answer, head + b",".join(some) + b"]}")

    def _unless_missing(self, method: str, address: str, field: str) -> dict[str, Any] | None:
        """The answer about a document, or None if there is none."""
        try:
            return self._call(method, address, field)
        except ServerError as error:
            if (error.status, error.kind) == (404, "not_found"):
                return None
            raise

    def _call(self, method: str, path: str, field: str, body: bytes | None = None) -> dict[str, Any]:
        """The answer to a request, which must hold a field."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        if self._http.is_closed:
            raise ServerError(f"The client of {self.url} is closed: make another one.")
        try:
            response = self._http.request(method, path, content=body, headers=headers)
        except self._late as error:
            way_out = "ask for less at once, or give the client a longer timeout"
            raise ServerError(f"{self.url} did not answer in time ({error}): {way_out}.") from error
        except self._failures as error:
            raise ServerError(f"Cannot reach {self.url} ({error}): start it with `retriever serve`.") from error
        try:
            answer = response.json()
        except ValueError as error:
            raise ServerError(
                f"{self.url} answered with no JSON (status {response.status_code}): is it `retriever serve`?",
                response.status_code,
            ) from error
        told: dict[str, Any] = answer if isinstance(answer, dict) else {}
        if response.is_success and field in told:
            return told
        strange = f"{self.url} answered with status {response.status_code} and no {field}: is it `retriever serve`?"
        sentence = told["error"] if isinstance(told.get("error"), str) else strange
        raise ServerError(sentence, response.status_code, told.get("error_type", ""), told.get("request_id", ""))


def _http() -> Any:  # noqa: ANN401 — one of two libraries with the same face
    """The HTTP library: httpx2, which goes on with httpx and needs Python 3.11."""
    try:
        if sys.version_info >= (3, 11):
            import httpx2 as http
        else:
            import httpx as http
    except ImportError as error:
        raise ServerError(f"The client needs {error.name}: pip install 'dense-retriever[serve]'.") from error
    return http


def _key(text: str) -> str:
    """A key, if a header can hold it."""
    if not text or not text.isascii() or not text.isprintable() or text != text.strip():
        raise ServerError(
            "The api_key is empty, or holds a line end, a blank around it or a letter beyond ASCII: give the key alone."
        )
    return text


def _hit(told: Mapping[str, Any]) -> SearchHit:
    return SearchHit(
        told["rank"],
        told["id"],
        told["score"],
        told["title"],
        told["text"],
        told["metadata"],
        [(piece["text"], piece["match"]) for piece in told["passage"]],
        {name: None if part is None else Part(**part) for name, part in told["parts"].items()},
    )


def _address(name: str) -> str:
    """Where the document of an id is."""
    if not isinstance(name, str):
        raise DataError(f"The id {name!r} is a {type(name).__name__}: give ids as strings.")
    try:
        return f"/documents/{quote(name, safe='').replace('.', '%2E')}"
    except UnicodeEncodeError as error:
        raise DataError(
            f"The id {name!r} holds half a character: decode it with the encoding of its source."
        ) from error


def _row(document: Document) -> bytes:
    fields = {"id": document.id, "title": document.title, "text": document.text, "metadata": dict(document.metadata)}
    return _json(f"The document {document.id!r}", fields)


def _text(text: str) -> bytes:
    return _json(f"The text {str(text)[:60]!r}", text)


def _json(what: str, value: object) -> bytes:
    """A value as JSON.

    Args:
        what: What it is, for the error.
        value: The value.

    Raises:
        DataError: JSON cannot hold it.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        way_out = "use text without half characters, finite numbers, lists and dictionaries"
        raise DataError(f"{what} cannot be sent as JSON ({error}): {way_out}.") from error
