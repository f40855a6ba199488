"""Model folders: reading them, and writing them whole or not at all.

A folder is sentence-transformers' own (``modules.json``, ``config_sentence_transformers.json``, weights as safetensors)
with a model card beside it. A bare Hugging Face encoder (``config.json`` only) opens with mean pooling and dot product,
and without normalisation: retrieval encoders published in this form, such as Contriever, are trained so. Whatever the
libraries throw at a damaged folder becomes one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.module import Module
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Router,
    WeightedLayerPooling,
    WordWeights,
)
from sentence_transformers.util import is_sentence_transformer_model
from torch import nn

from retriever.encoder.card import model_card
from retriever.encoder.device import check_device
from retriever.encoder.joined import JoinedEmbedding
from retriever.encoder.own_tokens import OwnTokens
from retriever.encoder.static import TermEmbedding
from retriever.encoder.transformer import without_bars
from retriever.errors import ModelError, OutputError
from retriever.files import replacing

FOLLOWERS: dict[str, type[Module]] = {"Dense": Dense, "Normalize": Normalize, "Router": Router}
OURS = {f"{module.__module__}.{module.__qualname__}": module for module in (TermEmbedding, JoinedEmbedding)}


def load_stack(path_or_name: str | Path, device: str | None) -> tuple[SentenceTransformer, Path | None]:
    """Read a sentence-transformers folder or hub model; its weights are held in fp32.

    Only this project's own module classes are trusted beside sentence-transformers' own: no code in a model runs.

    Raises:
        ModelError: There is no such model, its files cannot be read, or the device cannot be used.
    """
    check_device(device)
    folder = locate(path_or_name)
    with _reading(path_or_name, folder):
        if folder is not None and OURS.keys() & _types(folder)[:1]:
            stack = _own_stack(folder, device)
        else:
            stack = _stack(str(folder or path_or_name), device, local=folder is not None)
    for module in stack:
        if isinstance(module, (WeightedLayerPooling, WordWeights)):  # their weights are the architecture's, not trained
            module.requires_grad_(False)
    return stack.float(), folder


def load_transformer(path_or_name: str | Path, max_length: int | None) -> Transformer:
    """Read the bare transformer of a folder or hub model.

    Raises:
        ModelError: There is no such model, its files cannot be read, or it has fewer positions than ``max_length``.
    """
    folder = locate(path_or_name)
    with _reading(path_or_name, folder):
        transformer: Transformer = Transformer(str(folder or path_or_name))
    if max_length is not None:
        limit_length(transformer, max_length)
    return transformer.float()


def refuse_cut(stack: SentenceTransformer) -> None:
    """See that all numbers of a vector count, as they do for the layers, indexes and losses behind it.

    Raises:
        ModelError: Some are to be cut off.
    """
    if stack.truncate_dim is not None:
        raise ModelError(
            f"The model is to cut its vectors to {stack.truncate_dim} numbers; open and save it in "
            "sentence-transformers with truncate_dim None."
        )


def limit_length(module: nn.Module, max_length: int) -> None:
    """Let a transformer read so many tokens of a text, special ones included; saved with it.

    Raises:
        ModelError: It is no transformer, or has fewer positions.
    """
    if not isinstance(module, Transformer):
        raise ModelError(f"max_length is {max_length}, but the model is no transformer; leave max_length out.")
    positions = int(getattr(module.config, "max_position_embeddings", -1))
    if 0 < positions < max_length:
        raise ModelError(f"max_length is {max_length}, but the model has only {positions} positions; lower it.")
    module.max_seq_length = int(max_length)  # numpy's integers are no JSON


def locate(path_or_name: str | Path) -> Path | None:
    """The model folder, or None for what can only be a hub name.

    Raises:
        ModelError: It is a path, but not of a folder that holds a model.
    """
    folder = Path(path_or_name).expanduser()
    if folder.is_dir():
        if not any((folder / name).exists() for name in ("modules.json", "config.json")):
            raise ModelError(f"{folder} holds no model: neither modules.json nor config.json; give another folder.")
        return folder
    if str(path_or_name).startswith((".", "/", "~")) or folder.exists() or len(folder.parts) > 2:
        raise ModelError(f"There is no model folder {path_or_name}; train one with `retriever train`.")
    return None


def check_free(folder: Path, overwrite: bool) -> None:
    """See that a model can be written to a folder without taking anything from the user that is not asked for.

    Raises:
        OutputError: It exists already (and ``overwrite`` is off), or holds something else than a model.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / "modules.json").exists()):
        raise OutputError(f"{folder} holds something else than a model; choose another folder.")
    if not overwrite:
        raise OutputError(f"{folder} exists already; choose another folder or pass --overwrite.")


def save_stack(stack: SentenceTransformer, folder: Path, overwrite: bool, own_tokens: OwnTokens | None) -> None:
    """Write a model folder with its card and the tokens of labels, whole or not at all.

    Raises:
        OutputError: The folder exists already (and ``overwrite`` is off), holds something else than a model, or cannot
            be written.
    """
    check_free(folder, overwrite)
    with replacing(folder) as temporary, without_bars():
        stack.save(str(temporary), create_model_card=False)
        (temporary / "README.md").write_text(model_card(stack), encoding="utf-8")
        if own_tokens is not None:
            own_tokens.save(temporary)
        for path in temporary.rglob("*.safetensors"):  # written for the owner's eyes only, unlike the rest
            path.chmod((temporary / "README.md").stat().st_mode)


@contextmanager
def _reading(path_or_name: str | Path, folder: Path | None) -> Iterator[None]:
    """No progress bars for local files, and one sentence for whatever goes wrong.

    Weights that the files lack (a pooler that nothing uses) are drawn with a fixed seed: the same model at every look.
    """
    try:
        with torch.random.fork_rng(devices=[]), nullcontext() if folder is None else without_bars():
            torch.manual_seed(0)
            yield
    except Exception as error:  # tokenizers raises the base class itself
        if folder is None:
            message = f"There is no model folder {path_or_name}, and the hub has no such model or cannot be reached."
        else:
            reason = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")
            message = f"The model in {folder} cannot be read ({reason}); copy it again or train it anew."
        raise ModelError(message) from error


def _types(folder: Path) -> list[str]:
    """The module classes of a folder; none for a bare transformer."""
    path = folder / "modules.json"
    return [str(module["type"]) for module in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def _stack(source: str, device: str | None, local: bool) -> SentenceTransformer:
    """A stack of sentence-transformers' own modules, or around a bare transformer."""
    bare = not is_sentence_transformer_model(source, local_files_only=local)
    return SentenceTransformer(
        source, device=device, local_files_only=local, similarity_fn_name="dot" if bare else None
    )


def _last(module: dict[str, str]) -> str:
    """The class name of an entry of ``modules.json``."""
    return module["type"].rpartition(".")[2]


def _own_stack(folder: Path, device: str | None) -> SentenceTransformer:
    """A stack that starts with a module of ours; only dense layers, maps of queries and normalisations can follow."""
    config = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    first, *rest = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules: list[nn.Module] = [OURS[first["type"]].load(str(folder))]
    modules += [FOLLOWERS[_last(m)].load(str(folder), subfolder=m["path"]) for m in rest if _last(m) in FOLLOWERS]
    if len(modules) != 1 + len(rest):
        raise ValueError(f"modules.json lists what cannot follow {first['type']}: {', '.join(m['type'] for m in rest)}")
    return SentenceTransformer(
        modules=modules,
        prompts=config.get("prompts"),
        similarity_fn_name=config.get("similarity_fn_name"),
        truncate_dim=config.get("truncate_dim"),
        device=device,
    )
