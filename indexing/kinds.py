"""Kinds of FAISS indexes, by their factory strings, and what one search asks of them.

1. Full vectors live in a *store*: fp32 (``Flat``) or fp16. A graph over full vectors (``HNSW32``, ``HNSW32_SQfp16``)
   has its store inside; every other kind (product quantisation ``PQ…``, scalar quantisation ``SQ8``, ``RaBitQ``,
   inverted lists ``IVF…``) holds codes that lose precision, and gets an fp16 store beside it, row for row.
2. Codes only choose candidates, ``rerank`` for each hit wanted; the store then scores them. Principal components
   (``PCA…``) take no mean off, so that inner products of what they keep stay what they were.
3. What a search may spend are :class:`SearchSettings`: lists visited, breadth of the walk, candidates. They travel with
   the search and change nothing in the index.
4. Where only a part of the rows may be found, lists and graphs skip the others by themselves and are searched wider, by
   one over that part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from retriever.errors import IndexFolderError
from retriever.kernels import faiss

EF_CONSTRUCTION = 100  # breadth of the walk that places a new document in a graph
EF_SEARCH = 128  # breadth of the walk of a search, unless told otherwise
RERANK = 6  # candidates that the store scores for each hit wanted, unless told otherwise
PROBED = 8  # one of so many lists is visited, and at least so many, unless told otherwise
SHALLOWEST = 10  # candidates are counted for so many hits at least, so that the first of few is as good as of ten
TRAINING = 32_768  # vectors that codes are learnt from: 4-bit codes need 4,096, 8-bit codes 10,000
CACHED = 8_000_000  # bytes of codes that are taken to stay in a cache
ONE_BY_ONE = 11  # FAISS's name of a search of inverted lists without grouping of queries
PER_LIST = 50  # vectors that the centre of each list is learnt from; FAISS advises at least 39


class SearchSettings(BaseModel):
    """What a search may spend; :mod:`retriever.indexing.tuning` finds them. Plain data, for a manifest.

    Attributes:
        nprobe: Lists that are visited, of inverted lists. If not given, an eighth of them and at least 8.
        ef: Breadth of the walk, of graphs. If not given, 128.
        rerank: Candidates that the store scores for each hit wanted, of codes. If not given, 6.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nprobe: int | None = Field(default=None, ge=1)
    ef: int | None = Field(default=None, ge=1)
    rerank: int | None = Field(default=None, ge=1)


def create(factory: str, dimension: int) -> faiss.Index:
    """An empty FAISS index, by inner product.

    Args:
        factory: A factory string of FAISS.
        dimension: D.

    Raises:
        IndexFolderError: The string is unknown, does not fit the dimension, or brings a wrapper that we have ourselves.
    """
    unknown = IndexFolderError(
        f"FAISS makes no index {factory!r} of dimension {dimension} by inner product: choose Flat, HNSW32 or "
        "another of its factory strings."
    )
    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise unknown from error
    inner = unwrapped(index)
    is_empty = (isinstance(inner, faiss.IndexIVF) and not inner.nlist) or (
        isinstance(inner, faiss.IndexHNSW) and inner.hnsw.assign_probas.size() < 2
    )  # without lists or levels, FAISS would break off the process
    uneven = any(turn.d_out % turn.M for turn in turns(index) if isinstance(turn, faiss.OPQMatrix))
    if is_empty or uneven or inner.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise unknown
    if isinstance(index, (faiss.IndexRefine, faiss.IndexIDMap)):
        raise IndexFolderError(
            f"The factory {factory!r} re-ranks or numbers its vectors, which is done for every kind here: leave out "
            "Refine and IDMap."
        )
    if isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efConstruction = EF_CONSTRUCTION
    for part in (inner, getattr(inner, "pq", None)):
        if part is not None and hasattr(part, "cp"):
            part.cp.min_points_per_centroid = 1  # FAISS would write its advice to the terminal
    return index


def one_by_one(index: faiss.Index) -> faiss.Index:
    """Let inverted lists of few 4-bit codes be searched query by query; their file does not keep that.

    FAISS brings together the queries that visit a list, so that its codes are fetched once. Where all codes lie in the
    cache of a processor that makes searches 10 to 20 % slower, and faster by as much where they do not.
    """
    inner = unwrapped(index)
    if isinstance(inner, faiss.IndexIVFPQFastScan):
        inner.implem = ONE_BY_ONE if inner.ntotal * inner.code_size <= CACHED else 0
    return index


def unwrapped(index: faiss.Index) -> faiss.Index:
    """The index behind transformations of the vectors, such as OPQ or PCA."""
    while isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index


def store_inside(index: faiss.Index) -> faiss.Index | None:
    """The store of an index that holds full vectors in the order of their rows, or None."""
    held = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    full = isinstance(held, faiss.IndexFlat) or (
        isinstance(held, faiss.IndexScalarQuantizer) and held.sq.qtype == faiss.ScalarQuantizer.QT_fp16
    )
    return held if full else None


