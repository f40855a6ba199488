"""Averages of weights: the ends, the middle, what is admitted, and a run that averages and is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch

from retriever.encoder import Encoder
from retriever.errors import RecipeError
from retriever.training.averaging import admitted_share, is_ahead, mean_weights
from retriever.training.selection import HeldOut

AVERAGE = {"average": [0, 0.5, 1]}


def weights(seed, names=("a", "b")):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, 4, generator=generator) for name in names}


def entries(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_ends_are_exact():
    start, end = weights(0), weights(1)
    for share, expected in ((0, start), (0.0, start), (1, end), (1.0, end)):
        found = mean_weights(start, end, share)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_between_the_ends_it_is_the_weighted_mean(share):
    start, end = weights(0), weights(1)
    for name, found in mean_weights(start, end, share).items():
        assert torch.allclose(found, (1 - share) * start[name] + share * end[name], atol=1e-6)


def test_whole_numbers_are_no_weights():
    start = {"positions": torch.arange(5), "w": torch.zeros(2)}
    end = {"positions": torch.arange(5), "w": torch.ones(2)}
    found = mean_weights(start, end, 0.5)
    assert found["positions"].equal(torch.arange(5)) and found["positions"].dtype == torch.int64
    assert found["w"].tolist() == [0.5, 0.5]


def test_neither_end_is_changed():
    start, end = weights(0), weights(1)
    before = {name: value.clone() for name, value in start.items()}
    for value in mean_weights(start, end, 0.5).values():
        value.zero_()
    assert all(torch.equal(start[name], before[name]) for name in start)
    assert all(torch.equal(end[name], value) for name, value in weights(1).items())


def test_ahead_is_more_than_noise():
    random = np.random.default_rng(0)
    theirs = random.normal(size=400)
    assert not is_ahead(theirs, theirs)
    assert is_ahead(theirs + 0.01, theirs), "the same gain on every query is certain"
    noise = random.normal(size=400)
    noise -= noise.mean()
    error = noise.std(ddof=1) / 20
    assert not is_ahead(theirs + noise + 1.5 * error, theirs)
    assert is_ahead(theirs + noise + 1.8 * error, theirs)


def test_a_single_query_proves_nothing():
    assert not is_ahead(np.ones(1), np.zeros(1))
    assert not is_ahead(np.ones(0), np.zeros(0))


def test_noise_passes_one_time_in_twenty():
    random = np.random.default_rng(0)
    passed = sum(is_ahead(random.normal(size=100), np.zeros(100)) for _ in range(2_000))
    assert 70 < passed < 135


def scores(**means):
    """Share → 50 scores that differ from the start's by a constant."""
    base = np.random.default_rng(0).normal(size=50)
    return {float(name.replace("_", ".")[1:]): base + mean for name, mean in means.items()}


def test_the_best_share_is_taken():
    assert admitted_share([scores(s0=0, s0_5=0.2, s1=0.1)]) == 0.5
    assert admitted_share([scores(s0=0, s0_5=0.1, s1=0.2)]) == 1.0


def test_nothing_ahead_leaves_the_start():
    assert admitted_share([scores(s0=0, s0_5=-0.1, s1=-0.2)]) == 0.0
    assert admitted_share([scores(s0=0)]) == 0.0
    random = np.random.default_rng(1)
    noisy = {0.0: random.normal(size=50), 0.5: random.normal(size=50)}
    noisy[0.5] += noisy[0.0].mean() - noisy[0.5].mean() + 0.05
    assert noisy[0.5].mean() > noisy[0.0].mean() and admitted_share([noisy]) == 0.0


def test_of_equal_shares_the_one_nearest_to_the_start_is_taken():
    assert admitted_share([scores(s0=0, s0_25=0.1, s0_5=0.1, s1=0.1)]) == 0.25


def test_all_tests_must_be_passed_and_the_last_one_chooses():
    first = scores(s0=0, s0_25=0.1, s0_5=0.2, s1=-0.1)
    last = scores(s0=0, s0_25=0.2, s0_5=0.1, s1=0.9)
    assert admitted_share([first, last]) == 0.25
    assert admitted_share([first, scores(s0=0, s0_25=-0.1, s0_5=-0.1, s1=0.9)]) == 0.0


