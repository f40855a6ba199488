"""One small extreme multi-label data set in every layout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, save_npz

from retriever.data.xmc_points import XmcDataset, XmcLabels, XmcPoints, build_targets

LABELS = ["quick fox", "lazy dog", "document vectors", "close encoder", "naïve café", "running dogs"]
TRAIN = [
    ("the quick brown fox", [0]),
    ("a lazy dog and another dog", [1, 5]),
    ("documents and their vectors", [2, 3]),
    ("an encoder of vectors", [2]),
    ("nothing of this", []),
    ("dogs that run", [5, 1]),
    ("vectors of documents", [2]),
    ("fox and dog", [0, 1]),
]
TEST = [
    ("quick foxes jump over dogs", [0, 1]),
    ("café in vectors", [4, 2]),
    ("no label here", []),
    ("similar documents have close vectors", [2, 3]),
]
FILTER = {"train": [(0, 1), (3, 2)], "test": [(0, 5), (3, 1), (3, 0)]}


def dense(part):
    """The targets of a part as rows of 0 and 1."""
    return [[int(label in labels) for label in range(len(LABELS))] for _, labels in part]


def write(path, text):
    """Write a file, compressed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def lines(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write_filter(folder):
    for part, pairs in FILTER.items():
        write(folder / f"filter_labels_{part}.txt", "".join(f"{point} {label}\n" for point, label in pairs))


def write_raw(folder, end=".gz", labels=LABELS, train=TRAIN, test=TEST):
    """The raw layout; a text's first word is the title."""

    def described(uid, text):
        title, _, content = text.partition(" ")
        return {"uid": uid, "title": title, "content": content}

    folder = Path(folder)
    write(folder / f"lbl.json{end}", lines(described(f"l{row}", text) for row, text in enumerate(labels)))
    for stem, part in (("trn", train), ("tst", test)):
        records = (
            described(f"{stem}{row}", text) | {"target_ind": found, "target_rel": [1.0] * len(found)}
            for row, (text, found) in enumerate(part)
        )
        write(folder / f"{stem}.json{end}", lines(records))
    write_filter(folder)
    return folder


def write_sparse(folder, *, texts="raw", old=False, npz=False):
    """The sparse layout, with the text files in a folder below or beside, and targets of three kinds."""
    folder = Path(folder)
    write(folder / texts / "Y.txt", "".join(f"{label}\n" for label in LABELS))
    for stem, part in (("trn", TRAIN), ("tst", TEST)):
        write(folder / texts / f"{stem}_X.txt", "".join(f"{text}\n" for text, _ in part))
        if npz:
            save_npz(folder / f"Y.{stem}.npz", csr_matrix(dense(part), dtype=np.float32))
        elif old:
            rows = "".join(f"{','.join(map(str, labels))} 0:0.5 7:1.0\n" for _, labels in part)
            write(folder / f"{stem}_X_Y.txt", f"{len(part)} 9 {len(LABELS)}\n{rows}")
        else:
            rows = "".join(" ".join(f"{label}:1.0" for label in labels) + "\n" for _, labels in part)
            write(folder / f"{stem}_X_Y.txt", f"{len(part)} {len(LABELS)}\n{rows}")
    write_filter(folder)
    return folder


def write_jsonl(folder, *, labels=None, end=""):
    """The JSONL layout; `labels` writes a label file of that ending, so that rows are those of the other layouts."""
    folder = Path(folder)
    for name, part in (("train", TRAIN), ("test", TEST)):
        records = ({"text": text, "labels": [LABELS[label] for label in found]} for text, found in part)
        write(folder / f"{name}.jsonl{end}", lines(records))
    if labels == "txt":
        write(folder / "labels.txt", "".join(f"{label}\n" for label in LABELS))
    elif labels == "jsonl":
        write(folder / "labels.jsonl", lines({"id": label, "text": f"all about {label}"} for label in LABELS))
    if labels:
        write_filter(folder)
    return folder


def dataset(labels=LABELS, train=TRAIN, test=TEST, filtered=FILTER, name="tiny"):
    """The data set in memory."""

    def points(stem, part, pairs):
        entries = [(row, label) for row, (_, found) in enumerate(part) for label in found]
        rows, columns = zip(*entries, strict=True) if entries else ((), ())
        targets = build_targets(rows, columns, [1.0] * len(entries), (len(part), len(labels)))
        ids = [f"{stem}{row}" for row in range(len(part))]
        pairs = np.unique(np.array(pairs, np.int64).reshape(-1, 2), axis=0)
        return XmcPoints(ids, [text for text, _ in part], targets, pairs)

    return XmcDataset(
        name,
        XmcLabels([f"l{row}" for row in range(len(labels))], list(labels)),
        points("trn", train, filtered.get("train", [])),
        None if test is None else points("tst", test, filtered.get("test", [])),
    )
