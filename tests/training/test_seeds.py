"""Several seeds of a recipe: the runs are those of single commands; statistics against scipy and plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
from scipy import stats

from retriever.errors import DataError, OutputError, RecipeError
from retriever.reporting import Reporter
from retriever.training.outcome import Outcome, read_outcome, scores_of, write_outcome
from retriever.training.recipebook import load_recipe
from retriever.training.seeds import SeedRuns, compare_runs, read_runs, train_seeds
from retriever.training.trainer import Trainer

SETTINGS = {**tiny.STATIC[1], "steps": 6, "every": 3, "keep": "best"}


def recipe(**changes):
    return load_recipe("contriever-cpu", SETTINGS | changes)


def runs(folder, scores, metric="spearman", **others):
    """Runs with these scores, by seed."""
    return SeedRuns(folder, {seed: Outcome(9, metric, {metric: s} | others) for seed, s in scores.items()})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of the tiny recipe."""
    folder = tmp_path_factory.mktemp("seeds") / "runs"
    return folder, train_seeds(recipe(), tiny.corpus(), folder, 2, device="cpu", processes=1)


def test_each_run_is_that_of_its_seed_alone(trained, tmp_path):
    folder, found = trained
    assert sorted(path.name for path in folder.iterdir()) == ["seed-0", "seed-1"] and list(found.outcomes) == [0, 1]
    tiny.run("static", tmp_path / "one", overrides={**SETTINGS, "seed": 1})
    assert tiny.weights(tmp_path / "one") == tiny.weights(folder / "seed-1")
    assert tiny.weights(folder / "seed-0") != tiny.weights(folder / "seed-1")


def test_the_outcome_is_what_the_kept_step_scored(trained):
    folder, found = trained
    log = [json.loads(line) for line in (folder / "seed-0" / "log.jsonl").read_text().splitlines()]
    scores = {entry["step"]: entry["evaluation"] for entry in log if "evaluation" in entry}
    best = max(scores, key=lambda step: scores[step]["recall@10"])
    outcome = found.outcomes[0]
    assert (outcome.step, outcome.metric, outcome.metrics) == (best, "recall@10", scores[best])
    assert outcome.seconds > 0 and read_outcome(folder / "seed-0" / "log.jsonl") == outcome


def test_a_run_without_anything_to_choose_by_has_its_last_step_and_no_score(tmp_path):
    tiny.run("static", tmp_path / "m", overrides={"queries": 0, "steps": 3})
    outcome = read_outcome(tmp_path / "m" / "log.jsonl")
    assert (outcome.step, outcome.metric, outcome.metrics) == (3, None, {})
    with pytest.raises(DataError, match="have no score: set selection"):
        SeedRuns(tmp_path, {0: outcome}).scores()


