"""Mining against a brute-force oracle written as plain loops, and the laws that every mined file obeys."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retriever.data.beir import write_beir
from retriever.data.document import Document
from retriever.data.labelled import open_labelled
from retriever.errors import DataError, ModelError
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.mining import MiningOptions, Pool, choose, free_ranks, mine

LOOSE = {"first": 1, "last": 200, "max_ratio": None, "negatives": 200}


@pytest.fixture(scope="module")
def folder(documents, tmp_path_factory):
    """A BEIR folder of the documents of this package's fixtures and some copies; queries are pieces of them."""
    rng = random.Random(1)
    copies = [Document(f"copy-{i}", text=documents[i].content.upper().replace(" ", "  ")) for i in (0, 2, 4)]
    void = Document("void", title="", text=" ")
    queries, qrels = {}, {}
    for i in range(40):
        words = documents[i].text.split()
        queries[f"q{i}"] = " ".join(rng.sample(words, min(len(words), 4))) + f" {i}"
        qrels[f"q{i}"] = {documents[i].id: 1} | ({documents[i + 40].id: 1} if i % 3 == 0 else {})
    queries["self"], qrels["self"] = documents[7].content, {documents[8].id: 1}
    return write_beir(
        tmp_path_factory.mktemp("mining") / "woods", [*documents, *copies, void], queries, qrels, split="train"
    )


@pytest.fixture(scope="module")
def labelled(folder):
    return open_labelled(folder)


def run(encoder, labelled, folder, **options):
    """Mine into a new file; returns the lines and the report."""
    path = Path(folder) / f"{len(list(Path(folder).iterdir()))}.jsonl"
    report = mine(encoder, labelled, path, MiningOptions(**options))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()], report


def normal(text):
    return " ".join(text.lower().split())


def content(entry):
    return f"{entry['title']} {entry['text']}" if entry["title"] else entry["text"]


def oracle(encoder, labelled, options):
    """Query → candidates of the dense ranking as (rank, score, text), and the lowest score of the positives."""
    documents = list(labelled.documents)
    texts = list(dict.fromkeys(normal(document.content) for document in documents))
    first = {text: next(d for d in documents if normal(d.content) == text) for text in texts}
    vectors = [vector / (np.linalg.norm(vector) or 1) for vector in encoder.encode([first[t].content for t in texts])]
    found = {}
    for i, query in enumerate(labelled.queries):
        vector = encoder.encode([query], "query")[0]
        vector = vector / (np.linalg.norm(vector) or 1)
        scores = {text: float(vector @ other) for text, other in zip(texts, vectors, strict=True)}
        positives = {normal(documents[row].content) for row in labelled.positives[i]}
        others = [text for text in texts if text not in positives and text not in (normal(query), "")]
        ranking = sorted(others, key=lambda text: -scores[text])
        lowest = min(scores[text] for text in positives)
        kept = [(rank, scores[text], text) for rank, text in enumerate(ranking, 1)]
        found[query] = ([c for c in kept if options.first <= c[0] <= options.last], lowest)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        LOOSE,
        {"first": 3, "last": 60, "max_ratio": 0.9},
        {"first": 1, "last": 40, "max_ratio": None, "margin": 0.1, "negatives": 5},
        {"first": 1, "last": 150, "max_ratio": 0.8, "margin": 0.3, "negatives": 50},
    ],
)
def test_top_sampling_equals_brute_force(encoder, labelled, tmp_path, options):
    lines, report = run(encoder, labelled, tmp_path, **options)
    options = MiningOptions(**options)
    expected = oracle(encoder, labelled, options)
    assert [line["query"] for line in lines] == labelled.queries and len(lines) == 41
    false = 0
    for line in lines:
        candidates, lowest = expected[line["query"]]
        assert min(entry["score"] for entry in line["positives"]) == pytest.approx(lowest, abs=2e-6)
        bars = [math.inf]
        if options.max_ratio is not None:
            bars.append(options.max_ratio * lowest)
        if options.margin is not None:
            bars.append(lowest - options.margin)
        fair = [candidate for candidate in candidates if candidate[1] <= min(bars)]
        false += len(candidates) - len(fair)
        assert line["false_negatives"] == len(candidates) - len(fair)
        fair = fair[: options.negatives]
        found = [(entry["rank"], entry["score"], normal(content(entry))) for entry in line["negatives"]]
        assert [entry[0] for entry in found] == [entry[0] for entry in fair]
        np.testing.assert_allclose([entry[1] for entry in found], [entry[1] for entry in fair], atol=2e-6)
        close = [i for i in range(1, len(fair)) if fair[i - 1][1] - fair[i][1] < 1e-5]  # ties may stand either way
        if not close:
            assert [entry[2] for entry in found] == [entry[2] for entry in fair]
    assert report.false_negatives == false


