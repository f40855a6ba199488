"""What a step is given: views of documents, labelled queries, and the ids that keep false negatives out."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.ragged import Ragged
from retriever.data.tokenizers import WordTokenizer
from retriever.data.tokens import tokenise
from retriever.training.examples import CorpusExamples, LabelledExamples
from retriever.training.recipe import Labels
from retriever.training.sampler import VIEWS, generator
from retriever.training.view_settings import Crop, Views

NONE = (np.empty(0, np.int32), np.empty(0, np.int32))
TEXTS = [" ".join(f"w{(7 * row + 3 * place) % 50}" for place in range(20)) for row in range(12)]


@pytest.fixture(scope="module")
def tokenizer():
    return WordTokenizer.train(TEXTS, min_documents=1)


@pytest.fixture(scope="module")
def store(tokenizer):
    return tokenise(Corpus.of([Document(str(i), "", text) for i, text in enumerate(TEXTS)]), tokenizer, processes=1)


def labelled(store, tokenizer, prompts=NONE, **settings):
    return LabelledExamples(
        tokenizer.encode(["w1 w2 w3", "w4 w5", "w6 w7 w8 w9"]),
        store,
        Ragged.from_rows([[0, 3], [5], [7, 8, 9]]),
        Ragged.from_rows([[1, 2], [], [10]]),
        Labels(**settings),
        prompts,
        "toy",
    )


def draw(examples, rows, seed=0):
    return examples.draw(np.asarray(rows), generator(VIEWS, seed))


def texts(ragged):
    return [row.tolist() for row in (ragged[i] for i in range(len(ragged)))]


def test_the_share_of_a_process_holds_all_documents_of_its_queries(store, tokenizer):
    whole = draw(labelled(store, tokenizer, explicit=2), [0, 1, 2, 0])
    parts = [whole.share(rank, 2) for rank in range(2)]
    assert [texts(part.queries) for part in parts] == [texts(whole.queries)[:2], texts(whole.queries)[2:]]
    for rank, part in enumerate(parts):
        own = [view * 4 + 2 * rank + i for view in range(3) for i in range(2)]
        assert texts(part.documents) == [texts(whole.documents)[i] for i in own]
        assert part.ids.tolist() == whole.ids[own].tolist()
        assert part.known.tolist() == whole.known[2 * rank : 2 * rank + 2].tolist()
    assert whole.share(0, 1) is whole


def test_views_know_their_document_and_their_texts(store):
    settings = Views(query=Crop(tokens=(2, 4)), document=Crop(ratio=(0.3, 0.6)))
    rows = np.array([4, 9, 2])
    batch = draw(CorpusExamples(store, settings, NONE), rows)
    assert batch.positives == 1 and len(batch.documents) == 3
    assert batch.ids[:, 0].tolist() == rows.tolist() == batch.known[:, 0].tolist()
    assert batch.known[:, 1].tolist() == batch.queries.fingerprints().tolist()
    assert batch.known[:, 2].tolist() == batch.ids[:, 1].tolist() == batch.documents.fingerprints().tolist()


def test_prompts_stand_before_the_views_and_do_not_change_their_ids(store):
    settings = Views(query=Crop(tokens=(2, 4)), document=Crop(ratio=(0.3, 0.6)))
    prompts = np.array([1, 2], np.int32), np.array([3], np.int32)
    bare, prompted = (draw(CorpusExamples(store, settings, which), np.arange(5)) for which in (NONE, prompts))
    assert texts(prompted.queries) == [[1, 2, *row] for row in texts(bare.queries)]
    assert texts(prompted.documents) == [[3, *row] for row in texts(bare.documents)]
    assert prompted.ids.tolist() == bare.ids.tolist() and prompted.known.tolist() == bare.known.tolist()


def test_a_labelled_query_gets_one_of_its_documents_and_knows_all_of_them(store, tokenizer):
    seen = set()
    for seed in range(60):
        batch = draw(labelled(store, tokenizer, explicit=0), [0, 1, 2], seed)
        keys = batch.ids[:, 0].tolist()
        assert keys[0] in (0, 3) and keys[1] == 5 and keys[2] in (7, 8, 9)
        assert texts(batch.documents) == [store[key].tolist() for key in keys]
        for known, relevant in zip(batch.known, ([0, 3], [5], [7, 8, 9]), strict=True):
            assert set(relevant) <= set(known.tolist())
        seen.add(tuple(keys))
    assert len(seen) == 6


def test_explicit_negatives_are_hard_in_their_share_and_random_else(store, tokenizer):
    def hard_share(hard):
        batches = [draw(labelled(store, tokenizer, explicit=1, hard=hard), [0, 1, 2], seed) for seed in range(400)]
        keys = np.array([batch.ids[3:, 0] for batch in batches])  # (400, 3)
        assert len(set(keys[:, 1].tolist())) == len(TEXTS)  # the second query has no hard ones
        return np.isin(keys[:, 0], (1, 2)).mean(), (keys[:, 2] == 10).mean()

    assert hard_share(1.0) == (1.0, 1.0)
    first, third = hard_share(0.5)
    assert first == pytest.approx(0.5 + 0.5 * 2 / 12, abs=0.08) and third == pytest.approx(0.5 + 0.5 / 12, abs=0.08)
    assert hard_share(0.0)[1] == pytest.approx(1 / 12, abs=0.05)


def test_long_texts_are_cut(store, tokenizer):
    batch = draw(labelled(store, tokenizer, explicit=1, query_tokens=2, document_tokens=5), [0, 1, 2])
    assert batch.queries.lengths.max() == 2 and set(batch.documents.lengths.tolist()) == {5}


def test_fingerprints_tell_rows_apart_by_tokens_and_order():
    rows = Ragged.from_rows([[1, 2], [2, 1], [1, 2], [1], [], [], [1, 2, 0]])
    found = rows.fingerprints().tolist()
    assert found[0] == found[2] and found[4] == found[5] and len(set(found)) == 5


def test_fingerprints_do_not_depend_on_the_neighbours():
    random = np.random.default_rng(0)
    rows = [random.integers(0, 50, random.integers(0, 9)) for _ in range(200)]
    alone = [int(Ragged.from_rows([row]).fingerprints()[0]) for row in rows]
    assert Ragged.from_rows(rows).fingerprints().tolist() == alone
    assert len(set(alone)) == len({tuple(row.tolist()) for row in rows})
