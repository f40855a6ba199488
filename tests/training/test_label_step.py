"""Training on points and labels: gradients, candidates, refreshed labels, several processes, and that it learns."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from scipy.sparse import csr_matrix
from test_parallel import launch
from xmc_folders import write_raw

from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer
from retriever.data.xmc import load_xmc
from retriever.data.xmc_metrics import ndcg, precision, recall
from retriever.encoder import Encoder
from retriever.errors import DataError, RecipeError
from retriever.reporting import Reporter
from retriever.training.api import train
from retriever.training.label_ranking import best_labels, label_metrics
from retriever.training.label_settings import LabelSpace
from retriever.training.label_step import LabelStep
from retriever.training.objectives import contrast
from retriever.training.points import PointExamples
from retriever.training.prepare_points import prepare_points, texts_of
from retriever.training.recipebook import load_recipe
from retriever.training.sampler import Sampler

SIZE = 16
WHOLE = {"candidates": "all", "refresh": None, "positives": "all"}


def encoder_of(family="static"):
    texts = [document.content for document in texts_of(tiny.points())]
    if family == "static":
        return Encoder.static(WordTokenizer.train(texts, min_documents=1), dimension=16)
    return Encoder.small(SubwordTokenizer.train(texts, size=300), dimension=16, layers=2, heads=2, dropout=0.1)


def step_of(encoder, **overrides):
    recipe = load_recipe("dexml-cpu", {"size": SIZE, "dtype": "float32", **overrides})
    prepared = prepare_points(tiny.points(), encoder, recipe, Reporter())
    return LabelStep(encoder, prepared.examples, Sampler(prepared.sources, recipe.batch.size, 0), recipe)


def gradients(step, number=0):
    step.encoder.stack.train()
    step.begin(number)
    loss, *_ = step.gradient(number)
    found = {}
    for name, parameter in step.encoder.stack.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
            parameter.grad = None
    return loss, found


@pytest.mark.parametrize(("loss", "link"), [("decoupled", "self"), ("softmax", "all")])
def test_the_gradient_is_that_of_a_dense_matrix_of_scores(loss, link):
    encoder = encoder_of()
    step = step_of(encoder, loss=loss)
    value, found = gradients(step)
    rows = step.sampler(0)
    examples = step.examples
    targets = torch.from_numpy(examples.targets[rows].toarray())
    weights = 1 - torch.from_numpy(examples.filtered[rows].toarray()).float()
    points, labels = (encoder(encoder.features(part)) for part in (examples.points.take(rows), examples.labels))
    dense = contrast(points @ labels.T, targets, weights, temperature=0.05, link=link).mean()
    dense.backward()
    assert value == pytest.approx(dense.item(), rel=1e-5)
    wanted = encoder.stack[0].table.grad.to_dense()
    torch.testing.assert_close(found["0.table"], wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("cache", [False, True])
def test_points_go_through_the_map_of_queries_and_labels_do_not(cache):
    encoder = encoder_of().with_query_map()
    step = step_of(encoder, gradient_cache=cache)
    value, found = gradients(step)
    examples, rows = step.examples, step.sampler(0)
    targets = torch.from_numpy(examples.targets[rows].toarray())
    weights = 1 - torch.from_numpy(examples.filtered[rows].toarray()).float()
    bare = [encoder(encoder.features(part), normalise=False) for part in (examples.points.take(rows), examples.labels)]
    weight = encoder.stack[1].sub_modules["query"][0].linear.weight
    points, labels = (torch.nn.functional.normalize(part) for part in (bare[0] @ weight.T, bare[1]))
    dense = contrast(points @ labels.T, targets, weights, temperature=0.05, link="self").mean()
    dense.backward()
    assert value == pytest.approx(dense.item(), rel=1e-5)
    name = next(name for name in found if "query" in name)
    torch.testing.assert_close(found[name], weight.grad, atol=1e-6, rtol=1e-4)
    assert found[name].abs().max() > 1e-4


def test_the_gradient_cache_gives_the_gradient_of_one_pass():
    encoder = encoder_of("small")
    once = gradients(step_of(encoder, pack_tokens=64))
    cached = gradients(step_of(encoder, pack_tokens=64, gradient_cache=True))
    assert cached[0] == pytest.approx(once[0], rel=1e-5)
    for name, value in once[1].items():
        torch.testing.assert_close(cached[1][name], value, atol=1e-5, rtol=1e-3)


def test_labels_that_are_all_encoded_anew_are_no_constants():
    encoder = encoder_of()
    whole = gradients(step_of(encoder, size=2), 0)
    constants = gradients(step_of(encoder, size=2, refresh=3, fresh=1000), 0)
    torch.testing.assert_close(constants[1]["0.table"], whole[1]["0.table"])
    fewer = gradients(step_of(encoder, size=2, refresh=3, fresh=0), 0)
    assert fewer[0] == pytest.approx(whole[0], rel=1e-5), "before the first update constants are exact"
    assert not torch.allclose(fewer[1]["0.table"], whole[1]["0.table"]), "labels of other points give no gradient"


def test_constants_are_what_a_step_encoded_until_they_are_refreshed():
    step = step_of(encoder_of(), refresh=3, fresh=0)
    gradients(step)
    with torch.no_grad():
        step.encoder.stack[0].table.add_(0.3 * torch.randn(step.encoder.stack[0].table.shape))
    before = step.kept["labels"].clone()
    gradients(step, 1)
    changed = (step.kept["labels"] != before).any(1).numpy()
    own = np.unique(step.examples.targets[step.sampler(1)].indices)
    assert np.array_equal(np.flatnonzero(changed), own)
    step.begin(3)
    now = step.encoder.embed(step.examples.labels, dtype="float32")
    np.testing.assert_allclose(step.kept["labels"].numpy(), now, atol=1e-6)


def examples_of(**settings):
    data = tiny.points()
    return PointExamples.of(data.train, data.labels, encoder_of(), LabelSpace(**settings))


def test_candidates_of_a_batch_are_its_labels_and_drawn_ones_of_its_shortlists():
    rows, random = np.array([5, 2, 9]), np.random.default_rng(0)
    examples = examples_of(candidates="batch")
    own = np.unique(examples.targets[rows].indices)
    batch = examples.draw(rows, random)
    assert np.array_equal(batch.candidates, own)
    shown = {
        (int(r), int(batch.candidates[c])) for r, c in zip(batch.positives.rows, batch.positives.labels, strict=True)
    }
    assert shown == set(zip(*map(np.ndarray.tolist, examples.targets[rows].nonzero()), strict=True))
    examples = examples_of(candidates="shortlist", refresh=1, negatives=3)
    shortlist = np.full((120, 2), -1, np.int32)
    shortlist[rows] = [[0, 1], [2, 3], [4, -1]]
    drawn = set(examples.draw(rows, random, shortlist).candidates.tolist())
    assert set(own.tolist()) <= drawn <= set(own.tolist()) | {0, 1, 2, 3, 4}


def test_one_positive_leaves_the_others_out_and_filter_pairs_always_are():
    examples = examples_of(positives="one")
    rows = np.arange(20)
    batch = examples.draw(rows, np.random.default_rng(0))
    assert batch.positives.rows.tolist().count(3) == 1 and len(batch.positives) == 20
    excluded = set(zip(batch.excluded.rows.tolist(), batch.excluded.labels.tolist(), strict=True))
    assert {(0, int(label)) for label in examples.filtered[0].indices} <= excluded
    assert len(excluded) == examples.targets[rows].nnz - 20 + examples.filtered.nnz


def test_augmented_labels_are_points_of_their_own():
    plain, more = examples_of(), examples_of(augment=True)
    assert len(more.points) == len(plain.points) + 20 and more.targets.shape == (140, 20)
    assert (more.targets[120:] != csr_matrix(np.eye(20, dtype=np.float32))).nnz == 0
    assert more.fingerprint != plain.fingerprint


def test_a_shortlist_holds_the_best_wrong_labels():
    step = step_of(encoder_of(), candidates="shortlist", refresh=2, depth=6)
    step.begin(0)
    examples, encoder = step.examples, step.encoder
    scores = encoder.embed(examples.points) @ encoder.embed(examples.labels).T
    for row, found in enumerate(step.kept["shortlist"].numpy()):
        wrong = {*examples.targets[row].indices, *examples.filtered[row].indices}
        right = [label for label in np.argsort(-scores[row], kind="stable") if label not in wrong][:6]
        assert scores[row][found] == pytest.approx(scores[row][right], abs=1e-6)
        assert not wrong & set(found.tolist())


def test_metrics_are_those_of_the_evaluation():
    random = np.random.default_rng(0)
    targets = csr_matrix((random.random((30, 120)) < 0.05).astype(np.float32))
    targets = targets[np.diff(targets.indptr) > 0]
    found = best_labels(
        random.normal(size=(targets.shape[0], 8)).astype(np.float32),
        random.normal(size=(120, 8)).astype(np.float32),
        np.arange(90),
        100,
    )
    assert (found[:, 90:] == -1).all()
    ours = label_metrics(found, targets)
    for name, value in ours.items():
        kind, _, k = name.partition("@")
        theirs = {"p": precision, "recall": recall, "ndcg": ndcg}[kind](found, targets, int(k))
        assert value == pytest.approx(theirs.mean()), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        WHOLE,
        WHOLE | {"refresh": 4, "fresh": 4},
        WHOLE | {"loss": "softmax"},
        WHOLE | {"loss": "soft_top_k", "k": 3},
        WHOLE | {"top": 0.5, "augment": True},
    ],
)
def test_every_kind_learns_what_the_labels_are(tmp_path, changes):
    tiny.run("labels", tmp_path / "run", overrides={"steps": 30, "every": 15, **changes})
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scores = [entry["evaluation"]["p@1"] for entry in log if "evaluation" in entry]
    assert scores[0] < 0.5 < max(scores) - 0.2
    assert {"accuracy", "negatives", "tokens_per_second"} <= log[1].keys()


@pytest.mark.parametrize("changes", [{}, WHOLE, WHOLE | {"refresh": 4, "fresh": 4, "top": 0.3}])
def test_two_processes_train_the_model_of_one(tmp_path, changes):
    overrides = {"dtype": "float32", "queries": 0, **changes}
    tiny.run("labels", tmp_path / "one", overrides=overrides)
    arguments = json.dumps({"overrides": overrides})
    launch([tiny.__file__, "labels", str(tmp_path / "two"), arguments], 2, ACCELERATE_USE_CPU="1")
    one, two = (load_file(next((tmp_path / name).rglob("model.safetensors"))) for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-3, rtol=1e-2)
    logs = [
        [json.loads(line) for line in (tmp_path / n / "log.jsonl").read_text().splitlines()[:-1]]
        for n in ("one", "two")
    ]
    for name in ("loss", "accuracy", "alignment"):
        first, second = ([entry[name] for entry in log if name in entry] for log in logs)
        assert second == pytest.approx(first, rel=2e-3, abs=1e-3), name


def test_a_folder_is_data_and_labels_without_text_are_told(tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(Reporter, "note", lambda self, sentence: notes.append(sentence))
    folder = write_raw(tmp_path / "data", labels=["quick fox", "lazy dog", "vectors", "", "naïve café", "running dogs"])
    train("dexml-cpu", folder, tmp_path / "model", device="cpu", steps=2, size=3, warmup=0, queries=0)
    assert any("1 labels have no text" in note for note in notes)
    assert any("have no label with a text" in note for note in notes)
    assert load_xmc(folder).report.labels_without_text == 1


def test_the_papers_values():
    recipe = load_recipe("dexml")
    assert (recipe.batch.size, recipe.optimizer.lr, recipe.optimizer.weight_decay) == (3000, 3e-4, 0.01)
    assert (recipe.encoder.model, recipe.encoder.pooling) == ("distilbert-base-uncased", "cls")
    assert recipe.schedule.warmup == recipe.schedule.steps // 10 and recipe.batch.gradient_cache
    assert (recipe.label_space.loss, recipe.label_space.positives) == ("decoupled", "one")
    assert recipe.encoder.max_length == 32


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"candidates": "shortlist"}, "needs refresh"),
        ({"candidates": "batch", "refresh": 5}, "keeps nothing to refresh"),
        ({"loss": "soft_top_k", "top": 1.0}, "leave top out"),
        ({"metric": "mrr@10"}, "measured on points, not by mrr@10"),
        ({"selection.keep": "last"}, "keeps the best step"),
        ({"negatives.queue": 512}, "leave the sections head and negatives out"),
        ({"objective.symmetric": True}, "reads the temperature alone"),
        ({"encoder": {"family": "pretrained", "model": "m"}}, "set encoder.max_length"),
        ({"encoder": {"family": "small"}, "point_tokens": None}, "set encoder.max_length"),
        ({"views": {"mix": {"same": 1.0}}}, "give either the section views"),
    ],
)
def test_wrong_settings_are_one_sentence(overrides, sentence):
    with pytest.raises(RecipeError, match=sentence):
        load_recipe("dexml-cpu", overrides)


def test_a_loss_that_does_not_fit_the_data_is_one_sentence():
    with pytest.raises(RecipeError, match=r"label_space\.k is 20, but a point has only 20 labels to choose from"):
        step_of(encoder_of(), **WHOLE, loss="soft_top_k", k=20)
    step = step_of(encoder_of(), candidates="batch", refresh=None, top=0.5, k=19, size=2)
    with pytest.raises(RecipeError, match=r"label_space\.k is 19, but a point has only \d+ labels to choose from"):
        gradients(step)
    points = tiny.points()
    points.train.targets.data[:] = 5
    recipe = load_recipe("dexml-cpu", {"label_space.loss": "bce"})
    prepared = prepare_points(points, encoder_of(), recipe, Reporter())
    with pytest.raises(RecipeError, match=r"bce takes a relevance as a target, at most 1, and the data has one of 5"):
        LabelStep(encoder_of(), prepared.examples, Sampler(prepared.sources, SIZE, 0), recipe)


def test_other_recipes_and_other_data_do_not_fit(tmp_path):
    with pytest.raises(RecipeError, match=r"p@1 is measured on points with labels"):
        load_recipe("contriever-cpu", {"metric": "p@1"})
    with pytest.raises(RecipeError, match="does not train on points and labels"):
        train("contriever-cpu", tiny.points(), tmp_path / "a")
    with pytest.raises(RecipeError, match="trains on one data set of points and labels"):
        train("dexml-cpu", tiny.corpus(), tmp_path / "b")


def test_nothing_is_held_out_on_request(tmp_path):
    model = tiny.run("labels", tmp_path / "model", overrides={"validation": 0.0, "steps": 3})
    log = [json.loads(line) for line in (tmp_path / "model" / "log.jsonl").read_text().splitlines()]
    assert model.dimension == 16 and not any("evaluation" in entry for entry in log)


def test_too_few_points_are_one_sentence(tmp_path):
    data = tiny.points(count=2)
    with pytest.raises(DataError, match="has 1 points and 20 labels with a text"):
        train("dexml-cpu", data, tmp_path / "model", device="cpu")