option_sets = st.builds(
    MiningOptions,
    negatives=st.integers(3, 12),
    first=st.integers(1, 20),
    last=st.integers(20, 130),
    margin=st.none() | st.floats(0, 0.5),
    max_ratio=st.none() | st.floats(0.3, 1.2),
    bm25=st.integers(0, 3),
    sampling=st.sampled_from(["top", "random"]),
    seed=st.integers(0, 3),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(option_sets)
def test_laws_of_every_mined_line(encoder, labelled, tmp_path_factory, options):
    path = tmp_path_factory.mktemp("laws") / "x.jsonl"
    report = mine(encoder, labelled, path, options)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        positives = {normal(content(entry)) for entry in line["positives"]}
        negatives = [normal(content(entry)) for entry in line["negatives"]]
        assert positives and positives.isdisjoint(negatives)
        assert len(set(negatives)) == len(negatives) <= options.negatives
        assert normal(line["query"]) not in negatives and "" not in negatives
        lowest = min(entry["score"] for entry in line["positives"])
        for entry in line["negatives"]:
            assert options.first <= entry["rank"] <= options.last
            if options.margin is not None:
                assert entry["score"] <= lowest - options.margin
            if options.max_ratio is not None and lowest > 0:
                assert entry["score"] <= options.max_ratio * lowest
        sources = [entry["source"] for entry in line["negatives"]]
        assert sources == sorted(sources, reverse=True)  # dense, then bm25
        assert sources.count("bm25") <= options.bm25
        assert sources.count("dense") <= options.negatives - options.bm25
        for source in ("dense", "bm25"):
            ranks = [entry["rank"] for entry in line["negatives"] if entry["source"] == source]
            assert ranks == sorted(set(ranks))
    assert report.queries == len(lines) == 41
    assert report.negatives == sum(len(line["negatives"]) for line in lines)
    again = open_labelled(path)
    assert again.queries == labelled.queries and again.report.contradictions == 0
    assert again.negatives.lengths.tolist() == [len(line["negatives"]) for line in lines]


def test_bm25_negatives_stand_in_the_ranking_of_bm25(encoder, labelled, tmp_path):
    lines, report = run(encoder, labelled, tmp_path, negatives=5, first=2, last=30, bm25=5, max_ratio=None)
    pool = Pool.of(labelled.documents)
    texts = [pool.document(text).content for text in range(len(pool))]
    ranking = Bm25Index.build(texts).search(labelled.queries, len(texts))
    assert report.sources == {"bm25": report.negatives}
    for i, line in enumerate(lines):
        known = {normal(content(entry)) for entry in line["positives"]} | {normal(line["query"]), ""}
        others = [texts[row] for row in ranking.hits(i)[0] if normal(texts[row]) not in known]
        assert [content(entry) for entry in line["negatives"]] == others[1:6]
        assert [entry["rank"] for entry in line["negatives"]] == list(range(2, 2 + len(others[1:6])))


def test_the_two_rankings_share_out_the_negatives(encoder, labelled, tmp_path):
    lines, report = run(encoder, labelled, tmp_path, negatives=6, first=1, last=100, bm25=2, max_ratio=None)
    assert report.sources == {"dense": 4 * 41, "bm25": 2 * 41}
    dense, _ = run(encoder, labelled, tmp_path, negatives=4, first=1, last=100, max_ratio=None)
    for both, alone in zip(lines, dense, strict=True):
        assert both["negatives"][:4] == alone["negatives"]


def test_copies_are_one_text_and_never_negatives_of_themselves(encoder, labelled, tmp_path):
    lines, report = run(encoder, labelled, tmp_path, **LOOSE)
    assert (report.documents, report.duplicates) == (124, 3)
    for line in lines:
        ids = {entry["_id"] for entry in line["negatives"]}
        assert not ids & {"copy-0", "copy-2", "copy-4", "void"}
        texts = {normal(content(entry)) for entry in line["negatives"]}
        known = {normal(content(entry)) for entry in line["positives"]} | {normal(line["query"])}
        assert len(texts) == 120 - len(known & {normal(d.content) for d in labelled.documents})
    own = next(line for line in lines if line["query_id"] == "self")
    assert "doc-7" not in {entry["_id"] for entry in own["negatives"]}


def test_ranks_of_positives_count_what_is_above_them_and_not_known(encoder, labelled, tmp_path):
    lines, report = run(encoder, labelled, tmp_path, first=1, last=20, max_ratio=None, negatives=20)
    ranks = [entry["rank"] for line in lines for entry in line["positives"]]
    for line in lines:
        for entry in line["positives"]:
            above = sum(negative["score"] > entry["score"] for negative in line["negatives"])
            assert entry["rank"] == (above + 1 if above < 20 else None)
    assert None in ranks and 1 in ranks
    assert report.found == sum(rank is not None for rank in ranks) / len(ranks)
    finite = sorted(math.inf if rank is None else rank for rank in ranks)
    assert report.spreads["positive rank"].p50 == finite[math.ceil(len(ranks) / 2) - 1]
    assert report.spreads["positive rank"].p95 is None and report.spreads["positive rank"].mean is None


def test_the_report_counts_what_the_lines_hold(encoder, labelled, tmp_path):
    lines, report = run(encoder, labelled, tmp_path, first=1, last=120, max_ratio=0.6, negatives=4)
    scores = [entry["score"] for line in lines for entry in line["negatives"]]
    assert report.with_negatives == sum(bool(line["negatives"]) for line in lines)
    assert report.spreads["negative score"].mean == pytest.approx(np.mean(scores))
    assert report.spreads["negative score"].p5 == sorted(scores)[math.ceil(0.05 * len(scores)) - 1]
    found = json.loads(json.dumps(report.to_json()))
    assert found["negatives_per_query"] == len(scores) / 41
    assert found["spreads"]["negative rank"]["p50"] >= 1


def test_random_sampling_depends_on_the_seed_and_the_query_alone(encoder, labelled, tmp_path):
    options = {"first": 1, "last": 100, "max_ratio": None, "negatives": 6, "sampling": "random"}
    lines, _ = run(encoder, labelled, tmp_path, **options)
    assert lines == run(encoder, labelled, tmp_path, **options)[0]
    other, _ = run(encoder, labelled, tmp_path, **options, seed=1)
    assert sum(a["negatives"] != b["negatives"] for a, b in zip(lines, other, strict=True)) > 35
    half, _ = run(encoder, labelled.take(np.arange(40, 20, -1)), tmp_path, **options)
    ids = {line["query_id"]: [entry["_id"] for entry in line["negatives"]] for line in lines}
    assert all(ids[line["query_id"]] == [entry["_id"] for entry in line["negatives"]] for line in half)
    ranks = [entry["rank"] for line in lines for entry in line["negatives"]]
    assert 40 < np.mean(ranks) < 61  # uniform over 1 … 100, 246 draws: three standard errors are 5.5


def test_prompts_join_queries_and_documents(encoder, labelled, tmp_path):
    plain, _ = run(encoder, labelled, tmp_path, **LOOSE)
    before = encoder.prompts
    encoder.prompts = {"query": "heron ", "document": "amber "}
    try:
        prompted, _ = run(encoder, labelled, tmp_path, **LOOSE)
        query = encoder.encode([labelled.queries[0]], "query")[0]
        document = encoder.encode([content(prompted[0]["positives"][0])], "document")[0]
    finally:
        encoder.prompts = before
    assert prompted[0]["positives"][0]["score"] == pytest.approx(float(query @ document), abs=2e-6)
    assert prompted[0]["positives"][0]["score"] != plain[0]["positives"][0]["score"]


def test_dot_products_are_not_normalised(labelled, tmp_path):
    from retriever.data.tokenizers import WordTokenizer
    from retriever.encoder import Encoder

    tokenizer = WordTokenizer.train(document.content for document in labelled.documents)
    encoder = Encoder.static(tokenizer, dimension=32, normalise=False)
    lines, _ = run(encoder, labelled, tmp_path, **LOOSE)
    entry = lines[0]["negatives"][0]
    expected = encoder.encode([labelled.queries[0]], "query")[0] @ encoder.encode([content(entry)])[0]
    assert entry["score"] == pytest.approx(float(expected), abs=1e-5) and encoder.similarity == "dot"


def test_the_bar():
    assert MiningOptions().bar(0.8) == 0.95 * 0.8
    assert MiningOptions(max_ratio=None).bar(0.8) == math.inf
    assert MiningOptions(max_ratio=None, margin=0.05).bar(0.8) == 0.8 - 0.05
    assert MiningOptions(margin=0.05, max_ratio=0.9).bar(0.4) == 0.4 - 0.05
    assert MiningOptions(margin=0.05, max_ratio=0.9).bar(0.8) == 0.9 * 0.8
    assert MiningOptions(max_ratio=0.9).bar(-2.0) == pytest.approx(-2.2)  # below the positive, not above
    assert MiningOptions(max_ratio=0.9).bar(0.0) == 0.0


@given(st.lists(st.integers(0, 30), unique=True), st.sets(st.integers(0, 30)))
def test_free_ranks_against_a_loop(ranking, known):
    ranks = free_ranks(ranking, known)
    assert list(ranks) == ranking
    for place, text in enumerate(ranking):
        assert ranks[text] == 1 + len([above for above in ranking[:place] if above not in known])


@given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 99))
def test_choices_keep_the_order(size, count, seed):
    texts = list(range(100, 100 + size))
    assert choose(texts, count, "top", np.random.default_rng(seed)) == texts[:count]
    drawn = choose(texts, count, "random", np.random.default_rng(seed))
    assert drawn == sorted(set(drawn)) and len(drawn) == min(count, size) and set(drawn) <= set(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "negatives is 0"),
        ({"first": 0}, "0:100"),
        ({"first": 5, "last": 4}, "5:4"),
        ({"bm25": 8}, "between 0 and the 7 negatives"),
        ({"bm25": -1}, "bm25 is -1"),
        ({"margin": -0.1}, "margin is -0.1"),
        ({"margin": math.nan}, "margin is nan"),
        ({"max_ratio": 0.0}, "max_ratio is 0.0"),
        ({"sampling": "best"}, "top or random"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(DataError, match=message):
        MiningOptions(**options)


def test_a_pool_too_small_for_the_ranks(encoder, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"query": "q", "positive": "amber"}\n{"query": "r", "positive": "birch"}\n')
    with pytest.raises(DataError, match="a pool of 2 texts, too few for ranks from 10"):
        mine(encoder, open_labelled(tmp_path / "x.jsonl"), tmp_path / "y.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_larger_corpus_gives_more_to_mine_from(encoder, folder, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"query": "amber heron", "positive": "a heron of amber"}\n')
    labelled = open_labelled(tmp_path / "x.jsonl", corpus=folder)
    lines, _ = run(encoder, labelled, tmp_path, first=1, last=50, max_ratio=None)
    assert len(lines[0]["negatives"]) == 7
    assert all(entry["_id"].startswith("doc-") for entry in lines[0]["negatives"])


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_broken_model_leaves_nothing(encoder, labelled, tmp_path, monkeypatch, poison):
    encode = type(encoder).encode

    def broken(self, texts, *arguments, **options):
        vectors = encode(self, texts, *arguments, **options)
        vectors[0, 0] = poison
        return vectors

    monkeypatch.setattr(type(encoder), "encode", broken)
    with np.errstate(invalid="ignore"), pytest.raises(DataError, match="NaN or infinity"):
        mine(encoder, labelled, tmp_path / "x.jsonl")
    assert not list(tmp_path.iterdir())


def test_an_unknown_precision_leaves_nothing(encoder, labelled, tmp_path):
    with pytest.raises(ModelError, match="float16"):
        mine(encoder, labelled, tmp_path / "x.jsonl", dtype="float16")
    assert not list(tmp_path.iterdir())
