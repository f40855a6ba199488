"""Selection for sentences: the scores against other code, what is read and what training sees, and exact resuming."""

from __future__ import annotations

import json
import math
import os
import signal

import numpy as np
import pytest
import sts_folders
import tiny
import torch
from scipy import stats

from retriever.data.tokenizers import SubwordTokenizer
from retriever.data.tokens import tokenise
from retriever.encoder import Encoder
from retriever.errors import RecipeError
from retriever.reporting import Reporter
from retriever.training.api import train
from retriever.training.prepare import prepare
from retriever.training.recipebook import load_recipe
from retriever.training.sentence_selection import HeldOutViews, hold_out_views, load_dev
from retriever.training.trainer import Trainer

SENTENCES = {"views": {"mix": {"same": 1.0}, "window": 16}, "symmetric": False, "lr": 0.01}
ALIGNED = {"metric": "align_uniform", "queries": 20}


def rows_of(count):
    """Pairs of sentences of the tiny corpus' words with a score: the same topic or another one."""
    random = np.random.default_rng(count)
    for row in range(count):
        topics = (row % 10, (row + row % 3) % 10)
        texts = (" ".join(f"t{topic}w{word}" for word in random.integers(0, 30, 6)) for topic in topics)
        yield *texts, f"{(row * 7) % 11 / 2 if row % 3 else 5:g}"


@pytest.fixture(scope="module")
def sts(tmp_path_factory):
    """A folder with STS-B: 30 dev pairs, and a test file that must not be read."""
    folder = tmp_path_factory.mktemp("sts")
    lines = (f"g\tf\t2012\t1\t{score}\t{one}\t{other}" for one, other, score in rows_of(30))
    sts_folders.write_lines(folder / "sts-dev.csv", lines)
    (folder / "sts-test.csv").write_text("mangled")
    return folder


def small(**changes):
    """The small transformer's recipe on sentences."""
    name, settings = tiny.RECIPES["small"]
    return load_recipe(name, {**settings, **SENTENCES, **changes})


