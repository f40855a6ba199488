"""The fingerprint of an encoder: a hash of everything that a vector depends on.

It is taken over the settings of the modules, the tokenizer, the prompts, the length limit, the similarity and the
weights in fp32, and not over what a folder also holds: names, versions, places.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from sentence_transformers.base.modules.module import Module
from sentence_transformers.base.modules.transformer import Transformer
from torch import nn

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

BOOKKEEPING = {"_name_or_path", "architectures", "dtype", "transformers_version"}  # of a config, not of its output


def fingerprint(encoder: Encoder) -> str:
    """See :attr:`retriever.encoder.Encoder.fingerprint`."""
    digest = hashlib.sha256()
    settings = [type(m).__name__ + json.dumps(_settings(m), sort_keys=True, default=str) for m in encoder.stack]
    inputs = [part.fingerprint for part in encoder.parts] or [encoder.text_tokenizer.fingerprint]
    for text in (*settings, *inputs, str(encoder.limit), encoder.similarity):
        digest.update(text.encode())
    digest.update(json.dumps(dict(encoder.prompts), sort_keys=True).encode())
    for name, tensor in sorted(encoder.stack.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).data)
    return digest.hexdigest()


def _settings(module: nn.Module) -> dict[str, Any]:
    """The saved settings of a module that decide its output."""
    if isinstance(module, Transformer):
        return {name: value for name, value in module.config.to_dict().items() if name not in BOOKKEEPING}
    settings: dict[str, Any] = module.get_config_dict() if isinstance(module, Module) else {}
    return settings
