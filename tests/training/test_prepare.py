"""From data to examples: several corpora, fields that tell sources apart, labelled queries."""

from __future__ import annotations

import pytest
import tiny

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.labelled import open_labelled
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.errors import DataError, RecipeError
from retriever.reporting import Reporter
from retriever.training.prepare import join, prepare, prepare_labelled, source_shares
from retriever.training.recipe import Mixing
from retriever.training.recipebook import load_recipe


class Notes(Reporter):
    def __init__(self):
        self.sentences = []

    def note(self, sentence):
        self.sentences.append(sentence)


def documents(count, language, start=0):
    return [
        Document(f"{i}", "", f"{language} text number {i} about things and others", {"lang": language})
        for i in range(start, start + count)
    ]


def corpora():
    return [Corpus.of(documents(40, "de"), name="german"), Corpus.of(documents(10, "fr"), name="french")]


def encoder(corpus):
    return Encoder.static(WordTokenizer.train((d.content for d in corpus), min_documents=1), dimension=8)


def prepared(given, notes=None, **settings):
    recipe = load_recipe("contriever-cpu", {"queries": 0, **settings})
    return prepare(given, encoder(join(given)), recipe, 1, notes or Reporter())


def test_several_corpora_are_sources_of_one():
    notes = Notes()
    found = prepared(corpora(), notes, exponent=0)
    assert [len(source) for source in found.sources] == [40, 10] and found.shares == [0.5, 0.5]
    assert "Sources: german 50.0 %, french 50.0 %." in notes.sentences
    assert [d.id for d in join(corpora())][38:42] == ["german/38", "german/39", "french/0", "french/1"]


def test_a_field_tells_the_sources_of_one_corpus_apart():
    mixed = Corpus.of([*documents(3, "fr"), *documents(6, "de", 3), *documents(2, "fr", 9)], name="mixed")
    found = prepared([mixed], by="lang")
    assert [source.tolist() for source in found.sources] == [[3, 4, 5, 6, 7, 8], [0, 1, 2, 9, 10]]
    assert found.shares == pytest.approx([6 / 11, 5 / 11])


def test_a_missing_field_lists_those_that_are_there():
    with pytest.raises(DataError, match=r"Document 0 of german has no field 'language'.*its fields are lang\."):
        prepared(corpora()[:1], by="language")


def test_two_corpora_of_one_name_are_refused():
    with pytest.raises(DataError, match="Two of the corpora are called 'german'"):
        prepared([corpora()[0], corpora()[0]])


def test_each_source_must_have_documents_to_train_on():
    poor = Corpus.of([Document("x", "", "one text here"), Document("y", "", "")], name="poor")
    with pytest.raises(DataError, match="The corpus poor has 1 document of at least 2 tokens"):
        prepared([corpora()[0], poor])


def test_shares_follow_weight_and_size():
    mixing = Mixing(exponent=0.5, weights={"b": 3.0})
    assert source_shares(["a", "b"], [400, 100], mixing) == pytest.approx([20 / 50, 30 / 50])
    assert source_shares(["a", "b"], [400, 100], Mixing()) == pytest.approx([0.8, 0.2])
    assert source_shares(["a"], [400], Mixing()) is None
    with pytest.raises(RecipeError, match=r"mixing\.weights names 'b', but the sources are a, c\."):
        source_shares(["a", "c"], [1, 1], mixing)


def test_a_run_over_two_corpora_learns_from_both(tmp_path):
    given = corpora()
    trained = tiny.train(
        "contriever-cpu", given, tmp_path / "run", device="cpu", processes=1, queries=0, size=16, steps=3, lr=0.05
    )
    untrained = Encoder.static(trained.text_tokenizer, dimension=512, seed=0)
    moved = (trained.stack[0].table != untrained.stack[0].table).any(1)
    assert all(moved[int(trained.text_tokenizer.encode([word]).ids[0])] for word in ("de", "fr"))


def write_pairs(path, count=30):
    lines = [
        f'{{"query": "question {i} of all", "positive": "answer {i} to the question", "negative": "no {i}"}}'
        for i in range(count)
    ]
    path.write_text("\n".join(lines))
    return path


def labelled(tmp_path, **settings):
    recipe = load_recipe("finetune", {"dev": 0.2, **settings})
    data = open_labelled(write_pairs(tmp_path / "pairs.jsonl"))
    return prepare_labelled(data, encoder(data.documents), recipe, 1, Reporter()), data


def test_labelled_queries_are_split_and_their_documents_compete(tmp_path):
    found, data = labelled(tmp_path)
    train, dev = data.split_dev(0.2, 0)
    assert len(found.sources[0]) == len(train) and len(found.held_out.queries) == len(dev) > 0
    assert len(found.held_out.documents) == 60
    assert found.examples.positives.ids.tolist() == train.positives.ids.tolist()


def test_few_shot_takes_that_many_queries(tmp_path):
    found, _ = labelled(tmp_path, limit=5)
    assert len(found.sources[0]) == 5 and len(found.examples.queries) == 5


def test_without_dev_the_last_step_is_kept(tmp_path):
    found, _ = labelled(tmp_path, dev=0)
    assert found.held_out is None and len(found.sources[0]) == 30


def test_one_labelled_query_is_refused(tmp_path):
    with pytest.raises(DataError, match="has 1 queries to train on"):
        labelled(tmp_path, limit=1)


def test_random_documents_are_announced_where_no_negatives_are_given(tmp_path):
    path = tmp_path / "bare.jsonl"
    path.write_text("\n".join(f'{{"query": "q{i} word", "positive": "p{i} word text"}}' for i in range(20)))
    data, notes = open_labelled(path), Notes()
    prepare_labelled(data, encoder(data.documents), load_recipe("finetune", {"dev": 0}), 1, notes)
    assert notes.sentences == [
        "The data holds no hard negatives: random documents take their place; see `retriever mine`."
    ]
