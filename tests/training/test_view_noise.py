"""Noise: each kind changes its share, keeps the order, and never empties a row."""

from __future__ import annotations

import numpy as np
import pytest
from encoders import static, subwords
from hypothesis import given
from hypothesis import strategies as st
from stores import rows_of, same

from retriever.data.ragged import Ragged
from retriever.errors import RecipeError
from retriever.training.view_noise import delete, disturb, hide, mask_token, repeat, repeat_few, replace
from retriever.training.view_settings import Views

CROPS = {"query": {"tokens": (4, 16)}, "document": {"ratio": (0.05, 0.5)}}
MASK = 999_999


def views_of(**settings):
    return Views.model_validate({**CROPS, **settings})


lengths_of_rows = st.lists(st.integers(1, 30), min_size=1, max_size=10)


@given(lengths_of_rows, st.floats(0, 0.99), st.integers(0, 99))
def test_deletion_keeps_order_and_never_empties_a_row(lengths, share, seed):
    texts = rows_of(lengths)
    kept = delete(texts, share, np.random.default_rng(seed))
    for row in range(len(lengths)):
        assert len(kept[row]) >= 1
        assert (np.diff(kept[row]) > 0).all() and np.isin(kept[row], texts[row]).all()


def test_deletion_drops_its_share_and_none_at_zero():
    texts = rows_of([500] * 100)
    assert delete(texts, 0.0, np.random.default_rng(0)) is texts
    assert len(delete(texts, 0.1, np.random.default_rng(0)).ids) / 50_000 == pytest.approx(0.9, abs=0.01)


@given(lengths_of_rows, st.floats(0, 0.99), st.integers(0, 99))
def test_repetition_only_says_tokens_once_more(lengths, most, seed):
    texts = rows_of(lengths)
    longer = repeat(texts, most, np.random.default_rng(seed))
    for row in range(len(lengths)):
        tokens, times = np.unique(longer[row], return_counts=True)
        assert tokens.tolist() == texts[row].tolist() and times.max() <= 2
        assert (np.diff(longer[row]) >= 0).all()


def test_repetition_varies_from_row_to_row():
    texts = rows_of([500] * 400)
    assert repeat(texts, 0.0, np.random.default_rng(0)) is texts
    shares = repeat(texts, 0.3, np.random.default_rng(0)).lengths / 500 - 1
    assert shares.mean() == pytest.approx(0.15, abs=0.01) and shares.max() <= 0.3 + 0.07
    assert np.quantile(shares, [0.25, 0.75]) == pytest.approx([0.075, 0.225], abs=0.025)


def test_replacement_takes_tokens_of_the_batch_by_their_frequency():
    texts = Ragged.from_rows([[1] * 300 + [2] * 100] * 100)
    assert replace(texts, 0.0, np.random.default_rng(0)) is texts
    changed = replace(texts, 0.4, np.random.default_rng(0))
    assert changed.lengths.tolist() == texts.lengths.tolist() and set(changed.ids.tolist()) == {1, 2}
    assert (changed.ids == 2).mean() == pytest.approx(0.25, abs=0.01)
    assert (changed.ids != texts.ids).mean() == pytest.approx(0.4 * 2 * 0.75 * 0.25, abs=0.01)
    assert texts.ids[0] == 1 and set(texts[0][:300].tolist()) == {1}, "the views' own tokens are left alone"


def test_masking_hides_its_share_where_it_stands():
    texts = rows_of([500] * 100)
    hidden = hide(texts, 0.2, np.random.default_rng(0), MASK)
    masked = hidden.ids == MASK
    assert masked.mean() == pytest.approx(0.2, abs=0.01) and hidden.ids.dtype == np.int32
    np.testing.assert_array_equal(hidden.ids[~masked], texts.ids[~masked])


@given(lengths_of_rows, st.integers(0, 99))
def test_all_noise_together_leaves_no_row_empty_and_adds_no_foreign_token(lengths, seed):
    texts = rows_of(lengths)
    views = views_of(repeat=0.9, delete=0.9, replace=0.5, mask=0.5)
    noisy = disturb(texts, views, np.random.default_rng(seed), MASK)
    assert len(noisy) == len(texts) and (noisy.lengths >= 1).all() and (noisy.lengths <= 2 * texts.lengths).all()
    assert np.isin(noisy.ids, [*texts.ids, MASK]).all()
    assert same(noisy, disturb(texts, views, np.random.default_rng(seed), MASK))


def test_no_noise_is_the_identity_and_draws_nothing():
    texts, random = rows_of([5, 6]), np.random.default_rng(0)
    assert disturb(texts, views_of(), random, None) is texts
    assert random.integers(2**60) == np.random.default_rng(0).integers(2**60)


def test_masks_need_a_mask_token():
    tokenizer = subwords()
    assert mask_token(tokenizer, views_of(mask=0.1)) == tokenizer.tokenizer.token_to_id("[MASK]")
    assert mask_token(tokenizer, views_of()) is None
    words = static().text_tokenizer
    assert mask_token(words, views_of(delete=0.1)) is None
    with pytest.raises(RecipeError, match=r"views\.mask is 0\.1, but the encoder's tokenizer has no mask token; use "):
        mask_token(words, views_of(mask=0.1))
    with pytest.raises(ValueError, match="mask_token"):
        disturb(rows_of([3]), views_of(mask=0.1), np.random.default_rng(0), None)


@given(lengths_of_rows, st.floats(0, 0.99), st.integers(1, 12), st.integers(0, 99))
def test_few_repetitions_stay_below_their_limit_and_only_say_tokens_once_more(lengths, most, limit, seed):
    texts = rows_of(lengths)
    longer = repeat_few(texts, most, limit, np.random.default_rng(seed))
    for row, length in enumerate(lengths):
        tokens, times = np.unique(longer[row], return_counts=True)
        assert tokens.tolist() == texts[row].tolist() and times.max() <= 2 and (np.diff(longer[row]) >= 0).all()
        assert len(longer[row]) - length <= max(min(limit, int(most * length)) - 1, 0)


def test_few_repetitions_are_uniform_in_number_and_place():
    texts = rows_of([25] * 8000)
    longer = repeat_few(texts, 0.32, 10, np.random.default_rng(0))
    extra = longer.lengths - 25
    assert np.bincount(extra) / 8000 == pytest.approx([1 / 8] * 8, abs=0.015)  # below min(10, int(0.32 · 25))
    places = np.bincount((np.concatenate([longer[row] - 1000 * row for row in range(8000)])), minlength=25)
    assert places / 8000 == pytest.approx(1 + 3.5 / 25, abs=0.02)


def test_a_limit_of_repetitions_is_a_setting():
    texts = rows_of([25] * 50)
    noisy = disturb(texts, views_of(repeat=0.32, repeat_limit=10), np.random.default_rng(0), None)
    assert same(noisy, repeat_few(texts, 0.32, 10, np.random.default_rng(0)))
    assert repeat_few(rows_of([3, 2]), 0.32, 10, np.random.default_rng(0)).lengths.tolist() == [3, 2]
