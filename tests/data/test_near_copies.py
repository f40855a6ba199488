"""Groups of texts that share long sentences."""

from __future__ import annotations

import itertools

import numpy as np
import xmc_folders
from hypothesis import given
from hypothesis import strategies as st

from retriever.data.near_copies import COMMON, SENTENCE, WORDS, groups_of_copies
from retriever.data.xmc_points import split_validation

LONG = "this library reads and writes files of many formats."
OTHER = "it also draws pictures of whatever it has just read."


def test_texts_that_share_a_long_sentence_are_one_group():
    texts = [f"A tool. {LONG}", "another text", f"{LONG.upper()} More of it.", f"first line\n{LONG}\nlast line"]
    assert groups_of_copies(texts).tolist() == [0, 1, 0, 0]


def test_a_chain_of_shared_sentences_is_one_group():
    texts = ["nothing", LONG, OTHER, f"{OTHER} {LONG}"]
    assert groups_of_copies(texts).tolist() == [0, 1, 1, 1]


def test_short_sentences_and_empty_texts_link_nothing():
    short = " ".join(["word"] * (WORDS - 1))
    assert groups_of_copies([short, short, "", "", f"{short}. b"]).tolist() == [0, 1, 2, 3, 4]
    assert groups_of_copies([]).tolist() == []


def test_a_phrase_of_the_collection_links_nothing():
    few, many = [f"{LONG} {n}" for n in range(COMMON)], [f"{LONG} {n}" for n in range(COMMON + 1)]
    assert set(groups_of_copies(few).tolist()) == {0}
    assert groups_of_copies(many).tolist() == list(range(COMMON + 1))


SENTENCES = [f"sentence {n} has the number {n} and some words" for n in range(6)]
TEXTS = st.lists(st.lists(st.sampled_from([*SENTENCES, "short"]), max_size=3).map("\n".join), max_size=12)


@given(TEXTS)
def test_groups_are_the_components_of_a_plain_loop(texts):
    shared = [{part for part in SENTENCE.split(text) if len(part.split()) >= WORDS} for text in texts]
    groups = list(range(len(texts)))
    for _ in texts:
        for one, other in itertools.combinations(range(len(texts)), 2):
            if shared[one] & shared[other]:
                groups[one] = groups[other] = min(groups[one], groups[other])
    names = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    assert groups_of_copies(texts).tolist() == [names[group] for group in groups]


def with_texts(texts):
    """Points with these texts, each with the first label."""
    points = xmc_folders.dataset().train.take([0])
    return type(points)(
        [f"p{row}" for row in range(len(texts))],
        texts,
        points.targets[np.zeros(len(texts), np.int64)],
        np.empty((0, 2), np.int64),
    )


def test_near_copies_are_held_out_together_or_not_at_all():
    texts = [f"This text number {row // 3} is here three times, once as it is. {row}" for row in range(300)]
    seen = set()
    for seed in range(5):
        kept, held = split_validation(with_texts(texts), 0.1, seed)
        numbers = [{text.split()[3] for text in part.texts} for part in (kept, held)]
        assert not numbers[0] & numbers[1] and len(held) == 30
        seen |= numbers[1]
    assert len(seen) > 10  # other seeds, other groups


def test_a_group_of_more_than_a_tenth_of_what_is_held_out_is_split():
    texts = [f"{LONG} {row}" for row in range(20)] + [f"text {row}" for row in range(80)]
    sizes = []
    for seed in range(5):
        kept, held = split_validation(with_texts(texts), 0.3, seed)
        assert len(held) == 30 and len(kept) == 70
        sizes.append(sum(text.startswith(LONG) for text in held.texts))
    assert min(sizes) > 0 and max(sizes) < 20
