"""Boost: a pretrained encoder joined to a static one that was trained on the user's corpus.

1. Train a static encoder on the corpus, or take a finished one.
2. Take the known items that this training held out: a title or a first sentence is the query, the rest of the document
   what it should find. The static encoder has not seen these documents, so its score on them is honest.
3. Encode queries and candidates once with either encoder; join them with w = 0, 0.1 … 1 (the pretrained encoder's share
   of the cosine) and rank.
4. Find the w of best Recall@10. Of all that do no worse by more than one standard error of the paired difference, keep
   the one nearest to 0.5 (Breiman et al. 1984 choose a model so): queries made of the corpus favour what was trained on
   it, and a few hundred of them cannot tell neighbouring weights apart. Save the joined encoder.

The output folder holds the model (``part_0`` is the pretrained encoder, ``part_1`` the static one with the protocol of
its training) and ``boost.json``, which tells the score by weight. See :mod:`retriever.encoder.joined`.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retriever.data.corpus import Corpus, open_corpus
from retriever.data.knownitem import known_items
from retriever.data.ragged import Ragged
from retriever.encoder import Encoder
from retriever.encoder.folder import check_free
from retriever.encoder.joined import join
from retriever.errors import ModelError
from retriever.files import write_atomically
from retriever.reporting import Reporter
from retriever.training.api import train
from retriever.training.recipe import Recipe
from retriever.training.recipebook import load_recipe, refuse_settings
from retriever.training.run_folder import CURVE, RECIPE
from retriever.training.sampler import ORDER, generator
from retriever.training.selection import Metrics, metrics, ranks
from retriever.training.trainer import LOG, TrainingInterrupted

WEIGHTS = [step / 10 for step in range(11)]
UNDECIDED = 0.5  # the weight where nothing speaks for another
POOL = 2_000  # candidates beside the held-out documents: the pretrained encoder has to read them all
DEPTH = 10  # of the recall that decides
PROTOCOL = "boost.json"


@dataclass(frozen=True)
class Questions:
    """Q known-item queries and N documents; query i asks for document i."""

    queries: list[str]
    documents: list[str]


@dataclass(frozen=True)
class Boosted:
    """What :func:`boost` made.

    Attributes:
        encoder: The joined encoder, saved.
        weight: The pretrained encoder's share of the cosine.
        scores: Weight → scores on the known items; empty if the weight was given or there are no known items.
        queries: Known-item queries the weight was chosen on.
    """

    encoder: Encoder
    weight: float
    scores: dict[float, Metrics]
    queries: int

    def to_json(self) -> dict[str, Any]:
        """Everything but the encoder, as plain types that `json.dumps` takes."""
        return {"weight": self.weight, "queries": self.queries, "scores": {str(w): s for w, s in self.scores.items()}}


def boost(
    model: Encoder | str | Path,
    data: Corpus | str | Path,
    output: str | Path,
    *,
    static: Encoder | str | Path | None = None,
    weight: float | None = None,
    recipe: Recipe | str | Path = "contriever-cpu",
    overwrite: bool = False,
    device: str | None = None,
    processes: int | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Boosted:
    """Join a pretrained encoder to a static one trained on a corpus.

    Args:
        model: The pretrained encoder, its folder or its hub name.
        data: The corpus, or what :func:`retriever.data.corpus.open_corpus` takes.
        output: The model folder to write.
        static: A finished encoder instead of training one. If it comes from :func:`retriever.training.api.train` on the
            same corpus, its own ``recipe.yaml`` tells which documents it did not see; of any other it is not known, and
            the chosen weight may lean towards it.
        weight: The pretrained encoder's share of the cosine, from 0 to 1, instead of choosing it.
        recipe: How to train the static encoder and how many known items to hold out: a shipped recipe's name, a YAML
            file, or a resolved recipe. A name or file gives way to a finished encoder's own ``recipe.yaml``.
        overwrite: Replace the model in ``output``.
        device: Such as ``cpu`` or ``cuda:0``; the best there is, if omitted.
        processes: For tokenising; all cores if omitted.
        reporter: Hears of progress.
        settings: Recipe keys to change, as in :func:`retriever.training.api.train`.

    Raises:
        ModelError: A model cannot be opened, or the weight is not between 0 and 1.
        RecipeError: The recipe is wrong.
        DataError: The corpus is missing, mangled or too small.
        OutputError: The output folder is taken or cannot be written.
        KeyboardInterrupt: Ctrl-C; nothing was written.
    """
    folder, reporter = Path(output).expanduser(), reporter or Reporter()
    if weight is not None and not 0 <= weight <= 1:
        raise ModelError(f"The weight is {weight:g}; give the pretrained encoder's share of the cosine, from 0 to 1.")
    check_free(folder, overwrite)
    refuse_settings(recipe, settings)
    chosen = recipe if isinstance(recipe, Recipe) else resolve_recipe(recipe, static, settings)
    pretrained = model if isinstance(model, Encoder) else Encoder.load(model, device)
    corpus = data if isinstance(data, Corpus) else open_corpus(data)
    with tempfile.TemporaryDirectory(prefix="boost-") as run:
        if static is None:
            local = _train(chosen, corpus, Path(run) / "static", device, processes, reporter)
        else:
            local = static if isinstance(static, Encoder) else Encoder.load(static, device)
            if _recipe_of(static) is None:
                reporter.note("The static model may have seen the held-out documents: the weight may lean towards it.")
        boosted = _joined(pretrained, local, corpus, weight, chosen, reporter)
        training = _protocol_of(local)
        boosted.encoder.save(folder, overwrite=overwrite)
    record = {"model": _name(model), "static": None if static is None else _name(static), **boosted.to_json()}
    write_atomically(folder / PROTOCOL, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    for name, content in training.items():
        write_atomically(folder / "part_1" / name, content)
    return boosted


def resolve_recipe(
    recipe: str | Path, static: Encoder | str | Path | None, overrides: Sequence[str] | Mapping[str, Any] = ()
) -> Recipe:
    """The recipe that lies beside a finished static encoder, or the one named, with its overrides.

    Raises:
        RecipeError: No such recipe, no such key, or a value that cannot be.
    """
    return load_recipe(_recipe_of(static) or recipe, overrides)


def known_item_questions(corpus: Corpus, settings: Recipe) -> Questions:
    """The known items that training with these settings holds out, and some other documents to compete with them."""
    items = known_items(corpus, settings.selection.queries, settings.seed)
    count = sum(1 for _ in corpus)
    others = np.setdiff1d(np.arange(count), items.rows)
    drawn = generator(ORDER, settings.seed).permutation(others)[: min(settings.selection.pool, POOL)]
    pool = set(drawn.tolist())
    return Questions(items.queries, [*items.documents, *(d.content for row, d in enumerate(corpus) if row in pool)])


def ranks_by_weight(
    parts: tuple[Encoder, Encoder],
    questions: Questions,
    *,
    weights: Sequence[float] = WEIGHTS,
    dtype: str = "auto",
    reporter: Reporter | None = None,
) -> dict[float, NDArray[np.int64]]:
    """Rank of each query's document, (Q,), with two encoders joined by w and 1 − w, for every w.

    Each text is encoded once by each encoder.
    """
    queries, documents = [], []
    with (reporter or Reporter()).stage("weight", 2 * len(questions.documents)) as advance:
        for part in parts:
            queries.append(torch.from_numpy(part.encode(questions.queries, "query", dtype=dtype)))
            found = part.encode(questions.documents, "document", dtype=dtype, progress=advance)
            documents.append(torch.from_numpy(found))
    answers = Ragged.from_rows([[row] for row in range(len(questions.queries))])
    return {
        weight: ranks(join(queries, shares).numpy(), join(documents, shares).numpy(), answers)
        for weight in weights
        for shares in [(weight, 1 - weight)]
    }


def best_weight(found: Mapping[float, NDArray[np.int64]]) -> float:
    """The weight nearest to 0.5 among those whose Recall@10 is within one standard error of the best.

    Two weights find b and c documents that the other misses: under the null hypothesis b − c has the standard error
    √(b + c) (McNemar 1947).

    Args:
        found: Weight → rank of each query's document, (Q,).
    """
    hits = {weight: (places <= DEPTH).astype(int) for weight, places in found.items()}
    best = max(hits.values(), key=lambda hit: int(hit.sum()))
    lost = {weight: int((best - hit).sum()) for weight, hit in hits.items()}
    error = {weight: math.sqrt(int((best != hit).sum())) for weight, hit in hits.items()}  # of the number lost
    as_good = [weight for weight in hits if lost[weight] <= error[weight]]
    return min(as_good, key=lambda weight: (round(abs(weight - UNDECIDED), 6), lost[weight], -weight))


def _joined(
    pretrained: Encoder, local: Encoder, corpus: Corpus, weight: float | None, chosen: Recipe, reporter: Reporter
) -> Boosted:
    """The two encoders joined with the weight given or the best one."""
    for part, name in ((pretrained, "pretrained"), (local, "static")):
        if part.similarity == "dot":
            reporter.note(f"The {name} encoder compares by dot product; joined, it is normalised and so by cosine.")
    found: dict[float, NDArray[np.int64]] = {}
    queries = 0
    if weight is None:
        questions = known_item_questions(corpus, chosen)
        queries = len(questions.queries)
        if queries:
            found = ranks_by_weight((pretrained, local), questions, dtype=chosen.dtype, reporter=reporter)
        else:
            reporter.note(f"There are no known items to choose a weight on: it is {UNDECIDED}.")
        weight = best_weight(found) if found else UNDECIDED
    scores = {share: metrics(places, np.ones(queries, np.int64)) for share, places in found.items()}
    return Boosted(Encoder.joined([pretrained, local], [weight, 1 - weight]), weight, scores, queries)


def _train(
    chosen: Recipe, corpus: Corpus, folder: Path, device: str | None, processes: int | None, reporter: Reporter
) -> Encoder:
    """The static encoder, trained in a passing folder."""
    try:
        return train(chosen, corpus, folder, device=device, processes=processes, reporter=reporter)
    except TrainingInterrupted as stop:
        raise KeyboardInterrupt(f"Stopped after step {stop.step}; nothing was written.") from None


def _recipe_of(static: Encoder | str | Path | None) -> Path | None:
    """The recipe that lies beside a static encoder which was trained here."""
    folder = static.path if isinstance(static, Encoder) else static
    path = None if folder is None else Path(folder).expanduser() / RECIPE
    return path if path is not None and path.is_file() else None


def _protocol_of(local: Encoder) -> dict[str, bytes]:
    """Name → content of the files that tell how a static encoder was trained."""
    paths = [] if local.path is None else [local.path / name for name in (RECIPE, LOG, CURVE)]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def _name(model: Encoder | str | Path) -> str:
    path = model.path if isinstance(model, Encoder) else model
    return "an encoder in memory" if path is None else str(path)
