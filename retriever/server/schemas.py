"""What requests and answers hold. Unknown fields are refused, so that a typing error is not silently ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from retriever.data.document import nests_within
from retriever.indexing.hybrid import Fusion
from retriever.indexing.index import Mode
from retriever.server import settings

_FILTERS = "Conditions on the metadata, such as `year>=2020` or `lang=en,de`; a hit meets all of them."


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank: give at least one word")
    return text


def _shallow(metadata: dict[str, Any]) -> dict[str, Any]:
    if not nests_within(settings.MAX_DEPTH, metadata):
        raise ValueError(f"it nests deeper than {settings.MAX_DEPTH} levels")
    return metadata


def _branch(value: object) -> str | None:
    return ONE if isinstance(value, str) else MANY if isinstance(value, list) else None


ONE, MANY = "one text", "many texts"
BRANCHES = frozenset({ONE, MANY})  # what the places of errors say of a field that takes either
_ONE_OR_MANY = Discriminator(
    _branch, custom_error_type="one_or_many", custom_error_message="It is neither a text nor a list of texts"
)

Query = Annotated[str, Field(min_length=1, max_length=settings.MAX_QUERY), AfterValidator(_not_blank)]
Text = Annotated[str, Field(max_length=settings.MAX_TEXT)]
SomeText = Annotated[str, Field(min_length=1, max_length=settings.MAX_TEXT)]
Texts = Annotated[list[SomeText], Field(min_length=1, max_length=settings.MAX_TEXTS)]
Queries = Annotated[list[Query], Field(min_length=1, max_length=settings.MAX_QUERIES)]
TextOrTexts = Annotated[Annotated[SomeText, Tag(ONE)] | Annotated[Texts, Tag(MANY)], _ONE_OR_MANY]
QueryOrQueries = Annotated[Annotated[Query, Tag(ONE)] | Annotated[Queries, Tag(MANY)], _ONE_OR_MANY]
Filter = Annotated[str, Field(max_length=settings.MAX_FILTER)]
Dimensions = Annotated[
    int | None, Field(ge=1, description="Keep the first so many entries of the vectors, and bring them to length 1.")
]
Id = Annotated[str, Field(min_length=1, max_length=settings.MAX_ID)]


class Request(BaseModel):
    """Base of what is sent."""

    model_config = ConfigDict(extra="forbid")


class Asking(Request):
    """How to search."""

    k: Annotated[int, Field(ge=1, le=settings.MAX_K, description="Hits wanted.")] = 10
    offset: Annotated[int, Field(ge=0, lt=settings.MAX_K, description="Hits to skip before them.")] = 0
    mode: Annotated[Mode, Field(description="Meaning and words, or one.")] = "hybrid"
    fusion: Annotated[Fusion | None, Field(description="How hybrid fuses; as the index is tuned if omitted.")] = None
    weight: Annotated[
        float | None, Field(ge=0, le=1, description="Of hybrid: share of meaning; as the index is tuned if omitted.")
    ] = None
    filters: Annotated[list[Filter], Field(max_length=settings.MAX_FILTERS, description=_FILTERS)] = []
    explain: Annotated[bool, Field(description="Also tell score and rank of both parts of a hybrid search.")] = False
    text: Annotated[bool, Field(description="Answer with the whole texts of the hits.")] = True
    highlight: Annotated[
        bool, Field(description="Answer with the passage that fits best, and the words that match.")
    ] = True

    @model_validator(mode="after")
    def _within_reach(self) -> Asking:
        if self.offset + self.k > settings.MAX_K:
            raise ValueError(f"offset and k are {self.offset + self.k} together, and at most {settings.MAX_K} are kept")
        return self


class SearchRequest(Asking):
    """One query."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"q": "how do I reset the device", "k": 5, "filters": ["year>=2020"]}]}
    )
    q: Annotated[Query, Field(description="What to look for.")]


