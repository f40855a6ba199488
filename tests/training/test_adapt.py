"""The recipe ``adapt`` from corpus to model folder: what is kept, what is refused, and the same bytes every time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny
from encoders import damage, small, static
from shared_data import needs_shared

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import DataError, RecipeError
from retriever.reporting import Reporter
from retriever.training import adapt as module
from retriever.training.api import preview, train
from retriever.training.averaging import admitted_share
from retriever.training.recipebook import load_recipe

QUICK = {"steps": 12, "size": 16, "candidates": 10, "lr": 0.01, "log_every": 4}


class Notes(Reporter):
    def __init__(self):
        self.said = []

    def note(self, sentence):
        self.said.append(sentence)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The folder of a small transformer over the words of the tiny corpus."""
    return save(small, tmp_path_factory.mktemp("start") / "small")


def save(build, folder, **settings):
    damage(build(**settings)).save(folder)
    return folder


def run(start, output, corpus=None, **options):
    return train("adapt", corpus or tiny.corpus(), output, device="cpu", model=str(start), **{**QUICK, **options})


def entries(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def always(share):
    """A choice of shares that does not look at the tests."""
    return lambda tests: share


def test_a_whole_run(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "admitted_share", always(0.5))
    notes = Notes()
    adapted = run(start, tmp_path / "m", reporter=notes)
    assert {"modules.json", "recipe.yaml", "log.jsonl", "curve.png"} <= {p.name for p in (tmp_path / "m").iterdir()}
    assert load_recipe(tmp_path / "m" / "recipe.yaml").schedule.steps == 12
    texts = ["t1w1 t1w2", "t3w9 t4w4"]
    saved, before = Encoder.load(tmp_path / "m"), Encoder.load(start)
    np.testing.assert_allclose(saved.encode(texts), adapted.encode(texts), atol=1e-6)
    assert np.abs(adapted.encode(texts) - before.encode(texts)).max() > 1e-4
    own = before.stack[0].state_dict()
    assert all(own[name].equal(value) for name, value in adapted.stack[0].state_dict().items()), "it is frozen"
    log = entries(tmp_path / "m")
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 4, 8, 12]
    assert [entry["share"] for entry in log if "share" in entry] == [0, 0.25, 0.5, 0.75, 1]
    assert [entry["step"] for entry in log if "evaluation" in entry] == [0, 12]
    assert any(said.startswith("135 documents, 115 pseudo-queries to train on; 20 and 15 known") for said in notes.said)
    assert any(said.startswith("Share of the training kept: 0.5; ndcg@10 ") for said in notes.said)


def test_where_nothing_is_proven_the_encoder_stays_as_it_was(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "admitted_share", always(0.0))
    adapted = run(start, tmp_path / "m")
    assert adapted.fingerprint == Encoder.load(start).fingerprint == Encoder.load(tmp_path / "m").fingerprint


def test_the_choice_sees_agreement_and_known_items(start, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "admitted_share", lambda tests: seen.extend(tests) or admitted_share(tests))
    run(start, tmp_path / "m")
    agreement, places = seen
    assert set(agreement) == set(places) == {0, 0.25, 0.5, 0.75, 1}
    assert agreement[0].shape == (20,) and places[0].shape == (15,)
    assert all((values <= 0).all() for values in (*agreement.values(), *places.values()))
    log = {entry["share"]: entry for entry in entries(tmp_path / "m") if "share" in entry}
    for share, values in agreement.items():
        assert log[share]["agreement"] == pytest.approx(values.mean())
        assert log[share]["recall@10"] == pytest.approx((places[share] >= -np.log(10)).mean())


def unnamed(count=150):
    """Documents without titles or sentences."""
    return Corpus.of([Document(d.id, "", d.text.replace(".", "")) for d in tiny.corpus(count)], name="unnamed")


def test_without_names_words_are_cut_out_and_at_most_half_is_kept(start, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "admitted_share", lambda tests: seen.append(tests) or max(tests[0]))
    notes = Notes()
    run(start, tmp_path / "m", unnamed(), words=[3, 5], reporter=notes)
    assert set(seen[0][1]) == {0, 0.25, 0.5}
    assert any(said.startswith("Share of the training kept: 0.5; ndcg@10") for said in notes.said)


