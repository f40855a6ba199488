"""The fingerprint: the same model has the same one, any change that can move a vector changes it."""

from __future__ import annotations

import pytest
import torch
from encoders import MINILM, POOLINGS, TEXTS, small, static, subwords

from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder

FAMILIES = {
    "static": static,
    "static sub-words": lambda: Encoder.static(subwords(), dimension=8),
    "plain": lambda: static().plain(),
    **{pooling: lambda pooling=pooling: small(pooling=pooling) for pooling in POOLINGS},
}


def with_prompts(encoder, prompts):
    encoder.prompts = prompts
    return encoder


@pytest.mark.parametrize("family", FAMILIES)
def test_it_survives_saving_and_encoding(family, tmp_path):
    encoder = with_prompts(FAMILIES[family](), {"query": "find: "})
    before = encoder.fingerprint
    encoder.encode(TEXTS)
    assert encoder.fingerprint == before
    encoder.save(tmp_path / "one")
    once = Encoder.load(tmp_path / "one")
    assert once.fingerprint == before
    once.encode(TEXTS)
    once.save(tmp_path / "two")
    assert Encoder.load(tmp_path / "two").fingerprint == before


@pytest.mark.parametrize("family", FAMILIES)
def test_any_weight_changes_it(family):
    encoder = FAMILIES[family]()
    seen = {encoder.fingerprint}
    parameters = [p for p in encoder.stack.parameters() if p.requires_grad]
    for parameter in parameters:
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
        seen.add(encoder.fingerprint)
    assert len(seen) == len(parameters) + 1


def test_token_weights_change_it():
    encoder = static()
    before = encoder.fingerprint
    encoder.stack[0].weights[3] += 1
    assert encoder.fingerprint != before


def test_every_setting_gives_its_own():
    settings = [
        small(),
        small(pooling="cls"),
        small(pooling="first-last-average"),
        small(pooling="last-4-average"),
        small(normalise=False),
        small(heads=4),
        small(max_length=24),
        with_prompts(small(), {"query": "find: "}),
        with_prompts(small(), {"document": "find: "}),
    ]
    assert len({encoder.fingerprint for encoder in settings}) == len(settings)


def test_every_static_setting_gives_its_own():
    german = WordTokenizer.train(TEXTS, min_documents=1, stemmer="german")
    settings = [
        static(),
        static(frequency="count"),
        static(idf_power=1.0),
        static(normalise=False),
        Encoder.static(german, dimension=24),
        Encoder.static(WordTokenizer.train(TEXTS[:3], min_documents=1), dimension=24),
        static().plain(),
    ]
    assert len({encoder.fingerprint for encoder in settings}) == len(settings)


def test_a_swapped_pair_of_words_changes_it(tmp_path):
    encoder = static()
    encoder.save(tmp_path / "model")
    path = tmp_path / "model" / "words.json"
    path.write_text(path.read_text().replace('"dog"', '"cat"'))
    assert Encoder.load(tmp_path / "model").fingerprint != encoder.fingerprint


def test_an_empty_prompt_is_no_prompt():
    assert with_prompts(static(), {"query": "", "document": ""}).fingerprint == static().fingerprint


def test_a_renamed_folder_keeps_it(tmp_path):
    encoder = Encoder.load(MINILM)
    encoder.save(tmp_path / "a" / "copy")
    (tmp_path / "a").rename(tmp_path / "b")
    assert Encoder.load(tmp_path / "b" / "copy").fingerprint == encoder.fingerprint