def test_a_run_ends_with_the_average_that_its_log_explains(tmp_path):
    encoder = tiny.run("static", tmp_path / "run", overrides={**AVERAGE, "steps": 40})
    log = [entry for entry in entries(tmp_path / "run") if "share" in entry]
    assert [entry["share"] for entry in log] == [0.0, 0.5, 1.0]
    start = next(entry["evaluation"] for entry in entries(tmp_path / "run") if "evaluation" in entry)
    assert {name: log[0][name] for name in start} == start, "share 0 is the encoder before training"
    best = max(entry["evaluation"]["recall@10"] for entry in entries(tmp_path / "run") if "evaluation" in entry)
    assert log[-1]["recall@10"] == best, "share 1 is the best step"
    saved = Encoder.load(tmp_path / "run")
    assert saved.stack[0].table.equal(encoder.stack[0].table)


def ends(tmp_path, monkeypatch, fixed):
    """Tables before training, after it, and as a run left them whose held-out ranks are ``fixed`` in turn."""
    start = (
        tiny.run("static", tmp_path / "start", overrides={"lr": 1e-30, "queries": 0}).stack[0].table.detach().clone()
    )
    end = tiny.run("static", tmp_path / "end").stack[0].table.detach().clone()
    evaluated, given = HeldOut.ranks, iter(fixed)

    def ranks(self, encoder, dtype):
        assert encoder.stack[0].table.shape == start.shape
        return np.full(len(self.queries), next(given))

    scored = HeldOut.score
    monkeypatch.setattr(HeldOut, "score", lambda self, *given: _with(evaluated, scored, self, given))
    monkeypatch.setattr(HeldOut, "ranks", ranks)
    found = tiny.run("static", tmp_path / "run", overrides=AVERAGE).stack[0].table.detach()
    return start, end, found


def _with(ranks, score, held_out, given):
    """The score as it is without the patch of :func:`ends`."""
    patched, HeldOut.ranks = HeldOut.ranks, ranks
    try:
        return score(held_out, *given)
    finally:
        HeldOut.ranks = patched


def test_the_share_that_finds_most_is_kept(tmp_path, monkeypatch):
    start, end, found = ends(tmp_path, monkeypatch, [50, 1, 50])
    assert torch.allclose(found, (start + end) / 2, atol=1e-6) and not torch.allclose(found, end)


def test_the_start_is_kept_where_training_only_harms(tmp_path, monkeypatch):
    start, end, found = ends(tmp_path, monkeypatch, [1, 50, 50])
    assert found.equal(start) and not found.equal(end)


def test_without_held_out_queries_the_fallback_is_kept(tmp_path):
    settings = {"queries": 0, **AVERAGE}
    start = tiny.run("last", tmp_path / "start", overrides={**settings, "fallback": 0}).stack[0].table
    end = tiny.run("last", tmp_path / "end", overrides={**settings, "fallback": 1}).stack[0].table
    plain = tiny.run("last", tmp_path / "plain").stack[0].table
    half = tiny.run("last", tmp_path / "half", overrides={**settings, "fallback": 0.5}).stack[0].table
    assert end.equal(plain) and not start.equal(end)
    assert torch.allclose(half, (start + end) / 2, atol=1e-6)


@pytest.mark.parametrize("average", [[-0.1], [1.1], ["much"]])
def test_shares_out_of_range_are_refused(tmp_path, average):
    with pytest.raises(RecipeError, match=r"selection\.average\.0"):
        tiny.run("static", tmp_path / "run", overrides={"average": average})


@pytest.mark.parametrize("family", ["static", pytest.param("moco", marks=pytest.mark.slow)])
def test_killed_and_resumed_the_average_has_the_same_bytes(family, tmp_path):
    settings = {"average": [0, 0.3, 1], "queries": 0, "fallback": 0.3} if family == "moco" else AVERAGE
    tiny.run(family, tmp_path / "whole", overrides=settings)
    folder = tmp_path / "killed"
    code = (
        "import os, signal\nfrom retriever.training.trainer import Trainer\nupdate = Trainer.update\n"
        "def deadly(self, *arguments):\n"
        "    if self.state.step == 6: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return update(self, *arguments)\nTrainer.update = deadly\n"
        f"import tiny\ntiny.run({family!r}, {str(folder)!r}, overrides={settings!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-00000004"]
    tiny.run(family, folder, overrides=settings, resume=True)
    assert tiny.weights(folder) == tiny.weights(tmp_path / "whole")
