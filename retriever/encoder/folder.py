"""Model folders: reading them, and writing them whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from torch import nn

from retriever.encoder.static import TermEmbedding
from retriever.errors import ModelError, OutputError
from retriever.files import replacing

OURS = f"{TermEmbedding.__module__}.{TermEmbedding.__qualname__}"


def load_stack(path_or_name: str | Path, device: str | None) -> tuple[SentenceTransformer, Path | None]:
    """Read a sentence-transformers folder or hub model.

    Only this project's own module class is trusted beside sentence-transformers' own: no code in a model runs.
    """
    folder = Path(path_or_name)
    if not folder.is_dir():
        if str(path_or_name).startswith((".", "/", "~")) or folder.is_file() or str(path_or_name).count("/") > 1:
            raise ModelError(f"There is no model folder {path_or_name}; train one with `retriever train`.")
        return _from_hub(str(path_or_name), device), None
    try:
        if _first_type(folder) == OURS:
            return _static_stack(folder, device), folder
        if not (folder / "modules.json").exists() and not (folder / "config.json").exists():
            raise ModelError(f"{folder} holds no model: neither modules.json nor config.json is there.")
        return SentenceTransformer(str(folder), device=device, local_files_only=True), folder
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"The model in {folder} cannot be read: {str(error).splitlines()[0]}") from error


def _from_hub(name: str, device: str | None) -> SentenceTransformer:
    try:
        return SentenceTransformer(name, device=device)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"There is no model folder {name}, and the hub has no such model or cannot be reached."
        ) from error


def _first_type(folder: Path) -> str:
    path = folder / "modules.json"
    return str(json.loads(path.read_text())[0]["type"]) if path.exists() else ""


def _static_stack(folder: Path, device: str | None) -> SentenceTransformer:
    types = [module["type"] for module in json.loads((folder / "modules.json").read_text())]
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    modules: list[nn.Module] = [TermEmbedding.load(str(folder))]
    modules += [Normalize() for name in types[1:] if name.endswith(".Normalize")]
    if len(modules) != len(types):
        raise ModelError(f"{folder / 'modules.json'} lists modules a static encoder cannot have: {', '.join(types[1:])}.")
    return SentenceTransformer(
        modules=modules,
        prompts=config.get("prompts"),
        similarity_fn_name=config.get("similarity_fn_name"),
        device=device,
    )


def save_stack(stack: SentenceTransformer, folder: Path, overwrite: bool) -> None:
    """Write a model folder atomically."""
    if folder.exists() and not overwrite:
        raise OutputError(f"{folder} exists already; choose another folder or pass --overwrite.")
    with replacing(folder) as temporary:
        stack.save(str(temporary), create_model_card=False)
