"""Settings of the views: what is allowed, and the sentences for what is not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from retriever.errors import RecipeError
from retriever.training.recipebook import load_recipe, to_yaml
from retriever.training.view_settings import Crop, Mix, Views


def views_of(**settings):
    return Views.model_validate({"query": {"tokens": (4, 16)}, "document": {"ratio": (0.05, 0.5)}, **settings})


def test_crops_alone_without_noise_by_default():
    views = views_of()
    assert views.mix.weights == {"crop": 1.0} and views.positives == 1
    assert views.repeat == views.delete == views.replace == views.mask == 0
    assert (views.cloze_keep, views.span_keep) == (0.1, 0.5)


def test_weights_are_shares_of_the_kinds_given():
    assert Mix.model_validate({"crop": 5, "title": 3, "span": 2, "cloze": 0}).weights == {
        "crop": 0.5,
        "title": 0.3,
        "span": 0.2,
    }
    assert views_of(mix={"title": 7}).mix.weights == {"title": 1.0}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("views.mix={titel: 1}", "there is no key views.mix.titel (did you mean views.mix.title?); choose from crop, "),
        (
            "views.mix={crop: 0}",
            "views.mix: all weights are 0; give one of crop, cloze, title, heading, sentence, span",
        ),
        ("mix.span=-0.1", "views.mix.span: Input should be greater than or equal to 0 (given: -0.1)."),
        ("mix.span=.inf", "views.mix.span: Input should be a finite number"),
        ("mix.span=.nan", "views.mix.span: Input should be "),
        ("views.mix=title", "views.mix: "),
        ("delete=1", "views.delete: Input should be less than 1 (given: 1)."),
        ("replace=-0.1", "views.replace: Input should be greater than or equal to 0 (given: -0.1)."),
        ("views.mask=1.5", "views.mask: Input should be less than 1 (given: 1.5)."),
        ("repeat=1", "views.repeat: Input should be less than 1 (given: 1)."),
        ("cloze_keep=1.1", "views.cloze_keep: Input should be less than or equal to 1 (given: 1.1)."),
        ("noise=all", "views.noise: Input should be 'both', 'query' or 'document' (given: 'all')."),
        ("positives=0", "views.positives: Input should be greater than or equal to 1 (given: 0)."),
        ("ngram=1", "views.ngram: Input should be greater than or equal to 2 (given: 1)."),
        ("window=1", "views.window: Input should be greater than or equal to 2 (given: 1)."),
    ],
)
def test_mistakes_are_sentences(settings, sentence):
    with pytest.raises(RecipeError) as caught:
        load_recipe("contriever-cpu", [settings])
    message = str(caught.value)
    assert sentence in message and message.startswith("Recipe contriever-cpu: ") and message.endswith(".")


@pytest.mark.parametrize(
    ("crop", "sentence"),
    [
        ({}, "give either tokens"),
        ({"tokens": (1, 2), "ratio": (0.1, 0.2)}, "give either tokens"),
        ({"tokens": (5, 4)}, "empty"),
        ({"ratio": (0.5, 0.1)}, "empty"),
        ({"tokens": (0, 4)}, "greater than or equal to 1"),
        ({"ratio": (0.1, 1.1)}, "less than or equal to 1"),
        ({"tokens": (1, 2), "lead": 2}, "less than or equal to 1"),
    ],
)
def test_crops_have_one_range(crop, sentence):
    with pytest.raises(ValidationError, match=sentence):
        Crop.model_validate(crop)


def test_a_resolved_recipe_reads_back(tmp_path):
    changes = [
        "mix={crop: 0.5, title: 0.2, sentence: 0.2, span: 0.1}",
        "positives=2",
        "views.mask=0.1",
        "noise=document",
    ]
    recipe = load_recipe("contriever-cpu", changes)
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert recipe.views.mix.weights == pytest.approx({"crop": 0.5, "title": 0.2, "sentence": 0.2, "span": 0.1})
    assert load_recipe(path, ["mix.title=0"]).views.mix.title == 0