def test_without_known_items_agreement_alone_decides(start, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "admitted_share", lambda tests: seen.append(tests) or 0.25)
    notes = Notes()
    run(start, tmp_path / "m", queries=0, reporter=notes)
    assert len(seen[0]) == 1 and set(seen[0][0]) == {0, 0.25, 0.5}
    assert "Share of the training kept: 0.25." in notes.said
    assert any("22 and no known items to choose by" in said for said in notes.said)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("build", [small, static])
def test_every_family_and_similarity_can_be_adapted(build, normalise, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "admitted_share", always(1.0))
    start = save(build, tmp_path / "start", normalise=normalise)
    before = Encoder.load(start)
    words = ["quick brown dog", "encoder vectors", "similar documents"]
    texts = [f"{words[n % 3]} {words[n % 2]} lazy fox {n}. Running {words[n % 3]} far close" for n in range(90)]
    corpus = Corpus.of([Document(str(n), "", text) for n, text in enumerate(texts)])
    adapted = run(start, tmp_path / "m", corpus)
    assert adapted.similarity == before.similarity == ("cosine" if normalise else "dot")
    assert np.abs(adapted.encode(texts[:9]) - before.encode(texts[:9])).max() > 1e-4


def test_same_seed_same_bytes_and_another_seed_others(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "admitted_share", always(0.5))
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        run(start, tmp_path / name, seed=seed)
    one, same, other = (tiny.weights(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    layer = next(name for name in one if "Dense" in name and name.endswith("safetensors"))
    assert one[layer] != other[layer]


def test_killed_and_resumed_the_model_has_the_same_bytes(start, tmp_path):
    run(start, tmp_path / "whole", average=[0, 1])
    code = (
        f"import os, signal, tiny\nfrom retriever.training import adapt, api\n"
        f"adapt._choose = lambda *given: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"api.train('adapt', tiny.corpus(), {str(tmp_path / 'killed')!r}, device='cpu', average=[0, 1], "
        f"model={str(start)!r}, **{QUICK!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not (tmp_path / "killed" / "modules.json").exists()
    run(start, tmp_path / "killed", average=[0, 1], resume=True)
    assert tiny.weights(tmp_path / "killed") == tiny.weights(tmp_path / "whole")
    assert entries(tmp_path / "killed")[:-1] == entries(tmp_path / "whole")[:-1]  # the last line tells seconds


def test_a_corpus_that_is_too_small_is_refused(start, tmp_path):
    with pytest.raises(DataError, match="tiny yields 9 pseudo-queries over 9 documents; adaptation needs at least 20"):
        run(start, tmp_path / "m", tiny.corpus(10))


def test_a_joined_encoder_is_refused(tmp_path):
    Encoder.joined([small(), static()], [0.5, 0.5]).save(tmp_path / "joined")
    with pytest.raises(RecipeError, match="A joined encoder cannot be adapted; adapt its transformer"):
        run(tmp_path / "joined", tmp_path / "m")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"words": [6, 5]}, r"distil: the range of words \[6, 5\] is empty"),
        ({"lexical": -1}, r"distil\.lexical"),
        ({"candidates": 1}, r"distil\.candidates"),
        ({"encoder": {"family": "static"}}, "distil adapts a pretrained encoder, not one of the family static"),
        ({"labels": {}}, "give either the section views"),
        ({"average": [2]}, r"selection\.average\.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(overrides, sentence):
    with pytest.raises(RecipeError, match=sentence):
        load_recipe("adapt", {"model": "any", **overrides} if "encoder" not in overrides else overrides)


def test_there_are_no_pairs_to_look_at(start):
    with pytest.raises(RecipeError, match="has no section views"):
        preview(load_recipe("adapt", {"model": str(start)}), [tiny.corpus()], 3, Reporter())


@needs_shared
@pytest.mark.slow
def test_minilm_is_better_on_cisi_and_not_worse_on_cranfield(tmp_path):
    from encoders import MINILM
    from shared_data import SHARED

    from retriever.data.beir import load_beir
    from retriever.eval.beir import evaluate_beir

    for name, gain in (("cisi", 0.02), ("cranfield", 0.0)):
        dataset = load_beir(SHARED / "beir" / name, "test")
        adapted = train("adapt", dataset.corpus, tmp_path / name, model=str(MINILM))
        before, after = (
            evaluate_beir(encoder, dataset, modes=["dense"]).metrics["dense"]
            for encoder in (Encoder.load(MINILM), adapted)
        )
        assert after["ndcg@10"] >= before["ndcg@10"] and after["recall@100"] >= before["recall@100"] + gain
