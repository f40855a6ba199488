"""Labels that get tokens before training: which, from where, and what training makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny

from retriever.data.tokenizers import WordTokenizer
from retriever.data.xmc_points import XmcLabels
from retriever.encoder import Encoder
from retriever.encoder.own_tokens import NONE, encode_labels
from retriever.errors import DataError, ModelError
from retriever.reporting import Reporter
from retriever.training.api import train
from retriever.training.label_settings import LabelSpace
from retriever.training.label_tokens import cluster, give_tokens
from retriever.training.prepare_points import prepare_points, texts_of
from retriever.training.recipebook import load_recipe

OWN, SHARED = LabelSpace(own="label"), LabelSpace(own="cluster", clusters=2)
LABELS = XmcLabels(["a", "b", "c", "d"], ["red wine", "red wine", "green tea", ""])


def encoder_of(texts=("red wine", "green tea", "blue sea")):
    return Encoder.static(WordTokenizer.train(list(texts) * 2, min_documents=1), dimension=16)


def tokens_of(encoder, labels=LABELS):
    return encoder.own_tokens.find(labels.ids, labels.texts)


def test_each_label_has_a_token_even_without_text():
    encoder = encoder_of()
    size = encoder.text_tokenizer.size
    give_tokens(encoder, LABELS, OWN, 0)
    assert tokens_of(encoder).tolist() == [size, size + 1, size + 2, size + 3]
    assert len(encoder.stack[0].table) == size + 4


def test_labels_with_like_texts_share_a_token():
    encoder = encoder_of()
    give_tokens(encoder, LABELS, SHARED, 0)
    red, same, tea, silent = tokens_of(encoder)
    assert red == same != tea
    assert silent == NONE
    assert len(encoder.stack[0].table) == encoder.text_tokenizer.size + 2


@pytest.mark.parametrize("settings", [OWN, SHARED])
def test_labels_keep_the_tokens_they_have(settings):
    encoder = encoder_of()
    give_tokens(encoder, LABELS, settings, 0)
    before, rows = tokens_of(encoder), len(encoder.stack[0].table)
    give_tokens(encoder, LABELS, settings, 0)
    assert np.array_equal(tokens_of(encoder), before)
    assert len(encoder.stack[0].table) == rows
    give_tokens(encoder, XmcLabels(["e"], ["blue sea"]), settings, 0)
    assert np.array_equal(tokens_of(encoder), before)
    assert encoder.own_tokens.find(["e"], ["blue sea"]) == [rows]


def test_clusters_are_those_of_direction_and_the_same_every_time():
    random = np.random.default_rng(0)
    centres = np.eye(3, 8, dtype=np.float32)
    member = random.integers(0, 3, 200)
    vectors = centres[member] * random.uniform(0.1, 10, (200, 1)) + 0.01 * random.normal(size=(200, 8))
    found = cluster(vectors.astype(np.float32), 3, seed=1)
    assert np.array_equal(found, cluster(vectors.astype(np.float32), 3, seed=1))
    assert len(set(zip(found, member, strict=True))) == len(set(found)) == 3


def test_there_are_no_more_clusters_than_labels():
    assert sorted(cluster(np.eye(3, dtype=np.float32), 10, seed=0)) == [0, 1, 2]


def prepared(labels, **changes):
    encoder = encoder_of([document.content for document in texts_of(tiny.points())])
    recipe = load_recipe("dexml-cpu", {"size": 16, **changes})
    return encoder, prepare_points(replace(tiny.points(), labels=labels), encoder, recipe, Reporter())


def test_labels_without_text_can_be_trained_on():
    named = tiny.points().labels
    silent = XmcLabels(named.ids, ["" if row % 2 else text for row, text in enumerate(named.texts)])
    _, with_texts = prepared(silent)
    assert len(with_texts.examples.usable) == len(named) // 2
    _, all_of_them = prepared(silent, **{"label_space.own": "label"})
    assert np.array_equal(all_of_them.examples.usable, np.arange(len(named)))
    assert (all_of_them.examples.labels.lengths > 0).all()


def test_without_any_text_the_way_out_is_named():
    none = XmcLabels(tiny.points().labels.ids, [""] * len(tiny.points().labels))
    with pytest.raises(DataError, match=r"label_space\.own=label"):
        prepared(none)
    encoder, found = prepared(none, **{"label_space.own": "label"})
    assert np.array_equal(found.examples.labels.ids, tokens_of(encoder, none))


def test_an_encoder_of_another_kind_is_refused():
    plain = encoder_of().plain()
    with pytest.raises(ModelError, match="StaticEmbedding"):
        give_tokens(plain, LABELS, OWN, 0)


@pytest.mark.parametrize("own", ["label", "cluster"])
def test_training_moves_them_and_saves_them(own, tmp_path):
    changes = {"label_space.own": own, "label_space.clusters": 5, "schedule.steps": 8, "selection.every": 4}
    encoder = tiny.run("labels", tmp_path / "model", overrides=changes)
    labels, first = tiny.points().labels, encoder.text_tokenizer.size
    table = encoder.stack[0].table.detach()
    assert len(table) == first + (len(labels) if own == "label" else 5)
    assert (table[first:].norm(dim=1) > 1e-3).all()
    again = Encoder.load(tmp_path / "model")
    vectors = encode_labels(again, labels.ids, labels.texts)
    assert np.allclose(vectors, encode_labels(encoder, labels.ids, labels.texts), atol=1e-6)
    assert np.abs(vectors - again.encode(labels.texts)).max() > 1e-3


def test_a_model_trained_anew_in_the_folder_has_none(tmp_path):
    changes = {"schedule.steps": 2, "schedule.warmup": 0, "selection.every": 2}
    tiny.run("labels", tmp_path / "model", overrides={**changes, "label_space.own": "label"})
    tiny.run("labels", tmp_path / "model", overrides=changes, overwrite=True)
    assert Encoder.load(tmp_path / "model").own_tokens is None


def test_they_tell_labels_apart_that_have_one_text(tmp_path):
    data = tiny.points()
    same = replace(data, labels=XmcLabels(data.labels.ids, ["one text"] * len(data.labels)))
    found = {}
    for own in (None, "label"):
        changes = {"label_space.own": own, "schedule.steps": 40, "optimizer.lr": 0.03, "selection.every": 40}
        encoder = train(
            "dexml-cpu", same, tmp_path / str(own), device="cpu", processes=1, **{"size": 16, "steps": 40, **changes}
        )
        labels = encode_labels(encoder, same.labels.ids, same.labels.texts)
        best = (encoder.encode(data.train.texts, "query") @ labels.T).argmax(1)
        found[own] = np.asarray(data.train.targets[np.arange(len(best)), best]).mean()
    assert found["label"] > 0.9
    assert found[None] < 0.3
