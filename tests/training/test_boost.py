"""Boost: the weight that is chosen, what is held out, what lies in the folder, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch
from encoders import MINILM
from shared_data import SHARED, needs_shared

from retriever.data.beir import load_beir
from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer
from retriever.data.tokens import tokenise
from retriever.encoder import Encoder
from retriever.encoder.joined import join
from retriever.errors import DataError, ModelError, OutputError, RecipeError, RetrieverError
from retriever.eval.beir import evaluate_beir
from retriever.reporting import Reporter
from retriever.training import boost as module
from retriever.training.api import train
from retriever.training.boost import (
    WEIGHTS,
    Questions,
    best_weight,
    boost,
    known_item_questions,
    ranks_by_weight,
    resolve_recipe,
)
from retriever.training.recipebook import load_recipe
from retriever.training.selection import hold_out
from retriever.training.trainer import TrainingInterrupted

FAST = {"steps": 6, "every": 3, "size": 16, "dimension": 16, "queries": 12, "pool": 50, "log_every": 2}
OPTIONS = {"device": "cpu", "processes": 1}


class Notes(Reporter):
    """Remembers the sentences."""

    def __init__(self):
        self.sentences = []

    def note(self, sentence):
        self.sentences.append(sentence)


@pytest.fixture(scope="module")
def corpus():
    return tiny.corpus()


@pytest.fixture(scope="module")
def pretrained(corpus):
    """A small transformer that has seen nothing."""
    tokenizer = SubwordTokenizer.train((d.content for d in corpus), size=120)
    return Encoder.small(tokenizer, dimension=16, layers=1, heads=2, max_length=32)


@pytest.fixture(scope="module")
def boosted(corpus, pretrained, tmp_path_factory):
    """A run with everything chosen by itself, its folder and what it said."""
    folder, notes = tmp_path_factory.mktemp("boost") / "boosted", Notes()
    return boost(pretrained, corpus, folder, reporter=notes, **OPTIONS, **FAST), folder, notes.sentences


# --- the weight ---------------------------------------------------------------------------------------------------


def found(queries=1000, **hits):
    """Ranks by weight, ``w3=[…]`` being the queries whose document weight 0.3 puts in the first ten."""
    return {int(weight[1:]) / 10: np.where(np.isin(np.arange(queries), hit), 10, 11) for weight, hit in hits.items()}


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        (found(w2=range(500), w4=range(700), w8=range(600)), 0.4),  # far better than the others
        (found(w1=range(700), w4=range(700), w9=range(700)), 0.4),  # all alike
        (found(w4=range(700), w6=range(700)), 0.6),  # as near: the larger
        (found(w4=range(700), w6=range(699)), 0.4),  # as near: the better
        (found(w0=range(701), w5=range(700)), 0.5),  # one more query proves nothing
        (found(w0=range(710), w5=range(700)), 0.0),  # ten more and none less do
        (found(w0=range(710), w5=range(200, 900)), 0.5),  # ten more of 400 that differ do not
        (found(w0=range(10), w10=range(300)), 1.0),
        (found(**{f"w{step}": range(500) for step in range(11)}), 0.5),
        (found(queries=1, w0=[0], w5=[]), 0.5),
    ],
)
def test_of_the_weights_as_good_as_the_best_the_middle_one_wins(ranks, expected):
    assert best_weight(ranks) == expected


def words(*texts):
    return WordTokenizer.train(texts, min_documents=1)


def one_hot(tokenizer):
    """A static encoder whose cosine counts the shared words."""
    encoder = Encoder.static(tokenizer, dimension=tokenizer.size, idf_power=0.0)
    with torch.no_grad():
        encoder.stack[0].table.copy_(torch.eye(tokenizer.size))
    return encoder


def test_ranks_are_those_of_the_joined_encoder():
    documents = [f"{a} {b}" for a in "abcdefgh" for b in "stuvwxyz"]
    questions = Questions([document[0] for document in documents[:20]], documents)
    tokenizer = words(*documents)
    parts = (Encoder.static(tokenizer, dimension=8, seed=1), Encoder.static(tokenizer, dimension=4, seed=2))
    by_weight = ranks_by_weight(parts, questions, weights=[0.0, 0.3, 1.0], dtype="float32")
    assert list(by_weight) == [0.0, 0.3, 1.0]
    for weight, places in by_weight.items():
        joined = Encoder.joined(parts, [weight, 1 - weight])
        queries, candidates = joined.encode(questions.queries, "query"), joined.encode(documents)
        own = (queries * candidates[:20]).sum(1)
        expected = [int((candidates @ query > score - 1e-6).sum()) for query, score in zip(queries, own, strict=True)]
        assert places.tolist() == expected


def test_the_part_that_knows_the_words_gets_the_weight():
    documents = [f"{a}{b} {c}{a}" for a in "abcdefgh" for b in "stuvwxyz" for c in "klm"]
    questions = Questions([document.split()[0] for document in documents[::9]], documents[::9] + documents)
    tokenizer = words(*documents)
    knowing, ignorant = one_hot(tokenizer), Encoder.static(tokenizer, dimension=2, seed=3)
    assert best_weight(ranks_by_weight((knowing, ignorant), questions)) >= 0.5
    assert best_weight(ranks_by_weight((ignorant, knowing), questions)) <= 0.5


def test_each_text_is_encoded_once_by_each_part(monkeypatch):
    calls = []
    original = Encoder.encode

    def counted(self, texts, kind="document", **options):
        calls.append((self.dimension, kind, len(texts)))
        return original(self, texts, kind, **options)

    monkeypatch.setattr(Encoder, "encode", counted)
    tokenizer = words("a b", "c d")
    parts = tuple(Encoder.static(tokenizer, dimension=dimension) for dimension in (3, 4))
    ranks_by_weight(parts, Questions(["a"], ["b", "c"]))
    assert sorted(calls) == [(3, "document", 2), (3, "query", 1), (4, "document", 2), (4, "query", 1)]


def test_prompts_of_the_parts_are_applied():
    tokenizer = words("a b", "c d", "e f")
    part = one_hot(tokenizer)
    questions = Questions(["a"], ["c", "a", "e", *["b"] * 20])
    assert ranks_by_weight((part, one_hot(tokenizer)), questions)[0.5].tolist() == [23]
    part.prompts = {"query": "c "}
    assert ranks_by_weight((part, one_hot(tokenizer)), questions, weights=[1.0])[1.0].tolist() == [2]


# --- what is held out ---------------------------------------------------------------------------------------------


def test_the_questions_are_the_ones_that_training_holds_out(corpus):
    settings = load_recipe("contriever-cpu", FAST | {"seed": 3})
    tokenizer = WordTokenizer.train(d.content for d in corpus)
    encoder = Encoder.static(tokenizer, dimension=4)
    held = hold_out(corpus, tokenise(corpus, tokenizer, processes=1), encoder, settings.selection, settings.seed)
    questions = known_item_questions(corpus, settings)
    assert len(questions.queries) == 12
    for ours, theirs in ((questions.queries, held.queries), (questions.documents, held.documents)):
        tokens = tokenizer.encode(ours)
        assert [row.tolist() for row in map(tokens.__getitem__, range(len(tokens)))] == [
            theirs[row].tolist() for row in range(len(theirs))
        ]


def test_the_static_encoder_does_not_train_on_the_questions(corpus, boosted, monkeypatch):
    settings = load_recipe("contriever-cpu", FAST)
    questions = known_item_questions(corpus, settings)
    assert boosted[0].queries == len(questions.queries) == 12
    texts = [document.text for document in corpus]
    for query, document in zip(questions.queries, questions.documents, strict=False):
        assert any(text.startswith(query) and text.endswith(document) for text in texts)
        assert document not in questions.documents[12:]


# --- a whole run --------------------------------------------------------------------------------------------------


def test_the_folder_is_a_model(boosted, pretrained, corpus):
    result, folder, notes = boosted
    loaded = Encoder.load(folder)
    assert loaded.fingerprint == result.encoder.fingerprint
    assert loaded.dimension == 16 + 16
    assert loaded.parts[0].fingerprint == pretrained.fingerprint
    texts = [document.text for document in corpus][:5]
    vectors = [part.encode(texts, dtype="float32") for part in loaded.parts]
    shares = [result.weight, 1 - result.weight]
    expected = join([torch.from_numpy(part) for part in vectors], shares).numpy()
    np.testing.assert_allclose(loaded.encode(texts, dtype="float32"), expected, atol=1e-6)
    assert any(sentence.startswith("Step ") for sentence in notes)


def test_the_ranks_by_weight_are_told_and_the_best_is_taken(boosted):
    result, folder, _ = boosted
    assert list(result.scores) == WEIGHTS
    most = max(scores["recall@10"] for scores in result.scores.values())
    assert result.scores[result.weight]["recall@10"] >= most - 12**0.5 / 12  # one standard error, at the most
    record = json.loads((folder / "boost.json").read_text())
    assert record == {
        "model": "an encoder in memory",
        "static": None,
        "weight": result.weight,
        "queries": 12,
        "scores": {str(weight): scores for weight, scores in result.scores.items()},
    }


def test_the_protocol_of_the_static_part_lies_beside_it(boosted):
    part = boosted[1] / "part_1"
    assert load_recipe(part / "recipe.yaml").schedule.steps == FAST["steps"]
    assert (part / "log.jsonl").read_text().count("\n") > 2
    assert (part / "curve.png").exists()
    assert not any(path.name.startswith("checkpoint") for path in boosted[1].rglob("*"))


def test_the_same_seed_gives_the_same_bytes(boosted, pretrained, corpus, tmp_path):
    boost(pretrained, corpus, tmp_path / "again", **OPTIONS, **FAST)
    names = [path.relative_to(boosted[1]) for path in boosted[1].rglob("*") if path.is_file()]
    assert len(names) > 12
    for name in names:
        if name.name not in ("log.jsonl", "curve.png"):  # which tell the speed
            assert (tmp_path / "again" / name).read_bytes() == (boosted[1] / name).read_bytes(), name


def test_a_given_weight_needs_no_questions(pretrained, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ranks_by_weight", lambda *_, **__: pytest.fail("scored"))
    result = boost(pretrained, corpus, tmp_path / "boosted", weight=0.25, **OPTIONS, **FAST)
    assert (result.weight, result.scores, result.queries) == (0.25, {}, 0)
    assert json.loads((tmp_path / "boosted" / "config.json").read_text()) == {"weights": [0.25, 0.75]}


def test_a_finished_static_model_and_its_recipe_are_used(boosted, pretrained, corpus, tmp_path):
    notes = Notes()
    static = train("contriever-cpu", corpus, tmp_path / "static", **OPTIONS, **FAST)
    result = boost(pretrained, corpus, tmp_path / "boosted", static=tmp_path / "static", reporter=notes, **OPTIONS)
    assert result.encoder.parts[1].fingerprint == static.fingerprint
    assert result.scores == boosted[0].scores  # the held-out documents of its own recipe, not of the default one
    assert notes.sentences == []
    record = json.loads((tmp_path / "boosted" / "boost.json").read_text())
    assert record["static"] == str(tmp_path / "static")
    assert (tmp_path / "boosted" / "part_1" / "recipe.yaml").exists()


def test_a_static_part_is_taken_over_from_the_folder_that_is_replaced(boosted, pretrained, corpus, tmp_path):
    folder = tmp_path / "boosted"
    first = boost(pretrained, corpus, folder, weight=0.9, **OPTIONS, **FAST)
    again = boost(pretrained, corpus, folder, static=folder / "part_1", overwrite=True, **OPTIONS)
    assert again.encoder.parts[1].fingerprint == first.encoder.parts[1].fingerprint
    assert again.scores == boosted[0].scores
    assert (folder / "part_1" / "recipe.yaml").exists() and (folder / "part_1" / "log.jsonl").exists()


def test_a_static_model_of_unknown_origin_is_remarked(pretrained, corpus, tmp_path):
    notes = Notes()
    stranger = Encoder.static(WordTokenizer.train(d.content for d in corpus), dimension=8, normalise=False)
    boost(pretrained, corpus, tmp_path / "boosted", static=stranger, reporter=notes, queries=5, pool=20, **OPTIONS)
    assert notes.sentences == [
        "The static model may have seen the held-out documents: the weight may lean towards it.",
        "The static encoder compares by dot product; joined, it is normalised and so by cosine.",
    ]


@pytest.mark.parametrize("reason", ["no questions wanted", "no document is long enough"])
def test_without_known_items_the_weight_is_a_half(reason, pretrained, corpus, tmp_path):
    notes = Notes()
    short = Corpus.of([Document(d.id, "", " ".join(d.text.split()[-8:])) for d in corpus], name="short")
    data, changes = (corpus, {"queries": 0}) if reason == "no questions wanted" else (short, {})
    result = boost(pretrained, data, tmp_path / "boosted", reporter=notes, **OPTIONS, **(FAST | changes))
    assert (result.weight, result.scores) == (0.5, {})
    assert "There are no known items to choose a weight on: it is 0.5." in notes.sentences


def test_the_recipe_of_a_static_folder_comes_before_the_one_named(boosted):
    static = boosted[1] / "part_1"
    assert resolve_recipe("contriever-cpu", static).schedule.steps == FAST["steps"]
    assert resolve_recipe("contriever-cpu", Encoder.load(static), {"seed": 5}).seed == 5
    assert resolve_recipe("contriever-cpu", None).schedule.steps > FAST["steps"]
    assert resolve_recipe("contriever-cpu", "some/hub-name", ["seed=7"]).seed == 7


# --- what is refused ----------------------------------------------------------------------------------------------


def sentence(call, error):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, RetrieverError)
    assert "\n" not in message and message.endswith(".") and ". " not in message
    return message


@pytest.mark.parametrize("weight", [-0.1, 1.01, float("nan")])
def test_a_weight_out_of_range(weight, pretrained, corpus, tmp_path):
    message = sentence(lambda: boost(pretrained, corpus, tmp_path / "boosted", weight=weight), ModelError)
    assert message.startswith(f"The weight is {weight:g}; give the pretrained encoder's share")
    assert not list(tmp_path.iterdir())


def test_a_missing_model_is_found_out_before_training(corpus, tmp_path):
    output = tmp_path / "boosted"
    assert "no model folder ./nowhere" in sentence(lambda: boost("./nowhere", corpus, output), ModelError)
    assert not list(tmp_path.iterdir())


def test_a_missing_static_model_or_corpus(pretrained, corpus, tmp_path):
    output = tmp_path / "boosted"
    assert "no model folder ./no" in sentence(lambda: boost(pretrained, corpus, output, static="./no"), ModelError)
    sentence(lambda: boost(pretrained, tmp_path / "nothing.jsonl", output), DataError)
    assert not output.exists()


def test_an_unknown_recipe_or_key(pretrained, corpus, tmp_path):
    output = tmp_path / "boosted"
    assert "no recipe 'nonesuch'" in sentence(lambda: boost(pretrained, corpus, output, recipe="nonesuch"), RecipeError)
    assert "no key stepz" in sentence(lambda: boost(pretrained, corpus, output, stepz=3), RecipeError)


def test_settings_beside_a_resolved_recipe_are_refused(pretrained, corpus, tmp_path):
    with pytest.raises(RecipeError, match="A resolved recipe takes no settings, and steps would be lost"):
        boost(pretrained, corpus, tmp_path / "m", recipe=load_recipe("contriever-cpu"), steps=3)


def test_a_model_that_is_there_is_kept_without_overwrite(boosted, pretrained, corpus):
    before = Encoder.load(boosted[1]).fingerprint
    message = sentence(lambda: boost(pretrained, corpus, boosted[1], **OPTIONS, **FAST), OutputError)
    assert message == f"{boosted[1]} exists already; choose another folder or pass --overwrite."
    assert Encoder.load(boosted[1]).fingerprint == before


def test_a_folder_of_something_else_is_never_replaced(pretrained, corpus, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    for place in (tmp_path / "photos", tmp_path / "photos" / "cat.jpg"):
        message = sentence(lambda place=place: boost(pretrained, corpus, place, overwrite=True), OutputError)
        assert message == f"{place} holds something else than a model; choose another folder."
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"


def test_ctrl_c_writes_nothing(pretrained, corpus, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise TrainingInterrupted(tmp_path / "passing", 7)

    monkeypatch.setattr(module, "train", stopped)
    with pytest.raises(KeyboardInterrupt, match="Stopped after step 7; nothing was written"):
        boost(pretrained, corpus, tmp_path / "boosted", **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_a_boosted_model_cannot_be_trained_further(boosted, corpus, tmp_path):
    recipe = tmp_path / "more.yaml"
    recipe.write_text(
        "encoder: {family: pretrained, model: X}\nviews: {query: {tokens: [4, 16]}, document: {ratio: [0.1, 0.5]}}\n"
        "objective: {}\nbatch: {size: 16}\noptimizer: {lr: 0.001}\nschedule: {steps: 3}\nselection: {}\n"
    )
    message = sentence(
        lambda: train(recipe, corpus, tmp_path / "more", model=str(boosted[1]), **OPTIONS),
        ModelError,
    )
    assert "a tokenizer for each of its parts" in message and "cannot be trained; train a part" in message


def test_a_boosted_model_can_be_boosted_again(boosted, corpus, tmp_path):
    result = boost(boosted[1], corpus, tmp_path / "twice", static=boosted[1] / "part_1", **OPTIONS)
    assert result.encoder.dimension == 16 + 16 + 16
    assert Encoder.load(tmp_path / "twice").fingerprint == result.encoder.fingerprint


@pytest.mark.slow
@needs_shared
def test_cranfield_boosted_is_no_worse_than_its_parts(tmp_path):
    dataset = load_beir(SHARED / "beir" / "cranfield", "test")
    minilm = Encoder.load(MINILM)
    result = boost(minilm, dataset.corpus, tmp_path / "boosted", steps=300)
    assert 0.2 <= result.weight <= 0.9
    scores = [
        evaluate_beir(encoder, dataset, modes=["dense"]).metrics["dense"]
        for encoder in (result.encoder, minilm, result.encoder.parts[1])
    ]
    for metric in ("ndcg@10", "recall@100"):
        joined, *alone = [values[metric] for values in scores]
        assert joined >= max(alone) - 0.005, metric
