"""Extreme multi-label data sets, in the layouts they are exchanged in.

raw      trn.json  tst.json  lbl.json     {"uid", "title", "content", "target_ind": [label rows], "target_rel": [1.0 …]}
                                          a line; labels have no targets (the raw text of the LF data sets)
sparse   trn_X.txt  tst_X.txt  Y.txt      a text a line, also in a folder `raw`
         trn_X_Y.txt  tst_X_Y.txt         targets as `label:relevance` rows, or Y.trn.npz  Y.tst.npz
jsonl    train.jsonl  test.jsonl          {"text", "labels": ["a label", …]} a line, perhaps "title" and an id
         labels.jsonl  labels.txt         {"id", "text"} or a label a line; without either, the sorted labels that occur

All files may end in .gz, but .npz. The test part may be missing. Beside any of them `filter_labels_train.txt` and
`filter_labels_test.txt` hold `point label` pairs that are not to be predicted. A text is title and content joined by a
blank, for points and labels alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from scipy.sparse import csr_matrix

from retriever.data.fields import ID, TEXT, checked_id, checked_string
from retriever.data.sources import find_file
from retriever.data.xmc_files import Placed, TargetList, read_filter, read_npz, read_records, read_targets, read_texts
from retriever.data.xmc_points import XmcDataset, XmcLabels, XmcPoints, build_targets
from retriever.errors import DataError

PARTS = {"train": "trn", "test": "tst"}
LAYOUTS = (
    "an XMC folder holds trn.json, tst.json and lbl.json; or trn_X.txt, tst_X.txt and Y.txt with trn_X_Y.txt and "
    "tst_X_Y.txt; or train.jsonl and test.jsonl"
)
LABEL_ID = ("uid", *ID, "label")


def load_xmc(path: str | Path, *, titles_only: bool = False) -> XmcDataset:
    """Read an extreme multi-label data set.

    Args:
        path: A folder in one of the layouts of the module's header, or one JSONL file, which is the training part.
        titles_only: Leave out the content of points and labels that have a title and a content, as the LF-AmazonTitles
            data sets do.

    Returns:
        Labels, training part, and test part if there is one.

    Raises:
        DataError: A file is missing, empty or mangled, files disagree, or the layout is unknown.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return _read_jsonl(path.name.split(".")[0], path.parent, {"train": path}, titles_only, has_filter=False)
    if not path.is_dir():
        raise DataError(f"There is no folder or file {path}: {LAYOUTS}.")
    name = path.resolve().name
    if any(find_file(path, f"{stem}.json") for stem in ("trn", "tst", "lbl")):
        return _read_raw(name, path, titles_only)
    texts = _text_folder(path)
    if texts is not None:
        return _read_sparse(name, path, texts)
    files = {part: found for part in PARTS if (found := find_file(path, f"{part}.jsonl"))}
    if files:
        if "train" not in files:
            raise _missing(path, "train.jsonl")
        return _read_jsonl(name, path, files, titles_only)
    raise DataError(f"{path} is no XMC data set: {LAYOUTS}.")


