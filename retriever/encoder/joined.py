"""Several encoders as one: weighted concatenation of their unit vectors.

1. Each part turns the text into its own vector u_i, with its own tokenizer, prompts and length limit.
2. The vectors get length 1 and are put side by side: ``v = [√w_1 · u_1 ; √w_2 · u_2 ; …]`` with ``Σ w_i = 1``.
3. v has length 1 too, and the cosine of two such vectors is ``Σ w_i · cos_i``: the weighted mean of the parts' cosines,
   found by one search in one index.

A part that knows nothing of a text (its vector is zero) is left out of it: v is what remains, at length 1.

sentence-transformers' own modules cannot express this: they run one after the other over the ids of one tokenizer and
normalise only the final vector.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modality_types import Modality
from sentence_transformers.base.modules.input_module import InputModule
from torch import Tensor, nn

from retriever.data.ragged import Ragged
from retriever.encoder.loop import Report
from retriever.errors import ModelError

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

ROUNDING = 1e-6  # by which weights may miss a sum of 1


class JoinedEmbedding(InputModule):
    """Whole module stacks side by side; their unit vectors are weighted and concatenated.

    A sentence-transformers input module, alone in its stack. ``SentenceTransformer(folder, trust_remote_code=True)``
    opens its folder, as long as this package is installed; ``encode_query`` and ``encode_document`` apply each part's
    prompts, which plain ``encode`` has no way to choose from.

    Args:
        parts: The module stacks, used as they are and not copied.
        weights: Share of each part's cosine in the joined cosine.

    Raises:
        ModelError: There are fewer than two parts, or the weights are not one share for each part with a sum of 1.
    """

    forward_kwargs: set[str] = {"task"}  # noqa: RUF012 — declared so by the base class

    def __init__(self, parts: Sequence[SentenceTransformer], weights: Sequence[float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        check_weights(weights, len(parts))
        self.parts = nn.ModuleList(parts)
        self.weights = [float(weight) for weight in weights]

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, task: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Texts → features of every part, as sentence-transformers calls it; ``task`` picks the parts' prompts."""
        texts = [prompt + text for text in inputs] if prompt else list(inputs)
        features: dict[str, Any] = {}
        for number, part in enumerate(self.stacks):
            own = part.preprocess(texts, prompt=part.prompts.get(task or "") or None, task=task, **kwargs)
            features |= {f"{number}.{name}": value for name, value in own.items()}
        return features

    def forward(self, features: dict[str, Any], task: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Add ``sentence_embedding`` (N, D), D being the sum of the parts' widths, to the features."""
        vectors = []
        for number, part in enumerate(self.stacks):
            prefix = f"{number}."
            own = {name.removeprefix(prefix): value for name, value in features.items() if name.startswith(prefix)}
            vectors.append(part(own, task=task)["sentence_embedding"])
        features["sentence_embedding"] = join(vectors, self.weights)
        return features

    def get_embedding_dimension(self) -> int:
        """D."""
        return sum(int(part.get_embedding_dimension() or 0) for part in self.stacks)

    @property
    def modalities(self) -> list[Modality]:
        """Text only."""
        return ["text"]

    @property
    def max_seq_length(self) -> float:
        """Tokens that the most short-sighted part reads."""
        return min(part.max_seq_length or math.inf for part in self.stacks)

    def get_config_dict(self) -> dict[str, Any]:
        """The settings saved in ``config.json``."""
        return {"weights": self.weights}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write ``config.json``, and each part as a model folder ``part_0``, ``part_1`` … of its own."""
        folder = Path(output_path)
        (folder / "config.json").write_text(json.dumps(self.get_config_dict(), indent=2) + "\n")
        for number, part in enumerate(self.stacks):
            part.save(str(folder / _part_name(number)), create_model_card=False)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *args: Any, **kwargs: Any) -> JoinedEmbedding:
        """Read what :meth:`save` wrote, from a local folder or the hub."""
        from retriever.encoder.folder import load_stack  # which imports this module

        hub = {
            name: kwargs[name] for name in ("token", "cache_folder", "revision", "local_files_only") if name in kwargs
        }
        folder = cls.load_dir_path(model_name_or_path, subfolder=subfolder, **hub)
        if folder is None:
            raise FileNotFoundError(f"{model_name_or_path} is missing")
        weights = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["weights"]
        parts = [load_stack(Path(folder) / _part_name(number), "cpu")[0] for number in range(len(weights))]
        return cls(parts, weights)

    @property
    def stacks(self) -> list[SentenceTransformer]:
        """The parts, in order."""
        return cast("list[SentenceTransformer]", list(self.parts))


class PartTokenizers:
    """Stands where other encoders have their tokenizer; whatever is asked of it, it says that there are several."""

    def collate(self, tokens: Ragged) -> dict[str, Tensor]:
        """There is none.

        Raises:
            ModelError: Always.
        """
        _refuse()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 — any member of a tokenizer
        if name.startswith("__"):  # what Python itself looks for, to copy an object for one
            raise AttributeError(name)
        _refuse()


def join(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted concatenation of unit vectors.

    Args:
        vectors: Of each part, (N, D_i), of any length.
        weights: Of each part.

    Returns:
        Vectors (N, Σ D_i) of length 1; a text that all parts of positive weight have a zero vector for stays zero.
    """
    units = [math.sqrt(weight) * F.normalize(part, dim=-1) for part, weight in zip(vectors, weights, strict=True)]
    return F.normalize(torch.cat(units, dim=-1), dim=-1)


def encode_parts(
    encoder: Encoder,
    texts: Sequence[str],
    kind: Literal["query", "document"],
    batch_tokens: int | None,
    dtype: str,
    progress: Callable[[int], None] | None,
) -> tuple[NDArray[np.float32], Report]:
    """Each part's own encode loop over all texts, then the concatenation; see :meth:`Encoder.encode`.

    Returns:
        Vectors (N, D) and the report: tokens of all parts together, and truncated texts of the part that cut the most.
    """
    prompt = encoder.prompts.get(kind, "")
    prompted = [prompt + text for text in texts] if prompt else texts
    shared = None if progress is None else _shared(progress, len(encoder.parts))
    found, reports = [], []
    for part in encoder.parts:
        found.append(part.encode(prompted, kind, batch_tokens=batch_tokens, dtype=dtype, progress=shared))
        reports.append(part.report or Report(0, 0, 0))
    module = encoder.stack[0]
    assert isinstance(module, JoinedEmbedding)
    vectors: NDArray[np.float32] = join([torch.from_numpy(part) for part in found], module.weights).numpy()
    tokens, truncated = sum(report.tokens for report in reports), max(report.truncated for report in reports)
    return vectors, Report(len(texts), tokens, truncated)


def check_weights(weights: Sequence[float], parts: int) -> None:
    """See that there is a weight for each of several parts, and that they are shares of a whole.

    Raises:
        ModelError: They are not.
    """
    if parts < 2:
        raise ModelError(f"A joined encoder needs at least two parts, not {parts}; give another encoder.")
    if len(weights) != parts:
        raise ModelError(f"There are {len(weights)} weights for {parts} encoders; give one weight for each.")
    shares = ", ".join(f"{weight:g}" for weight in weights)
    if not all(0 <= weight <= 1 for weight in weights) or abs(sum(weights) - 1) > ROUNDING:
        raise ModelError(f"The weights of a joined encoder are {shares}; give numbers from 0 to 1 with a sum of 1.")


def _shared(progress: Callable[[int], None], parts: int) -> Callable[[int], None]:
    """Progress of one part out of several → progress of the whole: N texts are told when N · parts have been read."""
    read = 0

    def advance(count: int) -> None:
        nonlocal read
        before, read = read // parts, read + count
        if read // parts > before:
            progress(read // parts - before)

    return advance


def _part_name(number: int) -> str:
    return f"part_{number}"


def _refuse() -> NoReturn:
    raise ModelError(
        "A joined encoder has a tokenizer for each of its parts, so it encodes texts but takes no token ids and cannot "
        "be trained; train a part and join again with `retriever boost`."
    )
