"""Extreme multi-label data sets: one content in every layout, and each mistake as one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xmc_folders
from scipy.sparse import csr_matrix, save_npz
from shared_data import SHARED, needs_shared
from xmc_folders import FILTER, LABELS, TEST, TRAIN, write

from retriever.data.xmc import load_labels, load_xmc
from retriever.errors import DataError

LAYOUTS = {
    "raw, compressed": xmc_folders.write_raw,
    "raw, plain": lambda folder: xmc_folders.write_raw(folder, end=""),
    "sparse": xmc_folders.write_sparse,
    "sparse, texts beside": lambda folder: xmc_folders.write_sparse(folder, texts=""),
    "sparse, old": lambda folder: xmc_folders.write_sparse(folder, old=True),
    "sparse, npz": lambda folder: xmc_folders.write_sparse(folder, npz=True),
    "jsonl": lambda folder: xmc_folders.write_jsonl(folder, labels="txt"),
    "jsonl, compressed": lambda folder: xmc_folders.write_jsonl(folder, labels="txt", end=".gz"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_says_the_same(tmp_path, layout):
    dataset = load_xmc(LAYOUTS[layout](tmp_path / "zoo"))
    assert dataset.name == "zoo" and dataset.labels.texts == LABELS
    for name, points, part in (("train", dataset.train, TRAIN), ("test", dataset.test, TEST)):
        assert points.texts == [text for text, _ in part]
        assert len(points.ids) == len(set(points.ids)) == len(points) == len(part)
        assert points.targets.toarray().tolist() == xmc_folders.dense(part)
        assert points.targets.dtype == np.float32 and points.targets.has_sorted_indices
        assert points.filtered.tolist() == sorted(map(list, FILTER[name]))
        assert points.filtered.dtype == np.int64


def test_ids_are_those_of_the_files_or_rows(tmp_path):
    assert load_xmc(xmc_folders.write_raw(tmp_path / "raw")).labels.ids[:2] == ["l0", "l1"]
    assert load_xmc(tmp_path / "raw").test.ids[:2] == ["tst0", "tst1"]
    assert load_xmc(xmc_folders.write_sparse(tmp_path / "sparse")).train.ids[:2] == ["0", "1"]
    assert load_xmc(xmc_folders.write_jsonl(tmp_path / "jsonl", labels="jsonl")).labels.ids == LABELS


def test_titles_alone(tmp_path):
    dataset = load_xmc(xmc_folders.write_raw(tmp_path), titles_only=True)
    assert dataset.labels.texts[:2] == ["quick", "lazy"]
    assert dataset.train.texts[:2] == ["the", "a"]


def test_the_test_part_and_the_filters_may_be_missing(tmp_path):
    for number, make in enumerate((xmc_folders.write_raw, xmc_folders.write_sparse, xmc_folders.write_jsonl)):
        folder = make(tmp_path / str(number))
        for path in [*folder.rglob("tst*"), *folder.rglob("test*"), *folder.rglob("filter*")]:
            path.unlink()
        dataset = load_xmc(folder)
        assert dataset.test is None and dataset.train.filtered.shape == (0, 2)


def test_labels_that_occur_are_sorted(tmp_path):
    occurring = sorted({LABELS[label] for part in (TRAIN, TEST) for _, found in part for label in found})
    assert load_xmc(xmc_folders.write_jsonl(tmp_path)).labels.ids == occurring
    alone = load_xmc(tmp_path / "train.jsonl")
    assert alone.name == "train" and alone.test is None
    assert alone.labels.texts == sorted({LABELS[label] for _, found in TRAIN for label in found})


def test_relevance_is_kept_and_what_is_not_relevant_is_no_target(tmp_path):
    write(tmp_path / "lbl.json", xmc_folders.lines([{"title": "a"}, {"title": "b"}, {"uid": 7}]))
    record = {"title": "x", "target_ind": [2, 0, 1, 2], "target_rel": [0.5, 0, 3, 2]}
    write(tmp_path / "trn.json", xmc_folders.lines([record, {"title": "y", "content": None, "target_ind": []}]))
    dataset = load_xmc(tmp_path)
    assert dataset.train.targets.toarray().tolist() == [[0, 3, 2], [0, 0, 0]]
    assert dataset.labels.texts == ["a", "b", ""] and dataset.labels.ids == ["0", "1", "7"]


def test_sparse_rows_keep_their_relevance(tmp_path):
    folder = xmc_folders.write_sparse(tmp_path)
    rows = ["0:2.5 3:1", "", "5:0.0", *[""] * 5]
    write(folder / "trn_X_Y.txt", "8 6\n" + "\n".join(rows) + "\n\n")
    assert load_xmc(folder).train.targets.toarray().tolist() == [[2.5, 0, 0, 1, 0, 0], *[[0] * 6] * 7]


def test_labels_alone(tmp_path):
    raw, sparse = xmc_folders.write_raw(tmp_path / "raw"), xmc_folders.write_sparse(tmp_path / "sparse")
    named, bare = (
        xmc_folders.write_jsonl(tmp_path / "named", labels="jsonl"),
        xmc_folders.write_jsonl(tmp_path / "bare"),
    )
    for path in (raw, raw / "lbl.json.gz", sparse, sparse / "raw" / "Y.txt"):
        assert load_labels(path).texts == LABELS
    assert load_labels(named).texts == load_labels(named / "labels.jsonl").texts == [f"all about {x}" for x in LABELS]
    assert load_labels(bare).texts == sorted(LABELS)
    assert load_labels(write(tmp_path / "mine.txt", "b\n\na\n")).ids == ["b", "a"]
    assert load_labels(write(tmp_path / "mine.jsonl", '{"text": "b"}\n{"label": "a"}')).texts == ["b", "a"]


BROKEN = {  # name → (layout, file, its new content or None to remove it, what the sentence says)
    "label out of range": (
        "raw",
        "trn.json",
        '{"title": "x", "target_ind": [6]}',
        r"trn\.json:1 names label 6, but there",
    ),
    "negative label": ("raw", "trn.json", '\n{"title": "x", "target_ind": [-1]}', r"trn\.json:2 names label -1"),
    "label is a name": ("raw", "tst.json", '{"title": "x", "target_ind": ["a"]}', r"tst\.json:1 has the entry 'a:1.0'"),
    "label is true": (
        "raw",
        "tst.json",
        '{"title": "x", "target_ind": [true]}',
        r"tst\.json:1 has the entry 'True:1.0'",
    ),
    "no targets": ("raw", "trn.json", '{"title": "x"}', r"trn\.json:1 needs a list target_ind"),
    "too few": ("raw", "trn.json", '{"title": "x", "target_ind": [1], "target_rel": []}', r"as many numbers"),
    "relevance": ("raw", "trn.json", '{"title": "x", "target_ind": [1], "target_rel": [NaN]}', r"'1:nan'"),
    "no text": (
        "raw",
        "trn.json",
        '{"titel": "x", "target_ind": [1]}',
        r"trn\.json:1 has no text \(fields found: titel",
    ),
    "text is a list": (
        "raw",
        "trn.json",
        '{"title": ["x"], "target_ind": [1]}',
        r"trn\.json:1 has a title that is not a string but list: mend it\.$",
    ),
    "mangled": ("raw", "lbl.json", '{"title": "x"}\n{"title": ', r"lbl\.json:2 is not valid JSON"),
    "no object": ("raw", "trn.json", "[1]", r"trn\.json:1 is JSON but not an object"),
    "no labels": ("raw", "lbl.json", "", r"lbl\.json holds no label"),
    "no points": ("raw", "trn.json", "\n", r"trn\.json holds no point"),
    "filter label": (
        "raw",
        "filter_labels_test.txt",
        "0 0\n1 6\n",
        r"filter_labels_test\.txt:2 names label 6, but .* 6",
    ),
    "filter point": (
        "raw",
        "filter_labels_test.txt",
        "4 0\n",
        r"filter_labels_test\.txt:1 names point 4, but there are 4",
    ),
    "filter line": ("raw", "filter_labels_train.txt", "4,0\n", r"filter_labels_train\.txt:1 is no filter pair"),
    "filter minus": ("raw", "filter_labels_train.txt", "-1 0\n", r"filter_labels_train\.txt:1 is no filter pair"),
    "no lbl": ("raw", "lbl.json", None, r"has no lbl\.json or lbl\.json\.gz"),
    "no trn": ("raw", "trn.json", None, r"has no trn\.json or trn\.json\.gz"),
    "no Y": ("sparse", "raw/Y.txt", None, r"has no Y\.txt"),
    "no train texts": ("sparse", "raw/trn_X.txt", None, r"has no trn_X\.txt"),
    "no train targets": ("sparse", "trn_X_Y.txt", None, r"neither trn_X_Y\.txt nor Y\.trn\.npz"),
    "header": ("sparse", "trn_X_Y.txt", "8 7\n", r"trn_X_Y\.txt:1 tells of 8 points and 7 labels, but .* 8 and 6"),
    "no header": ("sparse", "trn_X_Y.txt", "0:1.0 2:1.0\n", r"trn_X_Y\.txt:1 is no header"),
    "empty": ("sparse", "trn_X_Y.txt", "", r"trn_X_Y\.txt:1 is no header"),
    "too few rows": ("sparse", "trn_X_Y.txt", "8 6\n0:1\n", r"trn_X_Y\.txt tells of 8 rows, but 1 follow"),
    "too many rows": ("sparse", "tst_X_Y.txt", "4 6\n" + "0:1\n" * 5, r"tst_X_Y\.txt tells of 4 rows, but 5 follow"),
    "sparse range": ("sparse", "tst_X_Y.txt", "4 6\n\n6:1\n", r"tst_X_Y\.txt:3 names label 6"),
    "sparse entry": ("sparse", "tst_X_Y.txt", "4 6\n\n1\n", r"tst_X_Y\.txt:3 has the entry '1'"),
    "sparse value": ("sparse", "tst_X_Y.txt", "4 6\n\n1:x\n", r"tst_X_Y\.txt:3 has the entry '1:x'"),
    "old range": ("sparse", "tst_X_Y.txt", "4 9 6\n1,6 0:1\n", r"tst_X_Y\.txt:2 names label 6"),
    "unknown label": (
        "jsonl",
        "train.jsonl",
        '{"text": "x", "labels": ["fox"]}',
        r"train\.jsonl:1 names the label 'fox'",
    ),
    "labels a string": (
        "jsonl",
        "train.jsonl",
        '{"text": "x", "labels": "fox"}',
        r"train\.jsonl:1 needs a list labels",
    ),
    "half a surrogate pair": (
        "jsonl",
        "train.jsonl",
        '{"text": "x", "labels": ["\\ud800"]}',
        r"train\.jsonl:1 has a label with half a surrogate pair in it: mend it\.$",
    ),
    "no labels field": ("jsonl", "test.jsonl", '{"text": "x"}', r"test\.jsonl:1 needs a list labels"),
    "label twice": ("jsonl", "labels.txt", "a\nb\na\n", r"labels\.txt has the label 'a' twice"),
    "no train": ("jsonl", "train.jsonl", None, r"has no train\.jsonl"),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistakes_are_sentences(tmp_path, mistake):
    layout, file, content, sentence = BROKEN[mistake]
    if layout == "raw":
        xmc_folders.write_raw(tmp_path, end="")
    elif layout == "sparse":
        xmc_folders.write_sparse(tmp_path)
    else:
        xmc_folders.write_jsonl(tmp_path, labels="txt")
    (tmp_path / file).unlink()
    if content is not None:
        write(tmp_path / file, content)
    with pytest.raises(DataError, match=sentence) as raised:
        load_xmc(tmp_path)
    assert "\n" not in str(raised.value)


def test_mistakes_in_binary_files_are_sentences(tmp_path):
    folder = xmc_folders.write_sparse(tmp_path, npz=True)
    save_npz(folder / "Y.tst.npz", csr_matrix((4, 7)))
    with pytest.raises(DataError, match=r"Y\.tst\.npz has the shape \(4, 7\), but there are texts of 4 points and 6"):
        load_xmc(folder)
    for content in (b"", b"PK\x03\x04 damaged", b"no archive"):
        (folder / "Y.tst.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"Y\.tst\.npz holds no sparse matrix"):
            load_xmc(folder)


def test_what_is_no_data_set_is_a_sentence(tmp_path):
    for path, sentence in ((tmp_path / "none", "There is no folder or file"), (tmp_path, "is no XMC data set")):
        with pytest.raises(DataError, match=f"{sentence}.*: an XMC folder holds trn.json"):
            load_xmc(path)
    write(tmp_path / "train.jsonl", json.dumps({"text": "x", "labels": []}))
    with pytest.raises(DataError, match=r"No point of .*train\.jsonl has a label"):
        load_xmc(tmp_path)
    with pytest.raises(DataError, match=r"train\.jsonl:1 is a point, for it has labels"):
        load_labels(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match=r"has no text \(fields found: none\)"):
        load_labels(write(tmp_path / "mine.jsonl", "{}"))


COUNTS = {  # labels, never in trn, of these in tst, trn rows, pairs, tst rows, pairs, filter trn, tst
    "debian-related": (20252, 4156, 1349, 12096, 38090, 1571, 5014, 5500, 721),
    "debtags": (598, 11, 5, 21305, 78890, 2672, 10355, 0, 0),
    "reuters": (90, 2, 2, 6712, 8265, 1058, 1320, 0, 0),
}


@needs_shared
@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_the_real_data_sets(name):
    dataset = load_xmc(SHARED / "xmc" / name)
    report = dataset.report
    unseen = set(dataset.test.targets.indices.tolist()) - set(dataset.train.targets.indices.tolist())
    assert COUNTS[name] == (
        *(report.labels, report.labels_untrained, len(unseen)),
        *(report.points["train"], report.pairs["train"], report.points["test"], report.pairs["test"]),
        *(report.filtered["train"], report.filtered["test"]),
    )
    assert report.points_without_labels == {"train": 0, "test": 0}
