"""From corpus to model folder: what is written, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from retriever.data.beir import BeirDataset
from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import DataError, ModelError, OutputError, RecipeError
from retriever.reporting import Reporter
from retriever.training.api import train
from retriever.training.recipebook import load_recipe


class Notes(Reporter):
    def __init__(self):
        self.said = []

    def note(self, sentence):
        self.said.append(sentence)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "model"
    notes = Notes()
    encoder = tiny.run("static", folder, reporter=notes)
    return folder, encoder, notes.said


def test_the_folder_holds_the_model_the_recipe_the_log_and_the_curve(model):
    folder, encoder, _ = model
    assert {"modules.json", "recipe.yaml", "log.jsonl", "curve.png"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.glob(".*")) and not list(folder.glob("checkpoint*"))
    assert load_recipe(folder / "recipe.yaml").schedule.steps == 14
    texts = ["t1w1 t1w2", "t3w9"]
    np.testing.assert_allclose(Encoder.load(folder).encode(texts), encoder.encode(texts), atol=1e-6)


def test_the_random_numbers_of_the_caller_stay_theirs(tmp_path):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    tiny.run("static", tmp_path / "m", overrides={"steps": 2})
    assert torch.equal(torch.get_rng_state(), state)


def test_it_says_what_it_is_about_to_do(model):
    _, _, said = model
    assert any("15 negatives per query" in sentence and "16 dimensions" in sentence for sentence in said)
    assert any(sentence.startswith("Step ") and " is kept: " in sentence for sentence in said)


def test_fewer_steps_than_asked_for_are_said(tmp_path):
    notes = Notes()
    tiny.run("static", tmp_path / "m", reporter=notes, overrides={"epochs": 0.5})
    assert any(sentence.startswith("5 steps (schedule.epochs 0.5), 138 examples") for sentence in notes.said)
    assert '"step": 5' in (tmp_path / "m" / "log.jsonl").read_text().splitlines()[-2]


def test_accumulation_says_that_it_adds_no_negatives(tmp_path):
    notes = Notes()
    tiny.run("static", tmp_path / "m", reporter=notes, overrides={"accumulate": 3, "steps": 2})
    assert any("3 batches a step average the gradient and add no negatives" in sentence for sentence in notes.said)


def test_a_batch_larger_than_the_corpus_is_cut_and_said(tmp_path):
    notes = Notes()
    tiny.run("static", tmp_path / "m", reporter=notes, overrides={"size": 1024, "steps": 2})
    assert any("a batch has 138 pairs, not 1,024" in sentence for sentence in notes.said)


def test_a_taken_folder_is_refused_unless_overwritten(model, tmp_path):
    folder, _, _ = model
    with pytest.raises(OutputError, match="already holds a model; choose another folder, or pass --overwrite"):
        tiny.run("static", folder)
    tiny.run("static", tmp_path / "m", overrides={"steps": 2})
    tiny.run("static", tmp_path / "m", overrides={"steps": 3}, overwrite=True)
    assert load_recipe(tmp_path / "m" / "recipe.yaml").schedule.steps == 3


def test_overwriting_leaves_nothing_of_a_model_with_more_modules(tmp_path):
    tiny.run("small", tmp_path / "m", overrides={"steps": 3, "queries": 0})
    before = {path.name for path in (tmp_path / "m").iterdir() if path.is_dir()}
    tiny.run("static", tmp_path / "m", overrides={"steps": 1, "queries": 0}, overwrite=True)
    after = {path.name for path in (tmp_path / "m").iterdir() if path.is_dir()}
    assert "1_Pooling" in before and "1_Pooling" not in after
    assert np.isfinite(Encoder.load(tmp_path / "m").encode(["t1w1"])).all()


def test_overwriting_removes_no_folder_outside_the_model(tmp_path):
    (tmp_path / "thesis").mkdir()
    tiny.run("static", tmp_path / "m", overrides={"steps": 1, "queries": 0})
    mark = tmp_path / "m" / "modules.json"
    mark.write_text(mark.read_text().replace('"path": "1_Normalize"', '"path": "../thesis"'))
    tiny.run("static", tmp_path / "m", overrides={"steps": 1, "queries": 0}, overwrite=True)
    assert (tmp_path / "thesis").is_dir()


@pytest.mark.parametrize("damaged", ["garbage", '{"a": 1}', "[1]", "[{}]"])
def test_overwriting_a_damaged_model_is_a_sentence(tmp_path, damaged):
    (tmp_path / "modules.json").write_text(damaged)
    with pytest.raises(OutputError, match=r"modules\.json is damaged: remove .*, or choose another folder"):
        tiny.run("static", tmp_path, overrides={"steps": 1, "queries": 0}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["modules.json"]


def test_a_queue_without_momentum_is_warned_of(tmp_path):
    notes = Notes()
    settings = {"steps": 1, "queries": 0, "batch.size": 4, "negatives.queue": 8}
    tiny.run("static", tmp_path / "m", reporter=notes, overrides=settings)
    assert any("often collapses; give negatives.momentum" in sentence for sentence in notes.said)


def test_an_unfinished_run_is_refused_unless_resumed(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "recipe.yaml").write_text("{}")
    with pytest.raises(OutputError, match="already holds an unfinished run; pass --resume"):
        tiny.run("static", tmp_path / "m")


def test_a_run_is_resumed_or_replaced_not_both(tmp_path):
    with pytest.raises(OutputError, match="--resume goes on with what is there and --overwrite replaces it: pass one"):
        tiny.run("static", tmp_path / "m", resume=True, overwrite=True)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("how", ["overwrite", "resume"])
def test_two_runs_never_train_in_one_folder(tmp_path, monkeypatch, how):
    """A second run begins while the first is at its second update."""
    from retriever.training.trainer import Trainer

    update, options = Trainer.update, {"overrides": {"steps": 3}}

    def refusing(self, reporter):
        if self.state.step == 1:
            with pytest.raises(OutputError, match=r"Another process is training in .*: wait until it is done"):
                tiny.run("static", tmp_path / "m", **options, **{how: True})
        return update(self, reporter)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", refusing)
        encoder = tiny.run("static", tmp_path / "m", **options)
    assert Encoder.load(tmp_path / "m").fingerprint == encoder.fingerprint
    tiny.run("static", tmp_path / "m", **options, overwrite=True)


def test_a_model_finished_by_a_faster_run_is_not_overwritten(tmp_path, monkeypatch):
    from retriever.training import api

    build, faster = api.build_encoder, []

    def slow(*arguments):
        if not faster:
            faster.append(True)
            tiny.run("static", tmp_path / "m", overrides={"steps": 2})
        return build(*arguments)

    monkeypatch.setattr(api, "build_encoder", slow)
    with pytest.raises(OutputError, match="already holds a model"):
        tiny.run("static", tmp_path / "m", overrides={"steps": 3})
    assert load_recipe(tmp_path / "m" / "recipe.yaml").schedule.steps == 2


def test_a_mistake_in_model_or_data_leaves_the_folder_as_it_was(tmp_path):
    with pytest.raises(ModelError):
        train(
            "contriever-small", tiny.corpus(), tmp_path / "new", encoder={"family": "pretrained", "model": "./nowhere"}
        )
    with pytest.raises(DataError, match="needs at least 2"):
        train("contriever-cpu", tiny.corpus(1), tmp_path / "new", device="cpu")
    assert not (tmp_path / "new").exists()
    tiny.run("static", tmp_path / "m", overrides={"steps": 1, "queries": 0})
    before = tiny.weights(tmp_path / "m")
    with pytest.raises(DataError):
        train("contriever-cpu", tiny.corpus(1), tmp_path / "m", device="cpu", overwrite=True)
    assert tiny.weights(tmp_path / "m") == before


def test_a_folder_of_other_things_is_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="holds something else than a model; choose another folder"):
            tiny.run("static", tmp_path, overwrite=overwrite)
    with pytest.raises(OutputError, match="holds something else"):
        tiny.run("static", tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_resuming_asks_for_the_same_recipe_and_an_unfinished_run(model, tmp_path):
    folder, _, _ = model
    with pytest.raises(OutputError, match="is complete; there is nothing to resume"):
        tiny.run("static", folder, resume=True)
    with pytest.raises(OutputError, match=r"no run in .* to resume; leave --resume out"):
        tiny.run("static", tmp_path / "none", resume=True)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "recipe.yaml").write_bytes((folder / "recipe.yaml").read_bytes())
    with pytest.raises(RecipeError, match="had another recipe; resume it with"):
        tiny.run("static", tmp_path / "m", resume=True, overrides={"seed": 9})


def test_resuming_with_other_data_is_refused(tmp_path, monkeypatch):
    from retriever.training.trainer import Trainer

    update = Trainer.update

    def fail(self, *arguments):
        if self.state.step == 6:
            raise RuntimeError("stop here")
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", fail)
    with pytest.raises(RuntimeError):
        tiny.run("static", tmp_path / "m")
    monkeypatch.undo()
    name, overrides = tiny.STATIC
    with pytest.raises(RecipeError, match="was trained on other data"):
        train(name, tiny.corpus(120), tmp_path / "m", resume=True, device="cpu", **overrides)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["only one document here"], "1 document of at least 2 tokens"),
        (["one", "two", "three"], "0 documents of at least 2 tokens"),
        (["", " ", "?!"], "holds no text"),
    ],
)
def test_a_corpus_too_small_is_refused_and_leaves_no_model(tmp_path, texts, message):
    documents = [Document(str(i), "", text) for i, text in enumerate(texts)]
    with pytest.raises(DataError, match=message):
        train("contriever-cpu", Corpus.of(documents, name="small"), tmp_path / "m", steps=2)
    assert not (tmp_path / "m" / "modules.json").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "The data to train on are none: give paths"),
        (None, "The data to train on are NoneType: give paths"),
        ([tiny.corpus(), {"text": "a"}], "The data to train on are dict: give paths"),
        (
            [Document("a", "", "a b c"), Document("b", "", "d e f")],
            "are Document: give paths, or what open_corpus, Corp",
        ),
        (BeirDataset("b", "test", tiny.corpus(), {}, {}), "The data to train on are BeirDataset"),
    ],
)
def test_data_of_another_kind_is_refused(tmp_path, data, message):
    for recipe in ("contriever-cpu", "finetune", "dexml-cpu"):
        with pytest.raises(DataError, match=message):
            train(recipe, data, tmp_path / "m", device="cpu")
    assert not (tmp_path / "m").exists()


def test_a_prompt_that_leaves_no_room_for_a_text_is_refused(tmp_path):
    with pytest.raises(
        RecipeError, match=r"prompts\.query has \d+ tokens, and the encoder reads 22: nothing of a text"
    ):
        tiny.run("small", tmp_path / "m", overrides={"prompts.query": "t1w1 " * 30})
    assert not (tmp_path / "m").exists()


def test_corpora_may_come_one_by_one(tmp_path):
    settings = {"steps": 1, "queries": 0, "dimension": 8}
    assert train("contriever-cpu", (corpus for corpus in [tiny.corpus()]), tmp_path / "m", device="cpu", **settings)


def test_settings_beside_a_resolved_recipe_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="A resolved recipe takes no settings, and steps would be lost"):
        train(load_recipe("contriever-cpu"), tiny.corpus(), tmp_path / "m", device="cpu", steps=3)


def test_short_and_empty_documents_are_counted_and_left_out(tmp_path):
    notes = Notes()
    texts = ["a b c d e", "", "b", "c d e a", "e d c b a b", "a c e"]
    corpus = Corpus.of([Document(str(i), "", text) for i, text in enumerate(texts)])
    overrides = {"steps": 3, "size": 4, "dimension": 8}
    train("contriever-cpu", corpus, tmp_path / "m", reporter=notes, device="cpu", **overrides)
    assert any("2 documents of fewer than 2 tokens are left out" in sentence for sentence in notes.said)
    assert any("the last step is kept" in sentence for sentence in notes.said)


def test_a_saved_encoder_is_trained_further_with_its_prompts(model, tmp_path):
    folder, _, _ = model
    text = (
        (folder / "recipe.yaml").read_text().split("encoder:")[0]
        + f"encoder: {{family: pretrained, model: {folder}}}\nprompts: {{query: 't1w1 '}}\nviews:"
        + (folder / "recipe.yaml").read_text().split("views:")[1]
    )
    (tmp_path / "more.yaml").write_text(text)
    encoder = train(tmp_path / "more.yaml", tiny.corpus(), tmp_path / "m", device="cpu", steps=2)
    assert encoder.prompts == {"query": "t1w1 "}
    assert Encoder.load(tmp_path / "m").prompts == {"query": "t1w1 "}
