"""``retriever whiten`` as a user meets it."""

from __future__ import annotations

import json

import encoders
import numpy as np
import pytest
from test_commands import call

from retriever.encoder import Encoder

WORDS = ["dog", "fox", "vector", "document", "quick", "lazy", "far"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and a file of texts."""
    folder = tmp_path_factory.mktemp("whiten")
    encoders.small().save(folder / "model")
    random = np.random.default_rng(0)
    (folder / "texts.txt").write_text("\n".join(" ".join(random.choice(WORDS, 6)) for _ in range(60)))
    return folder


def test_the_model_written_is_white_on_its_texts(folder, tmp_path):
    _, err = call("whiten", folder / "model", folder / "texts.txt", "-o", tmp_path / "m", "--dimension", 4)
    assert "bert-whitening by " in err and "4 dimensions" in err and "retriever eval sts" in err
    found = Encoder.load(tmp_path / "m").encode((folder / "texts.txt").read_text().splitlines(), dtype="float32")
    assert found.shape[1] == 4 and np.abs(found.mean(0)).max() < 0.2


def test_json_tells_what_was_read_and_kept(folder, tmp_path):
    where = (folder / "model", folder / "texts.txt", "-o", tmp_path / "m")
    out, err = call("whiten", *where, "--method", "common-component", "--limit", 10, "--json")
    assert json.loads(out) == {"texts": 10, "dimension": 16, "output": str(tmp_path / "m")} and err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dimension", 99), "The vectors have 16 dimensions, of which 99 cannot be kept"),
        (("--method", "sif"), "choose common-component"),
        (("--limit", 3, "--dimension", 5), "vary in 2 dimensions only"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(folder, tmp_path, options, message):
    _, err = call("whiten", folder / "model", folder / "texts.txt", "-o", tmp_path / "m", "-q", *options, code=2)
    assert message in err and err.count("\n") == 1 and not (tmp_path / "m").exists()


def test_a_folder_that_is_there_is_not_replaced_unless_told(folder, tmp_path):
    (tmp_path / "m").mkdir()
    where = (folder / "model", folder / "texts.txt", "-o", tmp_path / "m", "--dimension", 3)
    _, err = call("whiten", *where, code=2)
    assert "exists already" in err
    call("whiten", *where, "--overwrite", "-q")
    assert (tmp_path / "m" / "modules.json").exists()


def test_a_folder_of_something_else_is_never_replaced(folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    where = (folder / "model", folder / "texts.txt", "-o", tmp_path, "--dimension", 3, "--overwrite")
    _, err = call("whiten", *where, code=2)
    assert err == f"Error: {tmp_path} holds something else than a model; choose another folder.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