def entries(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def evaluations(folder):
    return {entry["step"]: entry["evaluation"] for entry in entries(folder) if "evaluation" in entry}


def untrained():
    """An encoder, the tokens of the tiny corpus, and its documents' numbers."""
    corpus = tiny.corpus()
    tokenizer = SubwordTokenizer.train((document.content for document in corpus), size=200)
    encoder = Encoder.small(tokenizer, dimension=16, layers=2, heads=2, max_length=24, dropout=0.3)
    return encoder, tokenise(corpus, tokenizer, processes=1), np.arange(150)


def test_the_score_on_sts_is_spearmans_of_the_dev_pairs(sts):
    encoder, _, _ = untrained()
    dev = load_dev(str(sts))
    rows = list(rows_of(30))
    one, other = (encoder.encode([row[side] for row in rows]) for side in (0, 1))
    cosines = np.round((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1), 6)
    expected = stats.spearmanr(cosines, [float(row[2]) for row in rows]).statistic
    assert dev.score(encoder, "float32") == {"spearman": pytest.approx(expected, abs=2e-3)}
    assert not len(dev.rows) and dev.what == "STS-B dev"


def test_each_sentence_of_the_pairs_is_encoded_once(sts, monkeypatch):
    encoder, _, _ = untrained()
    seen = []
    encode = Encoder.encode
    monkeypatch.setattr(
        Encoder, "encode", lambda self, texts, *a, **k: seen.extend(texts) or encode(self, texts, *a, **k)
    )
    load_dev(str(sts)).score(encoder, "float32")
    rows = list(rows_of(30))
    assert sorted(seen) == sorted({text for row in rows for text in row[:2]})


def test_a_collapsed_encoder_has_the_worst_score(sts):
    encoder, _, _ = untrained()
    with torch.no_grad():
        for parameter in encoder.stack.parameters():
            parameter.zero_()
    assert load_dev(str(sts)).score(encoder, "float32") == {"spearman": -1.0}


def test_other_sets_in_the_folder_are_not_read(tmp_path):
    sts_folders.write_benchmark(tmp_path, splits=("dev",))
    (tmp_path / "SICK").mkdir()
    (tmp_path / "SICK" / "SICK_trial.txt").write_text("no table")
    assert len(load_dev(str(tmp_path)).pairs) == 20


def test_the_file_of_a_language_will_do_if_it_is_the_dev_split(tmp_path):
    rows = "\n".join(f"{one},{other},{score}" for one, other, score in sts_folders.pairs(6))
    for split in ("dev", "test"):
        (tmp_path / f"stsb-de-{split}.csv").write_text(rows)
    assert load_dev(str(tmp_path / "stsb-de-dev.csv")).pairs.name == "STSB-de"
    with pytest.raises(RecipeError, match="the test split; steps are chosen by the dev split"):
        load_dev(str(tmp_path / "stsb-de-test.csv"))


@pytest.mark.parametrize("name", ["nowhere", "empty", "no-dev"])
def test_a_folder_without_the_pairs_is_refused_before_anything_is_written(tmp_path, name):
    (tmp_path / "empty").mkdir()
    sts_folders.write_benchmark(tmp_path / "no-dev", splits=("train",))
    with pytest.raises(RecipeError, match=r"selection\.sts: .*"):
        tiny.run("static", tmp_path / "run", overrides={"sts": str(tmp_path / name), "keep": "best"})
    assert not (tmp_path / "run").exists()


def test_pairs_of_one_gold_score_choose_no_step_and_are_refused(tmp_path):
    rows = [f"{one},{other},3" for one, other, _ in sts_folders.pairs(6)]
    (tmp_path / "stsb-de-dev.csv").write_text("\n".join(rows))
    with pytest.raises(RecipeError, match=r"selection\.sts: all pairs of .* have the same gold score"):
        load_dev(str(tmp_path / "stsb-de-dev.csv"))


def test_alignment_and_uniformity_equal_plain_loops():
    encoder, store, rows = untrained()
    held = hold_out_views(rows, store, encoder, small(**ALIGNED))
    score = held.score(encoder, "float32")
    vectors = encoder.embed(held.texts, dtype="float32").astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    potentials = [
        math.exp(-2 * sum((x - y) ** 2)) for i, x in enumerate(vectors) for j, y in enumerate(vectors) if i < j
    ]
    assert score["uniformity"] == pytest.approx(math.log(np.mean(potentials)), abs=1e-4)
    encoder.stack.train()
    sides = []
    for side, view in enumerate(held.views):
        torch.manual_seed(held.seed + side * 2**31)
        with torch.no_grad():
            found = encoder(encoder.features(view)).numpy().astype(np.float64)
        sides.append(found / np.linalg.norm(found, axis=1, keepdims=True))
    distances = [sum((x - y) ** 2) for x, y in zip(*sides, strict=True)]
    assert score["alignment"] == pytest.approx(np.mean(distances), abs=1e-4) and score["alignment"] > 0.01
    assert score["align_uniform"] == pytest.approx(-score["alignment"] - score["uniformity"])


def test_the_score_is_a_function_of_the_weights_and_leaves_the_mode_alone():
    encoder, store, rows = untrained()
    held = hold_out_views(rows, store, encoder, small(**ALIGNED))
    first = held.score(encoder, "float32")
    torch.manual_seed(99)
    encoder.stack.train()
    assert held.score(encoder, "float32") == first and encoder.stack.training
    encoder.stack.eval()
    assert held.score(encoder, "float32") == first and not encoder.stack.training


def test_dropout_and_crops_tell_views_apart():
    encoder, store, rows = untrained()
    held = hold_out_views(rows, store, encoder, small(**ALIGNED))
    assert all(one.tolist() == other.tolist() for one, other in zip(*held.views, strict=True))
    crops = hold_out_views(rows, store, encoder, load_recipe("contriever-cpu", ALIGNED | {"keep": "best"}))
    assert any(one.tolist() != other.tolist() for one, other in zip(*crops.views, strict=True))


def test_training_never_sees_the_texts_held_out():
    encoder, _, _ = untrained()
    prepared = prepare([tiny.corpus()], encoder, small(**ALIGNED), 1, Reporter())
    held = prepared.held_out
    assert isinstance(held, HeldOutViews)
    assert len(held.rows) == 15, "a tenth at most"
    assert not set(held.rows) & set(np.concatenate(prepared.sources)) and prepared.sources[0].size == 135
    other = prepare([tiny.corpus()], encoder, small(**ALIGNED, seed=1), 1, Reporter()).held_out
    assert other.rows.tolist() != held.rows.tolist()


def test_nothing_is_held_out_where_none_is_wanted_or_there_is_hardly_any():
    encoder, store, rows = untrained()
    assert hold_out_views(rows, store, encoder, small(metric="align_uniform", queries=0)) is None
    assert hold_out_views(rows[:19], store, encoder, small(**ALIGNED)) is None


def measure_of(kind, sts):
    return {**SENTENCES, **({"sts": str(sts)} if kind == "spearman" else ALIGNED)}


@pytest.mark.parametrize("kind", ["spearman", "align_uniform"])
def test_the_best_step_is_kept_and_a_resumed_run_has_the_same_bytes(kind, sts, tmp_path, monkeypatch):
    overrides = measure_of(kind, sts)
    notes = []
    monkeypatch.setattr(Reporter, "note", lambda self, sentence: notes.append(sentence))
    tiny.run("small", tmp_path / "whole", overrides=overrides)
    scores = {step: metrics[kind] for step, metrics in evaluations(tmp_path / "whole").items()}
    best = max(scores, key=scores.get)
    assert any(f"Step {best} is kept: {kind} {scores[best]:.3f} on " in note for note in notes), notes
    update = Trainer.update

    def interrupt(self, *arguments):
        if self.state.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tiny.run("small", tmp_path / "stopped", overrides=overrides)
    monkeypatch.setattr(Trainer, "update", update)
    tiny.run("small", tmp_path / "stopped", overrides=overrides, resume=True)
    assert tiny.weights(tmp_path / "stopped") == tiny.weights(tmp_path / "whole")
    assert evaluations(tmp_path / "stopped") == evaluations(tmp_path / "whole")


def test_labelled_queries_are_all_trained_on_where_sentence_pairs_choose(sts, tmp_path):
    triples = [{"query": f"q{i} word", "positive": f"q{i} text", "negative": f"other{i} text"} for i in range(24)]
    (tmp_path / "nli.jsonl").write_text("\n".join(map(json.dumps, triples)))
    small_encoder = {"family": "small", "vocabulary": 200, "dimension": 16, "layers": 1, "heads": 2, "max_length": 16}
    settings = {"steps": 4, "warmup": 0, "every": 2, "size": 24, "dev": 0.3, "sts": str(sts), "log_every": 1}
    recipe = load_recipe("finetune", settings | {"encoder": small_encoder})
    train(recipe, tmp_path / "nli.jsonl", tmp_path / "run", device="cpu", processes=1)
    assert evaluations(tmp_path / "run").keys() == {0, 2, 4}
    assert {entry["negatives"] for entry in entries(tmp_path / "run") if "loss" in entry} == {23 + 24}


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("contriever-small", {"metric": "spearman"}, "metric spearman needs sentence pairs: set sts"),
        ("contriever-cpu", {"sts": "x"}, "keep: last and average look at the noise of queries, and spearman has none"),
        ("contriever-cpu", {"metric": "align_uniform"}, "and align_uniform has none; set keep to best"),
        ("contriever-small", {"sts": "x", "average": [0.5]}, "keep: last and average"),
        ("adapt", {"sts": "x", "average": []}, "distil chooses by queries: leave selection.sts out"),
        ("finetune", {"metric": "align_uniform"}, "draws two views of a text, and needs the section views"),
    ],
)
def test_settings_that_cannot_choose_are_refused(recipe, overrides, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(recipe, overrides)
    assert "\n" not in str(caught.value)
