"""The sentence recipes: the papers' values, fair comparisons, and that they train on sentences and triples."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny

from retriever.encoder import Encoder
from retriever.training.api import train
from retriever.training.outcome import read_outcome
from retriever.training.recipebook import load_recipe
from retriever.training.schedule import rate

SMALL = {"family": "small", "vocabulary": 300, "dimension": 16, "layers": 1, "heads": 2, "max_length": 32}
SHORT = {"steps": 6, "every": 3, "queries": 10, "size": 12, "epochs": None, "log_every": 1}


@pytest.mark.parametrize(
    ("name", "size", "lr", "steps", "model"),
    [
        ("simcse", 64, 3e-5, 15_625, "bert-base-uncased"),
        ("simcse-sup", 512, 5e-5, 1_615, "bert-base-uncased"),
        ("whitenedcse", 128, 1e-5, 7_813, "bert-base-uncased"),
        ("rankcse", 128, 3e-5, 7_813, "bert-base-uncased"),
    ],
)
def test_the_papers_values(name, size, lr, steps, model):
    recipe = load_recipe(name)
    assert (recipe.batch.size, recipe.optimizer.lr, recipe.schedule.steps) == (size, lr, steps)
    assert (recipe.encoder.model, recipe.encoder.pooling, recipe.encoder.max_length) == (model, "cls", None)
    assert (recipe.objective.temperature, recipe.optimizer.clip, recipe.optimizer.weight_decay) == (0.05, 1.0, 0.0)
    assert recipe.head.projection == "mlp" and recipe.selection.every == 125
    assert rate(recipe.schedule, 0) == 1.0, "no warm-up"
    if recipe.views is None:
        assert (recipe.labels.query_tokens, recipe.labels.document_tokens, recipe.labels.hard) == (30, 30, 1.0)
    else:
        assert recipe.views.window == 30 and recipe.views.mix.weights == {"same": 1.0}


def test_whitenedcse_has_three_views_and_128_groups_of_6():
    recipe = load_recipe("whitenedcse")
    assert (recipe.views.positives, recipe.objective.terms) == (2, "sum")
    assert (recipe.head.whiten, recipe.head.groups, recipe.head.shuffle) == ("group", 128, True)
    assert not recipe.head.statistics_gradient


def test_rankcse_is_simcse_with_teachers():
    plain, taught = (load_recipe(name).model_dump() for name in ("simcse", "rankcse"))
    different = {key for key in plain if plain[key] != taught[key]}
    assert different == {"description", "ranking", "batch", "schedule"}
    assert taught["ranking"]["weight"] == taught["ranking"]["consistency"] == 1.0


def test_the_two_of_a_cpu_differ_in_what_they_compare_only():
    plain, white = (load_recipe(f"{name}-cpu").model_dump() for name in ("simcse", "whitenedcse"))
    different = {key for key in plain if plain[key] != white[key]}
    assert different == {"description", "views", "objective", "head"}
    assert plain["views"] | {"positives": 2} == white["views"]
    assert plain["objective"] | {"terms": "sum"} == white["objective"]
    assert plain["head"] | {"whiten": "group", "groups": 32} == white["head"]


@pytest.mark.parametrize(
    "override", ["model=bert-large-uncased", "size=512", "groups=32", "views.repeat_limit=10", "selection.sts=x"]
)
def test_what_their_comments_suggest_can_be_said(override):
    assert load_recipe("whitenedcse", [override])


@pytest.mark.parametrize("name", ["simcse", "simcse-cpu", "whitenedcse", "whitenedcse-cpu"])
def test_they_train_on_a_file_of_sentences(name, tmp_path):
    sentences = [document.text for document in tiny.corpus()]
    (tmp_path / "sentences.txt").write_text("\n".join(sentences))
    settings = {**SHORT, "encoder": SMALL | {"pooling": "mean" if "cpu" in name else "cls"}}
    settings |= {"warmup": 0, **({"head.groups": 4} if "whitened" in name else {})}
    train(name, tmp_path / "sentences.txt", tmp_path / "model", device="cpu", processes=1, **settings)
    log = [json.loads(line) for line in (tmp_path / "model" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == 6 and np.isfinite(losses).all()
    assert all(entry["alignment"] > 1e-4 for entry in log if "loss" in entry), "dropout tells the views apart"
    assert read_outcome(tmp_path / "model" / "log.jsonl").metric == "align_uniform"
    encoder = Encoder.load(tmp_path / "model", "cpu")
    together = encoder.encode(sentences[:5], dtype="float32")
    alone = np.concatenate([encoder.encode([text], dtype="float32") for text in sentences[:5]])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_triples_of_entailment_train_the_supervised_one(tmp_path):
    lines = [{"query": f"t1w{i} t2w{i}", "positive": f"t1w{i}", "negative": f"t3w{i}"} for i in range(30)]
    (tmp_path / "nli.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = {**SHORT, "encoder": SMALL | {"pooling": "cls"}, "dev": 0.2}
    train("simcse-sup", tmp_path / "nli.jsonl", tmp_path / "model", device="cpu", processes=1, **settings)
    log = [json.loads(line) for line in (tmp_path / "model" / "log.jsonl").read_text().splitlines()]
    assert {entry["negatives"] for entry in log if "loss" in entry} == {11 + 12}, (
        "the contradictions of all triples too"
    )
    assert Encoder.load(tmp_path / "model", "cpu").dimension == 16
