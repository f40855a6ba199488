"""Ranking distillation: its loss in plain loops, what the teachers read, and a student that follows its teacher."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch
from encoders import small

from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.errors import ModelError, RecipeError
from retriever.reporting import Reporter
from retriever.training import trainer as trainer_module
from retriever.training.ranking import Teachers, ask_teachers
from retriever.training.recipe import Ranking
from retriever.training.recipebook import load_recipe

SIZE = 5


def unit(rows, width, seed):
    vectors = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(vectors)


def teachers(**settings):
    """Two teachers of ten texts, the first twice as heavy."""
    found = Ranking(teachers=("a", "b"), **settings)
    rows = np.array([3, 4, 8, 9, 20, 21, 22, 23, 24, 30])
    return Teachers(rows, [unit(10, 6, 1).half(), unit(10, 3, 2).half()], [2 / 3, 1 / 3], found, 0.05)


def expected(queries, documents, teacher, settings):
    """The loss of RankCSE, text by text, over the cosines of the teacher, (B, B)."""

    def softmax(scores, temperature):
        powers = np.exp(np.array(scores) / temperature)
        return powers / powers.sum()

    total = 0.0
    for i in range(SIZE):
        rest = [j for j in range(SIZE) if j != i]
        student = [float(queries[i] @ documents[j]) for j in rest]
        swapped = [float(documents[i] @ queries[j]) for j in rest]
        known = [float(teacher[i, j]) for j in rest]
        if settings.loss == "listnet":
            targets, found = (
                softmax(known, settings.teacher_temperature),
                softmax(student, settings.student_temperature),
            )
            ranked = -(targets * np.log(found)).sum()
        else:
            order = np.argsort(-np.array(known))
            z = np.array(student)[order] / settings.student_temperature
            ranked = np.mean([np.log(np.exp(z[k:]).sum()) - z[k] for k in range(len(z))])
        p, q = softmax(student, 0.05), softmax(swapped, 0.05)
        middle = (p + q) / 2
        divergence = ((p * np.log(p / middle)).sum() + (q * np.log(q / middle)).sum()) / 2
        total += settings.weight * ranked + settings.consistency * divergence
    return total / SIZE


@pytest.mark.parametrize("loss", ["listnet", "listmle"])
@pytest.mark.parametrize("consistency", [0.0, 0.7])
def test_the_loss_equals_plain_loops(loss, consistency):
    ranker = teachers(loss=loss, weight=1.5, consistency=consistency)
    at = np.array([9, 1, 0, 4, 5])
    first, second = ranker.vectors
    cosines = sum(
        share * (vectors[at].float() @ vectors[at].float().T) for share, vectors in ((2 / 3, first), (1 / 3, second))
    )
    queries, documents = unit(SIZE, 8, 3), unit(2 * SIZE, 8, 4)
    found = ranker.loss(3 * queries, documents, ranker.rows[at])
    wanted = expected(queries, documents[:SIZE], cosines, ranker.settings)
    assert found.item() == pytest.approx(wanted, rel=1e-4)


def test_a_student_that_agrees_with_its_teacher_has_the_least_listnet_loss():
    ranker = teachers(consistency=0.0, student_temperature=0.05, teacher_temperature=0.05)
    ranker = Teachers(ranker.rows, ranker.vectors[:1], [1.0], ranker.settings, 0.05)
    own = ranker.vectors[0][:SIZE].double()
    queries = own.clone().requires_grad_()
    loss = ranker.loss(queries, own, ranker.rows[:SIZE])
    loss.backward()
    assert queries.grad.abs().max() < 1e-3
    assert ranker.loss(unit(SIZE, 6, 9), unit(SIZE, 6, 9), ranker.rows[:SIZE]) > loss


def saved_teacher(folder, seed=0):
    tokenizer = WordTokenizer.train([document.content for document in tiny.corpus()], min_documents=1)
    Encoder.static(tokenizer, dimension=12, seed=seed).save(folder)
    return folder


def test_teachers_read_the_texts_that_training_will_meet(tmp_path):
    names = [saved_teacher(tmp_path / "a"), saved_teacher(tmp_path / "b", seed=1)]
    ranking = {"teachers": [str(name) for name in names], "weights": [3, 1]}
    recipe = load_recipe("simcse-cpu", {"ranking": ranking})
    rows = np.array([2, 5, 149])
    found = ask_teachers(tiny.corpus(), rows, recipe, torch.device("cpu"), Reporter())
    documents = list(tiny.corpus())
    for name, vectors in zip(names, found.vectors, strict=True):
        wanted = Encoder.load(name).encode([documents[row].content for row in rows])
        torch.testing.assert_close(vectors.float().numpy(), wanted, atol=1e-3, rtol=0)
    assert found.shares == [0.75, 0.25]


def test_what_teachers_add_to_the_loss_is_no_sign_of_collapse(tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(Reporter, "note", lambda self, sentence: notes.append(sentence))
    monkeypatch.setattr(trainer_module, "PATIENCE", 5)
    ranking = {"teachers": [str(saved_teacher(tmp_path / "teacher"))], "weight": 5.0}
    tiny.run("small", tmp_path / "run", overrides={"queries": 0, "ranking": ranking})
    assert notes and not any("collapsed" in note for note in notes)


def test_a_missing_teacher_costs_no_model(tmp_path):
    tiny.run("static", tmp_path / "m", overrides={"queries": 0, "steps": 3})
    before = tiny.weights(tmp_path / "m")
    with pytest.raises(ModelError, match="nobody"):
        tiny.run("small", tmp_path / "m", overrides={"ranking": {"teachers": ["nobody"]}}, overwrite=True)
    assert tiny.weights(tmp_path / "m") == before


def agreement(student, teacher):
    """Correlation of student's and teacher's cosines over all pairs of the tiny corpus."""
    texts = [document.content for document in tiny.corpus()]
    pairs = np.triu_indices(len(texts), 1)
    cosines = [(vectors @ vectors.T)[pairs] for vectors in (student.encode(texts), teacher.encode(texts))]
    return np.corrcoef(*cosines)[0, 1]


def test_a_student_learns_the_order_of_its_teacher(tmp_path):
    teacher = Encoder.load(saved_teacher(tmp_path / "teacher"))
    plain = {"steps": 60, "lr": 0.01, "queries": 0, "views": {"mix": {"same": 1.0}, "window": 30}}
    ranking = {
        "teachers": [str(tmp_path / "teacher")],
        "weight": 5.0,
        "student_temperature": 0.05,
        "teacher_temperature": 0.05,
    }
    alone = tiny.run("small", tmp_path / "alone", overrides=plain)
    taught = tiny.run("small", tmp_path / "taught", overrides={**plain, "ranking": ranking})
    assert agreement(taught, teacher) > agreement(alone, teacher) + 0.1
    assert (tmp_path / "taught" / "modules.json").exists()
    log = [json.loads(line) for line in (tmp_path / "taught" / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(entry["loss"]) for entry in log if "loss" in entry)


@pytest.mark.parametrize(
    ("ranking", "sentence"),
    [
        ({"teachers": []}, "teachers"),
        ({"teachers": ["a", "b"], "weights": [1.0]}, "1 entries for 2 teachers"),
        ({"teachers": ["a"], "loss": "pairwise"}, "listnet"),
    ],
)
def test_wrong_settings_are_refused(ranking, sentence):
    with pytest.raises(RecipeError, match=sentence):
        load_recipe("simcse-cpu", {"ranking": ranking})


def test_labelled_queries_have_no_views_to_rank():
    with pytest.raises(RecipeError, match="needs the section views"):
        load_recipe("finetune", {"ranking": {"teachers": ["a"]}, "model": "b"})


def test_a_missing_teacher_is_named(tmp_path):
    recipe = load_recipe("simcse-cpu", {"ranking": {"teachers": [str(tmp_path / "nowhere")]}})
    with pytest.raises(ModelError, match="nowhere"):
        ask_teachers(tiny.corpus(), np.array([0, 1]), recipe, torch.device("cpu"), Reporter())


def test_a_teacher_may_be_pooled_otherwise(tmp_path):
    small(normalise=False).save(tmp_path / "teacher")
    settings = {"teachers": [str(tmp_path / "teacher")], "pooling": "cls"}
    recipe = load_recipe("simcse-cpu", {"ranking": settings, "dtype": "float32"})
    found = ask_teachers(tiny.corpus(), np.array([0, 1]), recipe, torch.device("cpu"), Reporter())
    cls = Encoder.pretrained(tmp_path / "teacher", pooling="cls")
    wanted = torch.nn.functional.normalize(torch.from_numpy(cls.encode([d.content for d in list(tiny.corpus())[:2]])))
    torch.testing.assert_close(found.vectors[0].float(), wanted, atol=1e-3, rtol=0)
