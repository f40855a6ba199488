"""Checkpoints: whole or not at all, the older one goes last, a full disk leaves it intact."""

from __future__ import annotations

import os

import pytest
import torch

from retriever.errors import ModelError, OutputError
from retriever.training.checkpoint import State, load_checkpoint, remove_checkpoints, save_checkpoint


def state_at(step):
    optimizer = {"state": {0: {"step": step, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return State(
        step, {"w": torch.full((2,), float(step))}, [optimizer], {"w": torch.zeros(2)}, 1, 0.5, step, 2, "data"
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back_whole_and_replaces_the_older_one(tmp_path):
    save_checkpoint(tmp_path, state_at(5))
    save_checkpoint(tmp_path, state_at(10))
    assert names(tmp_path) == ["checkpoint-00000010"]
    loaded, expected = load_checkpoint(tmp_path), state_at(10)
    assert torch.equal(loaded.model["w"], expected.model["w"]) and torch.equal(loaded.best["w"], expected.best["w"])
    assert torch.equal(loaded.optimizers[0]["state"][0]["exp_avg"], torch.ones(2))
    for name in ("step", "best_step", "best_score", "evaluated", "stale", "data"):
        assert getattr(loaded, name) == getattr(expected, name)


def test_no_checkpoint_is_none_and_all_can_be_removed(tmp_path):
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, state_at(5))
    (tmp_path / "checkpoint-notes").mkdir()
    remove_checkpoints(tmp_path)
    assert names(tmp_path) == ["checkpoint-notes"]


def test_a_full_disk_leaves_the_older_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, state_at(5))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"checkpoint-00000010 \(No space left on device\)"):
        save_checkpoint(tmp_path, state_at(10))
    assert names(tmp_path) == ["checkpoint-00000005"] and load_checkpoint(tmp_path).step == 5


def test_a_damaged_checkpoint_is_a_sentence(tmp_path):
    save_checkpoint(tmp_path, state_at(5))
    path = tmp_path / "checkpoint-00000005" / "state.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"state\.pt cannot be read: delete its folder and resume again"):
        load_checkpoint(tmp_path)
