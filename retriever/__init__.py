"""Train, index, evaluate and search with your own dense retriever.

The public face, loaded when first used so that ``import retriever`` costs nothing:

    encoder = Encoder.load(path_or_name)                       # or Encoder.static(...), Encoder.small(...)
    vectors = encoder.encode(texts, kind="document")           # (N, D) float32
    encoder = train("contriever-cpu", "notes.jsonl", "model", steps=500)
    index = Index.build(encoder, open_corpus("notes.jsonl"), "index")
    mine(encoder, open_labelled("scifact"), "hard.jsonl")
    hits = index.search("how to …", k=10, mode="hybrid")
    results = evaluate(encoder, load_beir("scifact"))
    results = evaluate_sts(encoder, load_sts("sts"))
    results = evaluate_xmc(encoder, load_xmc("reuters"))
    hits = Client("http://127.0.0.1:8080").search("how to …")    # of `retriever serve`
    loss = objectives.contrast(scores, targets)                # (B,)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from retriever.errors import (
    BusyError,
    DataError,
    IndexFolderError,
    ModelError,
    OtherModelError,
    OutputError,
    RecipeError,
    RetrieverError,
    ServerError,
)

if TYPE_CHECKING:
    from retriever.client import Client
    from retriever.data.beir import BeirDataset, load_beir
    from retriever.data.corpus import Corpus, open_corpus
    from retriever.data.document import Document
    from retriever.data.labelled import Labelled, open_labelled
    from retriever.data.sts import StsSet, load_sts
    from retriever.data.xmc import load_xmc
    from retriever.data.xmc_points import XmcDataset
    from retriever.encoder import Encoder
    from retriever.eval.beir import Results
    from retriever.eval.beir import evaluate_beir as evaluate
    from retriever.eval.sts import StsResults, evaluate_sts
    from retriever.eval.xmc import XmcResults, evaluate_xmc
    from retriever.indexing.index import Hit, Index
    from retriever.indexing.kinds import SearchSettings
    from retriever.indexing.label_memory import LabelMemory
    from retriever.indexing.labels import LabelIndex
    from retriever.indexing.mining import mine
    from retriever.indexing.searching import Part
    from retriever.training import objectives
    from retriever.training.api import train

__version__ = "0.1.0"

__all__ = [
    "BeirDataset",
    "BusyError",
    "Client",
    "Corpus",
    "DataError",
    "Document",
    "Encoder",
    "Hit",
    "Index",
    "IndexFolderError",
    "LabelIndex",
    "LabelMemory",
    "Labelled",
    "ModelError",
    "OtherModelError",
    "OutputError",
    "Part",
    "RecipeError",
    "Results",
    "RetrieverError",
    "SearchSettings",
    "ServerError",
    "StsResults",
    "StsSet",
    "XmcDataset",
    "XmcResults",
    "__version__",
    "evaluate",
    "evaluate_sts",
    "evaluate_xmc",
    "load_beir",
    "load_sts",
    "load_xmc",
    "mine",
    "objectives",
    "open_corpus",
    "open_labelled",
    "train",
]

_HOMES = {
    "BeirDataset": "data.beir.BeirDataset",
    "Client": "client.Client",
    "Corpus": "data.corpus.Corpus",
    "Document": "data.document.Document",
    "Encoder": "encoder.Encoder",
    "Hit": "indexing.index.Hit",
    "Index": "indexing.index.Index",
    "Part": "indexing.searching.Part",
    "Results": "eval.beir.Results",
    "SearchSettings": "indexing.kinds.SearchSettings",
    "StsResults": "eval.sts.StsResults",
    "StsSet": "data.sts.StsSet",
    "XmcDataset": "data.xmc_points.XmcDataset",
    "XmcResults": "eval.xmc.XmcResults",
    "evaluate": "eval.beir.evaluate_beir",
    "evaluate_sts": "eval.sts.evaluate_sts",
    "evaluate_xmc": "eval.xmc.evaluate_xmc",
    "LabelIndex": "indexing.labels.LabelIndex",
    "LabelMemory": "indexing.label_memory.LabelMemory",
    "Labelled": "data.labelled.Labelled",
    "load_beir": "data.beir.load_beir",
    "load_sts": "data.sts.load_sts",
    "load_xmc": "data.xmc.load_xmc",
    "mine": "indexing.mining.mine",
    "objectives": "training.objectives",
    "open_corpus": "data.corpus.open_corpus",
    "open_labelled": "data.labelled.open_labelled",
    "train": "training.api.train",
}


if not TYPE_CHECKING:  # a type checker is to refuse names that there are not

    def __getattr__(name: str) -> Any:  # noqa: ANN401 — whatever the name stands for
        if name not in _HOMES:
            raise AttributeError(f"module 'retriever' has no attribute {name!r}")
        home, _, last = f"retriever.{_HOMES[name]}".rpartition(".")
        value = globals()[name] = getattr(import_module(home), last, None) or import_module(f"{home}.{last}")
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
