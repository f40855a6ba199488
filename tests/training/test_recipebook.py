"""Recipes: the shipped ones are valid, overrides land where they should, mistakes become one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from retriever.errors import RecipeError
from retriever.training.recipebook import load_recipe, names, source, to_yaml


@pytest.mark.parametrize("name", names())
def test_shipped_recipes_are_valid_described_and_say_what_they_cost(name):
    assert load_recipe(name).description
    text = source(name).read_text()
    assert "Cost:" in text and "arXiv" in text and f"retriever train {name}" in text


def test_contriever_cpu_holds_what_was_measured():
    recipe = load_recipe("contriever-cpu")
    assert recipe.encoder.family == "static" and recipe.encoder.frequency == "log"
    assert recipe.views.query.tokens == (4, 16) and recipe.views.document.ratio == (0.05, 0.5)
    assert (recipe.batch.size, recipe.optimizer.lr, recipe.objective.symmetric) == (1024, 0.003, True)
    assert recipe.views.mix.title and recipe.schedule.epochs == 40 and recipe.selection.keep == "last"


def test_settings_that_do_not_fit_each_other_are_a_sentence():
    with pytest.raises(
        RecipeError, match=r"^Recipe contriever-cpu: negatives\.queue 16 is smaller than batch\.size 64"
    ):
        load_recipe("contriever-cpu", ["queue=16", "size=64", "negatives.momentum=0.9"])


def test_a_resolved_recipe_reads_back_equal(tmp_path):
    recipe = load_recipe("contriever-small", ["steps=7", "warmup=2", "prompts.query=query: "])
    (tmp_path / "r.yaml").write_text(to_yaml(recipe))
    assert load_recipe(tmp_path / "r.yaml") == recipe


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optimizer.lr=1e-3", "optimizer.lr", 0.001),
        ("lr=1e-3", "optimizer.lr", 0.001),
        ("steps=20", "schedule.steps", 20),
        ("size=16", "batch.size", 16),
        ("encoder.dimension=64", "encoder.dimension", 64),
        ("views.query={tokens: [2, 3]}", "views.query.tokens", (2, 3)),
        ("patience=3", "selection.patience", 3),
        ("views.window=null", "views.window", None),
        ("seed=5", "seed", 5),
        ("prompts.query=query: ", "prompts.query", "query: "),
        ("prompts.document=a passage ", "prompts.document", "a passage "),
        ("prompts.document='12'", "prompts.document", "12"),
    ],
)
def test_overrides_name_a_key_by_path_or_last_part(override, path, value):
    found = load_recipe("contriever-cpu", [override])
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_overrides_may_be_a_mapping():
    assert load_recipe("contriever-cpu", {"optimizer.lr": 0.5}).optimizer.lr == 0.5


def test_places_may_be_paths():
    places = {"encoder.model": Path("start"), "ranking.teachers": [Path("a/b"), "owner/name"], "sts": Path("sts")}
    recipe = load_recipe("rankcse", places)
    assert recipe == load_recipe("rankcse", ["encoder.model=start", "ranking.teachers=[a/b, owner/name]", "sts=sts"])
    assert recipe.encoder.model == "start"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1", r"no key optimiser\.lr \(did you mean optimizer\.lr\?\)"),
        ("temprature=1", r"no key temprature \(did you mean objective\.temperature\?\)"),
        (
            "tokens=[1, 2]",
            r"The key tokens is in several places; choose views\.query\.tokens or views\.document\.tokens",
        ),
        ("heads=3", "no key heads"),
        ("lr", "not of the form key=value"),
        ("lr=[", "The value of lr is no YAML"),
        ("lr=-1", r"Recipe contriever-cpu: optimizer\.lr: .*greater than 0 \(given: -1\)"),
        ("epochs=.inf", r"schedule\.epochs: Input should be a finite number"),
        ("temperature=.inf", r"objective\.temperature: Input should be a finite number"),
        ("false_negatives=.nan", r"objective\.false_negatives: Input should be a finite number"),
        ("betas=[0.9, 1.0]", r"optimizer\.betas\.1: Input should be less than 1"),
        ("seed=9223372036854775808", "seed: Input should be less than 9223372036854775808"),
        ("encoder.frequency=loud", r"encoder\.frequency: Input should be 'log' or 'count' \(given: 'loud'\)"),
        ("warmup=2000", "warmup 2000 must be shorter than steps 2000; lower warmup"),
        ("views.query={tokens: [5, 2]}", r"the range \[5, 2\] is empty"),
        ("views.query.ratio=[0.1, 0.2]", "give either tokens"),
        ("batch=7", r"Recipe contriever-cpu: batch"),
    ],
)
def test_mistakes_are_one_sentence(override, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe("contriever-cpu", [override])
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(RecipeError, match=r"no recipe 'contriver-cpu' \(did you mean contriever-cpu\?\)"):
        load_recipe("contriver-cpu")
    with pytest.raises(RecipeError, match=r"There is no recipe file missing\.yaml"):
        load_recipe("missing.yaml")


def test_unknown_keys_in_a_file_are_refused(tmp_path):
    values = yaml.safe_load(source("contriever-cpu").read_text())
    values["optimizer"]["learning_rate"] = 1
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(RecipeError, match=r"there is no key optimizer\.learning_rate.*choose from lr, betas"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "cannot be read"), ("- 1", "no mapping of keys"), ("{}", "Field required")]
)
def test_mangled_files_are_refused(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "r.yaml")


def test_heads_must_divide_the_dimension():
    with pytest.raises(RecipeError, match="dimension 250 is not divisible by heads 4; choose a multiple, such as 252"):
        load_recipe("contriever-small", ["dimension=250"])