class BatchRequest(Asking):
    """Several queries, answered alike."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"queries": ["reset the device", "the manual"], "k": 3}]})
    queries: Annotated[
        list[Query],
        Field(
            min_length=1,
            max_length=settings.MAX_QUERIES,
            description=f"What to look for: their number times `offset + k` is at most {settings.MAX_HITS:,}.",
        ),
    ]

    @model_validator(mode="after")
    def _within_answer(self) -> BatchRequest:
        hits = len(self.queries) * (self.offset + self.k)
        if hits > settings.MAX_HITS:
            raise ValueError(
                f"{len(self.queries)} queries of {self.offset + self.k} hits, the skipped ones included, are {hits:,}, "
                f"and at most {settings.MAX_HITS:,} are told at once: send fewer queries, or ask for fewer hits"
            )
        return self


class Piece(BaseModel):
    """A run of plain text that matches the query, or does not."""

    text: str
    match: bool


class Part(BaseModel):
    """What one part of a search says of a hit."""

    score: float
    rank: int


class Hit(BaseModel):
    """A document found."""

    rank: int
    id: str
    score: float
    parts: Annotated[
        dict[str, Part | None],
        Field(description="By part, `dense` or `bm25`; null where the hit is not among the part's first ones."),
    ]
    title: str
    text: str | None = None
    passage: list[Piece] | None = None
    heading: Annotated[list[Piece] | None, Field(description="The title, with the words that match.")] = None
    metadata: dict[str, Any]


class SearchAnswer(BaseModel):
    """The hits of a query, best first."""

    query: str
    mode: str
    hits: list[Hit]
    took_ms: float


class BatchAnswer(BaseModel):
    """The hits of each query."""

    results: list[SearchAnswer]
    took_ms: float


class DocumentBody(Request):
    """A document: an id, a title, a text, and metadata."""

    id: Id
    title: Text = ""
    text: Text = ""
    metadata: Annotated[dict[str, Any], AfterValidator(_shallow)] = {}


class UpsertRequest(Request):
    """Documents to index. One whose id is there already replaces the old one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"documents": [{"id": "note-1", "text": "Hold both buttons.", "metadata": {"year": 2024}}]}]
        }
    )
    documents: Annotated[list[DocumentBody], Field(min_length=1, max_length=settings.MAX_DOCUMENTS)]


class UpsertAnswer(BaseModel):
    """What a change did; it is on disk. `documents` is how many the index holds now."""

    added: int
    replaced: int
    documents: int


class DeleteAnswer(BaseModel):
    """What was deleted; it is gone from disk. `documents` is how many the index holds now."""

    deleted: str
    documents: int


class EmbeddingsRequest(Request):
    """As OpenAI's embeddings API takes it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "model", "input": ["a text", "another"]}]})
    input: TextOrTexts
    model: Annotated[str, Field(max_length=512, description="As GET /v1/models names it.")]
    encoding_format: Annotated[Literal["float", "base64"], Field(description="base64 is little-endian float32.")] = (
        "float"
    )
    dimensions: Dimensions = None
    user: Annotated[str | None, Field(max_length=512, description="Not looked at.")] = None
    input_type: Annotated[
        Literal["query", "document", "search_query", "search_document"],
        Field(description="Whose prompt is put before the texts, if the model has prompts."),
    ] = "document"


class EmbeddingRow(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """As OpenAI's embeddings API answers."""

    object: Literal["list"]
    data: list[EmbeddingRow]
    model: str
    usage: Usage


class EmbedRequest(Request):
    """As text-embeddings-inference takes it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": ["a text"], "prompt_name": "query"}]})
    inputs: TextOrTexts
    normalize: Annotated[bool, Field(description="Bring vectors to length 1.")] = True
    truncate: Annotated[bool, Field(description="Cut texts that the model cannot read whole, instead of refusing.")] = (
        True
    )
    prompt_name: Annotated[Literal["query", "document"], Field(description="Whose prompt is put before.")] = "document"
    dimensions: Dimensions = None


class PredictRequest(Request):
    """Texts to label."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": ["Coffee exports rose in March"], "k": 3}]})
    inputs: QueryOrQueries
    k: Annotated[int, Field(ge=1, le=settings.MAX_K, description="Labels wanted for each text.")] = 5


class Label(BaseModel):
    """A label that fits."""

    label: str
    text: str
    score: float


class Prediction(BaseModel):
    """The labels of a text, best first."""

    text: str
    labels: list[Label]


class PredictAnswer(BaseModel):
    """The labels of each text."""

    predictions: list[Prediction]
    took_ms: float


class Refusal(BaseModel):
    """Why a request was refused: one sentence, a name for programs, and the id under which the log has more."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"error": "q is wrong: it is blank.", "error_type": "invalid", "request_id": "6f1c0e9a"}]
        }
    )
    error: str
    error_type: str
    request_id: str