def learn(index: faiss.Index, store: faiss.Index) -> None:
    """Learn centres and codes from a sample of the store, spread evenly over its rows.

    Raises:
        IndexFolderError: There are too few vectors for this kind.
    """
    wanted = max(TRAINING, PER_LIST * lists(index))
    sample = store.reconstruct_batch(evenly(store.ntotal, wanted))
    too_few = IndexFolderError(
        f"{store.ntotal:,} vectors are too few to learn this kind of index from: choose Flat, or fewer lists."
    )
    rotations = [turn for turn in turns(index) if isinstance(turn, faiss.OPQMatrix)]
    if len(sample) < max((max(turn.d_in, turn.d_out) for turn in rotations), default=0):
        raise too_few  # FAISS would break off the process
    try:
        if isinstance(index, faiss.IndexPreTransform):
            _turn(index, sample)
        with _without_advice(rotations):
            index.train(sample)
    except RuntimeError as error:
        raise too_few from error


@contextmanager
def _without_advice(rotations: Sequence[faiss.OPQMatrix]) -> Iterator[None]:
    """Let rotations learn by codes of which FAISS writes nothing to the terminal, for each of some hundred rounds."""
    codes = [faiss.ProductQuantizer(turn.d_out, turn.M, 8) for turn in rotations]
    for turn, own in zip(rotations, codes, strict=True):
        own.cp.min_points_per_centroid = 1
        turn.pq = own  # a bare pointer
    try:
        yield
    finally:
        for turn in rotations:
            turn.pq = None


def turns(index: faiss.Index) -> list[faiss.VectorTransform]:
    """The transformations of vectors that come first."""
    chain: Any = index.chain if isinstance(index, faiss.IndexPreTransform) else None  # FAISS's hints call it a list
    return [] if chain is None else [faiss.downcast_VectorTransform(chain.at(place)) for place in range(chain.size())]


def _turn(index: faiss.IndexPreTransform, sample: NDArray[np.float32]) -> None:
    """Learn the transformations of vectors that come first, but take no mean off: that would change inner products."""
    for turn in turns(index):
        if not isinstance(turn, faiss.PCAMatrix):
            return
        turn.train(sample)
        turn.have_bias = False
        sample = turn.apply(sample)


def lists(index: faiss.Index) -> int:
    """The number of inverted lists, 0 where there are none."""
    inner = unwrapped(index)
    return int(inner.nlist) if isinstance(inner, faiss.IndexIVF) else 0


def selects(index: faiss.Index) -> bool:
    """Whether a search can skip rows by itself."""
    return isinstance(unwrapped(index), (faiss.IndexIVF, faiss.IndexHNSW))


def heeds(index: faiss.Index, is_coded: bool) -> dict[str, bool]:
    """Which of the :class:`SearchSettings` mean something to a kind, of codes or of full vectors."""
    inner = unwrapped(index)
    return {
        "nprobe": isinstance(inner, faiss.IndexIVF),
        "ef": isinstance(inner, faiss.IndexHNSW),
        "rerank": is_coded,
    }


def selector(alive: NDArray[np.bool_]) -> faiss.IDSelector:
    """What FAISS skips rows by."""
    bitmap: Any = faiss.IDSelectorBitmap
    chosen: faiss.IDSelector = bitmap(np.packbits(alive, bitorder="little"))
    return chosen


def search_parameters(
    index: faiss.Index, settings: SearchSettings, width: int, chosen: faiss.IDSelector | None = None, share: float = 1.0
) -> faiss.SearchParameters | None:
    """What FAISS wants to be told for one search; None for kinds that cannot be told anything.

    Args:
        index: What is searched.
        settings: What the search may spend.
        width: Candidates wanted.
        chosen: Rows that may be found, if not all.
        share: Their share.
    """
    if isinstance(index, faiss.IndexPreTransform):
        inner = search_parameters(faiss.downcast_index(index.index), settings, width, chosen, share)
        return told("SearchParametersPreTransform", index_params=inner) if inner else None
    if isinstance(index, faiss.IndexHNSW):
        ef = min(math.ceil((settings.ef or EF_SEARCH) / share), index.ntotal)  # no walk is broader than the graph
        return told("SearchParametersHNSW", efSearch=max(ef, width), sel=chosen)
    if isinstance(index, faiss.IndexIVF):
        enough = width / max(index.ntotal, 1) * index.nlist  # lists that hold so many on average
        visited = settings.nprobe or max(PROBED, index.nlist / PROBED)
        nprobe = min(math.ceil(max(visited, enough) / share), index.nlist)
        graph = isinstance(faiss.downcast_index(index.quantizer), faiss.IndexHNSW)  # finds the nearest lists
        walk = told("SearchParametersHNSW", efSearch=max(EF_SEARCH, 2 * nprobe)) if graph else None
        return told("SearchParametersIVF", nprobe=nprobe, sel=chosen, quantizer_params=walk)
    return None


def told(kind: str, **options: Any) -> faiss.SearchParameters:
    """One of FAISS's classes of parameters, which its type hints do not know in full."""
    parameters: faiss.SearchParameters = getattr(faiss, kind)(**options)
    return parameters


def evenly(count: int, wanted: int) -> NDArray[np.int64]:
    """At most ``wanted`` of ``count`` rows, spread evenly."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)
