"""The loop: same seed, same bytes; killed and resumed, same bytes; what is logged; when it stops."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny

from retriever.errors import OutputError, RecipeError
from retriever.reporting import Reporter
from retriever.training import trainer as trainer_module
from retriever.training.trainer import Trainer, TrainingInterrupted

FAMILIES = sorted(tiny.RECIPES)


@pytest.fixture(scope="module", params=FAMILIES)
def finished(request, tmp_path_factory):
    """A family and the folder of its uninterrupted run."""
    folder = tmp_path_factory.mktemp(request.param) / "whole"
    tiny.run(request.param, folder)
    scores = {e["step"]: e["evaluation"]["recall@10"] for e in entries(folder) if "evaluation" in e}
    assert not scores or max(scores.values()) > scores[0], "the best step must not be the first one"
    return request.param, folder


def entries(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_same_seed_same_bytes_and_another_seed_others(finished, tmp_path):
    family, whole = finished
    tiny.run(family, tmp_path / "again")
    tiny.run(family, tmp_path / "other", overrides={"seed": 1})
    assert tiny.weights(tmp_path / "again") == tiny.weights(whole)
    key = next(name for name in tiny.weights(whole) if name.endswith("model.safetensors"))
    assert tiny.weights(tmp_path / "other")[key] != tiny.weights(whole)[key]


def kill_at(step):
    """Make the process of a run kill itself with SIGKILL at update ``step``."""
    return (
        "import os, signal\nfrom retriever.training.trainer import Trainer\nupdate = Trainer.update\n"
        "def deadly(self, *arguments):\n"
        f"    if self.state.step == {step}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return update(self, *arguments)\nTrainer.update = deadly\n"
    )


@pytest.mark.parametrize("steps", [(1,), (4,), (6, 9), (9,)])
def test_killed_and_resumed_the_model_has_the_same_bytes(finished, tmp_path, steps):
    family, whole = finished
    folder = tmp_path / "killed"
    for attempt, step in enumerate(steps):
        options = f"resume={bool(attempt)}"
        code = f"{kill_at(step)}import tiny\ntiny.run({family!r}, {str(folder)!r}, {options})"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert process.returncode == -signal.SIGKILL, process.stderr
        assert not (folder / "modules.json").exists()
    tiny.run(family, folder, resume=True)
    assert tiny.weights(folder) == tiny.weights(whole)
    assert not list(folder.glob("checkpoint-*"))


def test_a_log_whose_last_line_is_torn_is_gone_on_with(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Trainer, "_checkpoint", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        tiny.run("static", tmp_path / "run")
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "lo')
    tiny.run("static", tmp_path / "run", resume=True)
    assert entries(tmp_path / "run")[-1]["kept"]["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_at_random_moments_the_model_has_the_same_bytes(family, tmp_path):
    tiny.run(family, tmp_path / "whole")
    random = np.random.default_rng()
    folder = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(8):
        resume = (folder / "recipe.yaml").exists()
        code = f"import tiny\ntiny.run({family!r}, {str(folder)!r}, resume={resume})"
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
        time.sleep(3 + 4 * random.random())
        process.kill()
        process.wait()
        if (folder / "modules.json").exists():
            break
    if not (folder / "modules.json").exists():
        tiny.run(family, folder, resume=(folder / "recipe.yaml").exists())
    assert tiny.weights(folder) == tiny.weights(tmp_path / "whole")


def test_ctrl_c_writes_a_checkpoint_and_resuming_gives_the_same_bytes(finished, tmp_path, monkeypatch):
    family, whole = finished
    update = Trainer.update

    def interrupt(self, *arguments):
        if self.state.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", interrupt)
    with pytest.raises(TrainingInterrupted, match="Stopped after step 6; a checkpoint is in"):
        tiny.run(family, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000006"]
    monkeypatch.undo()
    tiny.run(family, tmp_path / "run", resume=True)
    assert tiny.weights(tmp_path / "run") == tiny.weights(whole)


def test_a_run_of_another_model_is_not_resumed(tmp_path, monkeypatch):
    update = Trainer.update

    def stop(self, *arguments):
        if self.state.step == 5:
            raise KeyboardInterrupt
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        tiny.run("static", tmp_path / "run")
    monkeypatch.undo()
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("dimension: 16", "dimension: 8"))
    with pytest.raises(RecipeError, match="was of another model, whose weights have other shapes"):
        tiny.run("static", tmp_path / "run", resume=True, overrides={"dimension": 8})


def test_the_log_starts_with_the_score_before_training_and_holds_the_diagnostics(finished):
    family, whole = finished
    log = entries(whole)
    if family == "last":
        assert not any("evaluation" in e for e in log)
        return
    own = {"p@1", "p@3", "p@5", "ndcg@5"} if family == "labels" else {"mrr@10", "ndcg@10"}
    assert log[0]["step"] == 0 and set(log[0]["evaluation"]) == {"recall@10", "recall@100"} | own
    last = tiny.RECIPES[family][1]["steps"]
    assert [e["step"] for e in log if "evaluation" in e] == [*range(0, last, 4), last]
    losses = [e for e in log if "loss" in e]
    assert [e["step"] for e in losses] == [1, *range(3, last + 1, 3)]
    wanted = {"lr", "accuracy", "alignment", "uniformity", "effective_rank", "negatives", "tokens_per_second"}
    for entry in losses:
        queued = min(16 * entry["step"], 40) if family == "moco" else 0
        others = 15 * (2 if family == "whitened" else 1)  # which has two documents a query
        assert wanted <= entry.keys()
        if family == "labels":  # whose candidates are drawn
            assert 1 < entry["negatives"] < 20
        else:
            assert entry["negatives"] == others + queued
        assert all(math.isfinite(value) for value in entry.values())


def test_training_learns(tmp_path):
    tiny.run("static", tmp_path / "run", overrides={"steps": 60, "every": 20})
    log = entries(tmp_path / "run")
    losses = [e["loss"] for e in log if "loss" in e]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_dropout_tells_the_same_text_twice_apart(tmp_path):
    views = {"mix": {"same": 1.0}, "window": 16}
    tiny.run("small", tmp_path / "run", overrides={"views": views, "symmetric": False, "dropout": 0.2, "steps": 3})
    assert all(e["alignment"] > 1e-3 for e in entries(tmp_path / "run") if "loss" in e)


def test_accumulation_averages_the_gradient_of_its_batches(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(trainer_module, "clip", lambda parameters, limit: seen.append(len(list(parameters))) or 1.0)
    tiny.run("static", tmp_path / "run", overrides={"accumulate": 2, "steps": 3, "clip": 1.0, "size": 8})
    assert len(seen) == 3
    assert all(e["negatives"] == 7 for e in entries(tmp_path / "run") if "loss" in e)


@pytest.mark.parametrize(("link", "guess"), [("all", "16 candidates, 2.77"), ("none", "15 candidates, 2.71")])
def test_a_loss_that_stays_at_a_guess_is_told_once(tmp_path, monkeypatch, link, guess):
    notes = []
    monkeypatch.setattr(Reporter, "note", lambda self, sentence: notes.append(sentence))
    monkeypatch.setattr(trainer_module, "PATIENCE", 5)
    still = {"temperature": 1e4, "lr": 1e-9, "queries": 0, "steps": 20}
    tiny.run("static", tmp_path / "run", overrides=still | {"link": link})
    told = [note for note in notes if "collapsed" in note]
    assert len(told) == 1 and f"a guess among {guess}, for 5 steps" in told[0]


def test_a_loss_that_falls_is_not_called_a_guess(tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(Reporter, "note", lambda self, sentence: notes.append(sentence))
    monkeypatch.setattr(trainer_module, "PATIENCE", 12)
    tiny.run("static", tmp_path / "run", overrides={"steps": 40, "every": 20})
    assert notes and not any("collapsed" in note for note in notes)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"queue": 8}, r"negatives\.queue 8 is smaller than batch\.size 16"),
        ({"in_batch": False}, "there would be no negatives"),
        ({"momentum": 1.5}, r"negatives\.momentum"),
        ({"labels": {}}, "give either the section views"),
    ],
)
def test_settings_that_cannot_train_are_refused(tmp_path, overrides, sentence):
    with pytest.raises(RecipeError, match=sentence):
        tiny.run("static", tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


def test_patience_stops_early_and_the_best_step_is_kept(tmp_path, monkeypatch):
    scores = iter([0.1, 0.4, 0.3, 0.2, 0.9])
    kept = {}

    def score(self, encoder, dtype):
        value = next(scores)
        kept[value] = encoder.stack[0].table.detach().clone()
        return dict.fromkeys(("recall@10", "recall@100", "mrr@10", "ndcg@10"), value)

    monkeypatch.setattr("retriever.training.selection.HeldOut.score", score)
    encoder = tiny.run("static", tmp_path / "run", overrides={"patience": 2, "steps": 100})
    assert next(scores) == 0.9
    assert encoder.stack[0].table.equal(kept[0.4])
    assert max(e["step"] for e in entries(tmp_path / "run")) == 12


def test_where_no_step_finds_anything_the_last_is_kept(tmp_path, monkeypatch):
    kept = []

    def score(self, encoder, dtype):
        kept.append(encoder.stack[0].table.detach().clone())
        return dict.fromkeys(("recall@10", "recall@100", "mrr@10", "ndcg@10"), 0.0)

    monkeypatch.setattr("retriever.training.selection.HeldOut.score", score)
    encoder = tiny.run("static", tmp_path / "run", overrides={"steps": 8, "every": 4})
    assert len(kept) == 3 and encoder.stack[0].table.equal(kept[-1]) and not kept[-1].equal(kept[0])
    assert entries(tmp_path / "run")[-1]["step"] == 8


@pytest.mark.parametrize(("found", "kept"), [(1, 2), (2, 2), (6, 1)])
def test_the_last_step_is_kept_unless_the_best_is_ahead_beyond_noise(tmp_path, monkeypatch, found, kept):
    """The best step finds some of the held-out queries, the last step none."""
    seen = []

    def ranks(self, encoder, dtype):
        table = encoder.stack[0].table.detach().clone()
        if not any(table.equal(other) for other in seen):
            seen.append(table)
        evaluation = next(i for i, other in enumerate(seen) if table.equal(other))
        return np.where(np.arange(len(self.answers)) < (0, found, 0)[evaluation], 1, 1000)

    monkeypatch.setattr("retriever.training.selection.HeldOut.ranks", ranks)
    encoder = tiny.run("static", tmp_path / "run", overrides={"keep": "last", "steps": 8, "every": 4})
    assert len(seen) == 3 and encoder.stack[0].table.equal(seen[kept])


def test_a_loss_that_is_not_finite_is_a_sentence(tmp_path):
    with pytest.raises(RecipeError, match=r"The loss is nan at step \d+; lower optimizer\.lr"):
        tiny.run("small", tmp_path / "run", overrides={"lr": 1e30, "clip": None, "warmup": 0, "dtype": "float32"})


def test_weights_that_are_not_finite_are_a_sentence_and_no_model(tmp_path):
    with pytest.raises(RecipeError, match=r"The weights are not finite after step 1; lower optimizer\.lr"):
        tiny.run("last", tmp_path / "run", overrides={"lr": 1e39, "steps": 1, "learn_weights": False})
    assert not (tmp_path / "run" / "modules.json").exists()


def test_a_full_disk_during_a_checkpoint_leaves_the_one_before(tmp_path, monkeypatch):
    saved = trainer_module.save_checkpoint

    def full(folder, state):
        if state.step == 8:
            monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        saved(folder, state)

    monkeypatch.setattr(trainer_module, "save_checkpoint", full)
    with pytest.raises(OutputError, match="No space left on device"):
        tiny.run("static", tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000004"]
    monkeypatch.undo()
    tiny.run("static", tmp_path / "run", resume=True)
    tiny.run("static", tmp_path / "whole")
    assert tiny.weights(tmp_path / "run") == tiny.weights(tmp_path / "whole")