def load_labels(path: str | Path, *, titles_only: bool = False) -> XmcLabels:
    """Read labels alone.

    Args:
        path: An XMC folder; or a label file: JSON lines (``.json``, ``.jsonl``), or a label a line.
        titles_only: As in :func:`load_xmc`.

    Raises:
        DataError: A file is missing, empty or mangled.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return _read_labels(path, titles_only)
    texts = _text_folder(path)
    places = ((path, "lbl.json"), (texts or path, "Y.txt"), (path, "labels.jsonl"), (path, "labels.txt"))
    found = next((file for folder, name in places if (file := find_file(folder, name))), None)
    return _read_labels(found, titles_only) if found else load_xmc(path, titles_only=titles_only).labels


def _read_raw(name: str, folder: Path, titles_only: bool) -> XmcDataset:
    labels = _read_labels(_required(folder, "lbl.json"), titles_only)
    parts = {}
    for part, stem in PARTS.items():
        path = find_file(folder, f"{stem}.json") if part == "test" else _required(folder, f"{stem}.json")
        if path is not None:
            found = TargetList(len(labels))
            ids, texts = _described(found.listen(read_records(path)), titles_only)
            parts[part] = _points(path, folder, part, ids, texts, found.matrix(len(ids)))
    return XmcDataset(name, labels, parts["train"], parts.get("test"))


def _read_sparse(name: str, folder: Path, texts: Path) -> XmcDataset:
    labels = _read_labels(_required(texts, "Y.txt"), titles_only=False)
    parts = {}
    for part, stem in PARTS.items():
        path = find_file(texts, f"{stem}_X.txt") if part == "test" else _required(texts, f"{stem}_X.txt")
        if path is None:
            continue
        found = read_texts(path)
        rows = next((file for place in (folder, texts) if (file := find_file(place, f"{stem}_X_Y.txt"))), None)
        matrix = folder / f"Y.{stem}.npz"
        if rows is None and not matrix.is_file():
            raise DataError(
                f"{folder} has neither {stem}_X_Y.txt nor Y.{stem}.npz, the labels of {path.name}: add one."
            )
        shape = len(found), len(labels)
        targets = read_targets(rows, *shape) if rows is not None else read_npz(matrix, *shape)
        parts[part] = _points(path, folder, part, [str(row) for row in range(len(found))], found, targets)
    return XmcDataset(name, labels, parts["train"], parts.get("test"))


def _read_jsonl(
    name: str, folder: Path, files: Mapping[str, Path], titles_only: bool, *, has_filter: bool = True
) -> XmcDataset:
    records = {part: list(read_records(path)) for part, path in files.items()}
    names = {part: [_label_names(place, record) for place, record in found] for part, found in records.items()}
    file = next((found for end in ("jsonl", "txt") if (found := find_file(folder, f"labels.{end}"))), None)
    if file is None:
        known = sorted({label for part in names.values() for point in part for label in point})
        labels = XmcLabels(known, known)
        if not known:
            raise DataError(f"No point of {', '.join(map(str, files.values()))} has a label: give some points labels.")
    else:
        labels = _read_labels(file, titles_only)
    row_of = {label: row for row, label in enumerate(labels.ids)}
    parts = {}
    for part, path in files.items():
        for (place, _), point in zip(records[part], names[part], strict=True):
            if unknown := [label for label in point if label not in row_of]:
                raise DataError(
                    f"{place} names the label {unknown[0]!r}, which {file} lacks: add it there, or mend it."
                )
        pairs = [(row, row_of[label]) for row, point in enumerate(names[part]) for label in point]
        rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
        targets = build_targets(rows, columns, [1.0] * len(pairs), (len(records[part]), len(labels)))
        ids, texts = _described(records[part], titles_only)
        parts[part] = _points(path, folder if has_filter else None, part, ids, texts, targets)
    return XmcDataset(name, labels, parts["train"], parts.get("test"))


def _read_labels(path: Path, titles_only: bool) -> XmcLabels:
    """Labels from JSON lines, or a label a line.

    Points call a label of lbl.json and Y.txt (raw and sparse layout) by its row, those of other files by its name.
    """
    is_named = not path.name.startswith(("lbl.", "Y."))
    if ".json" in path.name:
        ids, texts = _described(read_records(path), titles_only, "name" if is_named else "label")
    else:
        texts = [text for text in read_texts(path) if text or not is_named]
        ids = texts if is_named else [str(row) for row in range(len(texts))]
    if not ids:
        raise DataError(f"{path} holds no label: write one a line.")
    if is_named and len(set(ids)) < len(ids):
        repeated = next(label for label, count in Counter(ids).items() if count > 1)
        raise DataError(f"{path} has the label {repeated!r} twice: name every label once.")
    return XmcLabels(ids, texts)


def _points(
    path: Path, folder: Path | None, part: str, ids: list[str], texts: list[str], targets: csr_matrix
) -> XmcPoints:
    """The points of a file, with the filter pairs that lie beside it."""
    if not ids:
        raise DataError(f"{path} holds no point: give it at least one line.")
    file = None if folder is None else find_file(folder, f"filter_labels_{part}.txt")
    return XmcPoints(ids, texts, targets, read_filter(file, *targets.shape))


def _described(
    records: Iterable[Placed], titles_only: bool, role: Literal["point", "label", "name"] = "point"
) -> tuple[list[str], list[str]]:
    """Ids and texts of records.

    Without an id, the row is one, but a name is its own. Without a text, a label's is empty, and a name is its own.
    """
    ids, texts = [], []
    for row, (place, record) in enumerate(records):
        known = next((field for field in LABEL_ID if field in record), None)
        field = next((field for field in TEXT if field in record), None)
        title, text = _string(record, "title", place), _string(record, field, place)
        if field is None and "title" not in record and (role == "point" or (role == "name" and known is None)):
            raise DataError(f"{place} has no text (fields found: {', '.join(record) or 'none'}): name it text.")
        if role == "name" and "labels" in record:
            raise DataError(
                f"{place} is a point, for it has labels: give the file of the labels, or the data set's folder."
            )
        described = title if titles_only and title else " ".join(filter(None, (title, text)))
        missing = str(row) if role != "name" else described
        value, field = (record[known], known) if known else (missing, "text")
        ids.append(checked_id(value, field, place))
        texts.append(described or (ids[-1] if role == "name" else ""))
    return ids, texts


def _string(record: Mapping[str, Any], field: str | None, place: str) -> str:
    value = record.get(field) if field else None
    return "" if value is None else checked_string(value, field, place).strip()


def _label_names(place: str, record: Mapping[str, Any]) -> Sequence[str]:
    found = record.get("labels")
    if not isinstance(found, list) or not all(isinstance(label, str) and label.strip() for label in found):
        raise DataError(f"{place} needs a list labels of label names, which are strings; [] where a point has none.")
    return [checked_string(label, "label", place) for label in found]


def _text_folder(folder: Path) -> Path | None:
    """Where the text files of the sparse layout lie."""
    names = ("Y.txt", "trn_X.txt", "tst_X.txt")
    return next((place for place in (folder / "raw", folder) if any(find_file(place, name) for name in names)), None)


def _required(folder: Path, name: str) -> Path:
    found = find_file(folder, name)
    if found is None:
        raise _missing(folder, name)
    return found


def _missing(folder: Path, name: str) -> DataError:
    return DataError(f"{folder} has no {name} or {name}.gz: {LAYOUTS}.")
