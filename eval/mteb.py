"""MTEB's protocol: tasks of the mteb package on an encoder of this project.

1. Tasks, data and scores are mteb's; this module hands it vectors, and nothing else.
2. A text gets the query prompt where mteb calls it a query, and the document prompt otherwise; mteb's own instructions
   are for instruction models and are not used.
3. Data come from a folder with copies of mteb's hub repositories, ``FOLDER/mteb/sts12-sts/test.jsonl.gz`` and so on,
   if one is given. Otherwise mteb takes them from the hub or, offline, from the hub's cache.

mteb is the optional extra ``[mteb]`` and is imported only when an evaluation starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from retriever.encoder.encoder import Encoder, Kind
from retriever.errors import DataError, RetrieverError

AVERAGE = "avg"


@dataclass(frozen=True)
class MtebResults:
    """What an evaluation found.

    Attributes:
        metrics: Task → its main score, a fraction; with several tasks also ``avg``, their mean.
        measures: Task → name of its main score, such as ``cosine_spearman``.
        scores: Task → split → subset → measure → value, everything mteb gave as a number.
        version: Of mteb.
    """

    metrics: dict[str, float]
    measures: dict[str, str]
    scores: dict[str, dict[str, dict[str, dict[str, float]]]]
    version: str

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain types that `json.dumps` takes."""
        return asdict(self)


class MtebEncoder:
    """An encoder as mteb wants it (its ``EncoderProtocol``): ``mteb.evaluate(MtebEncoder(encoder, "mine"), tasks)``.

    Args:
        encoder: The encoder.
        name: What mteb calls the model.
        dtype: Precision of encoding: ``float32``, ``bfloat16`` or ``auto``.
        progress: Called with the number of texts just encoded.

    Raises:
        RetrieverError: mteb is not installed.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        *,
        dtype: str = "float32",
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.encoder, self.dtype, self.progress = encoder, dtype, progress
        meta = _mteb("mteb.models.model_meta").ModelMeta
        self.mteb_model_meta: Any = meta.create_empty({"name": f"local/{Path(name).name}"})

    def encode(
        self,
        inputs: Iterable[Mapping[str, Sequence[str]]],
        *,
        prompt_type: Any = None,  # noqa: ANN401 — mteb's enum, or None for tasks without queries
        **_: Any,
    ) -> NDArray[np.float32]:
        """Vectors (N, D) of the texts in mteb's batches."""
        texts = [text for batch in inputs for text in batch["text"]]
        kind: Kind = "query" if getattr(prompt_type, "value", None) == "query" else "document"
        return self.encoder.encode(texts, kind, dtype=self.dtype, progress=self.progress)

    def similarity(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> Tensor:
        """All similarities (N, M) of vectors (N, D) and (M, D), as the model compares them."""
        found: Tensor = self.encoder.stack.similarity(first, second)
        return found

    def similarity_pairwise(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> Tensor:
        """The similarities (P,) of vectors (P, D) and their partners (P, D), as the model compares them."""
        found: Tensor = self.encoder.stack.similarity_pairwise(first, second)
        return found


def evaluate_mteb(
    encoder: Encoder,
    tasks: Sequence[str],
    *,
    data: str | Path | None = None,
    name: str = "model",
    dtype: str = "float32",
    progress: Callable[[int], None] | None = None,
) -> MtebResults:
    """Evaluate an encoder on tasks of mteb; nothing is read from or written to mteb's cache of results.

    Args:
        encoder: The encoder.
        tasks: Names such as ``STS12`` or ``SICK-R``.
        data: A folder with copies of mteb's hub repositories; those it lacks come from the hub or its cache.
        name: What mteb calls the model.
        dtype: Precision of encoding: ``float32``, ``bfloat16`` or ``auto``.
        progress: Called with the number of texts just encoded.

    Returns:
        The scores of every task.

    Raises:
        DataError: There is no such task, or its data cannot be loaded.
        RetrieverError: mteb is not installed.
    """
    mteb = _mteb("mteb")
    model = MtebEncoder(encoder, name, dtype=dtype, progress=progress)
    opened = [_open(mteb, task, None if data is None else Path(data)) for task in dict.fromkeys(tasks)]
    metrics, measures, scores = {}, {}, {}
    for task in opened:
        result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
        measures[result.task_name] = str(task.metadata.main_score)
        metrics[result.task_name] = float(result.get_score())
        scores[result.task_name] = {
            split: {subset["hf_subset"]: _numbers(subset) for subset in subsets}
            for split, subsets in result.scores.items()
        }
    if len(metrics) > 1:
        metrics[AVERAGE] = sum(metrics.values()) / len(metrics)
    return MtebResults(metrics, measures, scores, version("mteb"))


def _open(mteb: Any, name: str, data: Path | None) -> Any:  # noqa: ANN401 — mteb is optional and untyped here
    """A task of mteb with its data loaded, from the folder if that has them."""
    try:
        task = mteb.get_task(name)
    except KeyError as error:
        raise DataError(f"mteb has no task {name!r}: python -m mteb available-tasks lists them.") from error
    path = task.metadata.dataset["path"]
    if data is not None and (data / path).is_dir():
        dataset = {**task.metadata.dataset, "path": str(data / path)}
        task.metadata = task.metadata.model_copy(update={"dataset": dataset})
    try:
        task.load_data()
    except (OSError, ValueError) as error:
        raise DataError(
            f"The data of {name} cannot be loaded ({str(error).splitlines()[0]}): put a copy of the hub's {path} at "
            f"FOLDER/{path} and give --data FOLDER, or connect to the hub."
        ) from error
    return task


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items() if isinstance(value, (int, float))}


def _mteb(module: str) -> Any:  # noqa: ANN401 — a module that may be missing
    """A module of mteb."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise RetrieverError(
            "MTEB's tasks need mteb, which is missing (Python 3.11 or newer): pip install 'dense-retriever[mteb]'."
        ) from error
