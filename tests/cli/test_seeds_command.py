"""``retriever train --seeds``, ``train --json`` and ``retriever compare`` as a user meets them."""

from __future__ import annotations

import json

import pytest
import tiny
from test_commands import FAST, call

from retriever.training.outcome import Outcome, write_outcome


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A corpus file, and two recipes with two seeds each."""
    folder = tmp_path_factory.mktemp("seeds")
    (folder / "notes.jsonl").write_text(
        "\n".join(json.dumps({"id": document.id, "text": document.text}) for document in tiny.corpus())
    )
    said = [
        call(
            *("train", "contriever-cpu", *FAST, "keep=best", f"symmetric={symmetric}", "--seeds", 2, *extra),
            *("--data", folder / "notes.jsonl", "--output", folder / symmetric),
        )
        for symmetric, extra in (("true", []), ("false", ["--json"]))
    ]
    return folder, said


def test_mean_and_deviation_are_printed_and_each_run_is_told(runs):
    folder, [(text, notes), (answer, silence)] = runs
    assert text.startswith("recall@10 over 2 seeds: 0.") and " ± " in text and text.count("\n") == 1
    assert "Seed 0:" in notes and "retriever compare" in notes and silence == ""
    told = json.loads(answer)
    assert [run["seed"] for run in told["runs"]] == [0, 1]
    assert told["mean"] == pytest.approx(sum(run["metrics"]["recall@10"] for run in told["runs"]) / 2)
    assert all(run["model"] == str(folder / "false" / f"seed-{run['seed']}") for run in told["runs"])
    assert (folder / "false" / "seed-1" / "modules.json").exists()


def test_two_recipes_are_compared_seed_by_seed(runs):
    folder, _ = runs
    table, _ = call("compare", folder / "true", folder / "false")
    assert "recall@10: " in table and "2 seeds)" in table and "mean" in table
    told = json.loads(call("compare", folder / "true", folder / "false", "--json")[0])
    gaps = [ours - theirs for theirs, ours in zip(told["first"], told["second"], strict=True)]
    assert told["difference"] == pytest.approx(sum(gaps) / 2) and told["seeds"] == [0, 1]
    told = json.loads(call("compare", folder / "true", folder / "false", "--metric", "mrr@10", "--json")[0])
    assert told["metric"] == "mrr@10"


def test_seeds_that_differ_alike_are_told_by_the_sign_test(tmp_path):
    for name, more in (("one", 0.0), ("other", 0.2)):
        for seed in range(3):
            (tmp_path / name / f"seed-{seed}").mkdir(parents=True)
            kept = Outcome(9, "spearman", {"spearman": seed / 10 + more})
            write_outcome(tmp_path / name / f"seed-{seed}" / "log.jsonl", kept)
    table, _ = call("compare", tmp_path / "one", tmp_path / "other")
    assert table.endswith("spearman: +0.2000, alike with all seeds, p = 0.250 (sign test, 3 seeds)\n")


def test_the_name_of_a_folder_is_no_markup(runs, tmp_path, monkeypatch):
    folder, *_ = runs
    monkeypatch.chdir(tmp_path)
    for name in ("true", "false"):
        (tmp_path / f"lr[{name}]").symlink_to(folder / name)
    table, _ = call("compare", "lr[true]", "lr[false]")
    assert "lr[true]" in table and "lr[false]" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("true", "nowhere"), "holds no runs seed-0"),
        (("true", "true/seed-0"), "holds no runs seed-0"),
        (("true", "false", "--metric", "spearman"), "have no metric 'spearman'; choose from recall@10"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(runs, arguments, message):
    folder, _ = runs
    names = [folder / argument if number < 2 else argument for number, argument in enumerate(arguments)]
    _, err = call("compare", *names, code=2)
    assert message in err and err.count("\n") == 1


def test_one_run_tells_its_outcome_as_json(runs, tmp_path):
    folder, _ = runs
    out, err = call("train", "contriever-cpu", *FAST, "--data", folder / "notes.jsonl", "-o", tmp_path / "m", "--json")
    told = json.loads(out)
    assert told.keys() == {"step", "metric", "metrics", "seconds", "model"} and err == ""
    assert told["model"] == str(tmp_path / "m") and told["metric"] == "recall@10"
    assert told["metrics"].keys() == {"recall@10", "recall@100", "mrr@10", "ndcg@10"}


def test_a_run_that_holds_nothing_out_has_no_score(runs, tmp_path):
    folder, _ = runs
    where = ("--data", folder / "notes.jsonl", "-o")
    told = json.loads(call("train", "contriever-cpu", *FAST, "queries=0", *where, tmp_path / "m", "--json")[0])
    assert (told["metric"], told["metrics"], told["step"]) == (None, {}, 6)
    out, _ = call("train", "contriever-cpu", *FAST, "queries=0", *where, tmp_path / "r", "--seeds", 2)
    assert "so there is no score" in out