def test_an_average_is_scored_by_its_own_share(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [{"step": 3, "evaluation": {"m@1": 0.5}}, {"share": 0.25, "m@1": 0.7}, {"share": 1.0, "m@1": 0.5}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert scores_of(log, 3, None) == {"m@1": 0.5} and scores_of(log, 3, 0.25) == {"m@1": 0.7}
    assert scores_of(log, 4, None) == {}


def test_an_outcome_reads_back_equal_and_an_unfinished_run_is_refused(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(DataError, match="holds no finished run"):
        read_outcome(log)
    write_outcome(log, Outcome(7, "spearman", {"spearman": 0.5}, 1.5))
    assert read_outcome(log) == Outcome(7, "spearman", {"spearman": 0.5}, 1.5)
    with pytest.raises(DataError, match="holds no finished run"):
        read_outcome(tmp_path / "none" / "log.jsonl")


def test_runs_that_are_there_are_not_touched_unless_told(trained, tmp_path):
    folder, found = trained
    with pytest.raises(OutputError, match="already holds seed-0; pass --resume"):
        train_seeds(recipe(), tiny.corpus(), folder, 2, device="cpu", processes=1)
    with pytest.raises(RecipeError, match="seed-0 had another recipe"):
        train_seeds(recipe(steps=5), tiny.corpus(), folder, 2, resume=True, device="cpu", processes=1)
    with pytest.raises(OutputError, match="pass one of the two"):
        train_seeds(recipe(), tiny.corpus(), folder, 2, resume=True, overwrite=True, device="cpu", processes=1)
    with pytest.raises(OutputError, match="holds a single run"):
        train_seeds(recipe(), tiny.corpus(), folder / "seed-0", 2, device="cpu", processes=1)
    again = train_seeds(recipe(), tiny.corpus(), folder, 2, resume=True, device="cpu", processes=1)
    assert again == found, "finished runs are not trained again"


def test_a_stopped_command_goes_on_with_the_run_it_was_in(trained, tmp_path, monkeypatch):
    folder, _ = trained
    update, calls = Trainer.update, []

    def stop(self, *arguments):
        calls.append(self.recipe.seed)
        if calls == [0] * 6 + [1] * 5:
            raise KeyboardInterrupt
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        train_seeds(recipe(), tiny.corpus(), tmp_path / "runs", 2, device="cpu", processes=1)
    train_seeds(recipe(), tiny.corpus(), tmp_path / "runs", 2, resume=True, device="cpu", processes=1)
    assert calls == [0] * 6 + [1] * 5 + [1] * 3, "seed 0 is not trained again, seed 1 goes on after step 3"
    for seed in ("seed-0", "seed-1"):
        assert tiny.weights(tmp_path / "runs" / seed) == tiny.weights(folder / seed)


def test_seeds_follow_that_of_the_recipe(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(Reporter, "note", lambda self, sentence: said.append(sentence))
    found = train_seeds(recipe(seed=7, steps=1), tiny.corpus(), tmp_path / "r", 2, device="cpu", processes=1)
    assert list(found.outcomes) == [7, 8] and {"Seed 7:", "Seed 8:"} <= set(said)


def test_a_folder_of_runs_is_read_back(trained):
    folder, found = trained
    assert read_runs(folder) == found
    with pytest.raises(DataError, match="holds no runs seed-0"):
        read_runs(folder / "seed-0")


def test_the_comparison_is_scipys_paired_test(tmp_path):
    one = runs(tmp_path / "a", {0: 0.61, 1: 0.60, 2: 0.64, 3: 0.58, 9: 0.1})
    other = runs(tmp_path / "b", {3: 0.60, 2: 0.65, 1: 0.63, 0: 0.62})
    found = compare_runs(one, other)
    test = stats.ttest_rel([0.62, 0.63, 0.65, 0.60], [0.61, 0.60, 0.64, 0.58])
    assert found.seeds == [0, 1, 2, 3] and found.metric == "spearman"
    assert found.p_value == pytest.approx(test.pvalue)
    assert found.interval == pytest.approx(test.confidence_interval(0.95))
    assert found.difference == pytest.approx((0.01 + 0.03 + 0.01 + 0.02) / 4)
    told = found.to_json()
    assert (told["p"], told["test"]) == (found.p_value, "paired t-test")
    assert told["mean"] == pytest.approx([0.6075, 0.625])
    assert told["sd"] == pytest.approx([np.std([0.61, 0.6, 0.64, 0.58], ddof=1), np.std(told["second"], ddof=1)])


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_that_all_differ_alike_are_as_sure_as_their_signs(tmp_path, seeds):
    one, other = (runs(tmp_path / "a", {s: s / 10 + more for s in range(seeds)}) for more in (0.1, 0.3))
    found = compare_runs(one, other)
    flips = [[1 - 2 * (number >> s & 1) for s in range(seeds)] for number in range(2**seeds)]
    assert found.p_value == sum(abs(sum(signs)) == seeds for signs in flips) / len(flips)
    assert (found.to_json()["test"], found.to_json()["p"]) == ("sign test", found.p_value)
    assert compare_runs(one, one).p_value == 1.0


def test_what_cannot_be_compared_is_refused(tmp_path):
    one = runs(tmp_path / "a", {0: 0.5, 1: 0.6}, uniformity=-2.0)
    with pytest.raises(DataError, match="have 1 seeds in common"):
        compare_runs(one, runs(tmp_path / "b", {1: 0.5, 2: 0.6}))
    with pytest.raises(DataError, match=r"was chosen by spearman and .* by recall@10; name a --metric"):
        compare_runs(one, runs(tmp_path / "b", {0: 0.5, 1: 0.6}, "recall@10", spearman=0.2))
    with pytest.raises(DataError, match="have no metric 'mrr'; choose from spearman, uniformity"):
        compare_runs(one, one, "mrr")
    assert compare_runs(one, one, "uniformity").first.tolist() == [-2.0, -2.0]
