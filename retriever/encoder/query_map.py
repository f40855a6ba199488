"""A linear map of queries alone: what is asked for need not resemble the question.

1. Queries and documents go through the same encoder. A query's vector is then multiplied by a matrix W, a document's is
   left as it is, and both are normalised where the encoder normalises.
2. The score becomes the bilinear form ``qᵀ Wᵀ d``: which traits of a query go with which traits of a document is learnt
   (Bai et al. 2009, "Supervised semantic indexing", learn such a form between bags of words). W begins as the identity.
3. It is a ``Router`` of sentence-transformers, whose ``encode_query`` and ``encode_document`` give the same vectors.
"""

from __future__ import annotations

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Router
from torch import nn

from retriever.errors import ModelError


def add_query_map(stack: SentenceTransformer) -> SentenceTransformer:
    """The modules of the stack with a map of queries before the final normalisation, if there is one.

    Args:
        stack: Of D dimensions; its modules become part of the new stack, its prompts and its similarity stay.

    Raises:
        ModelError: It treats queries apart already.
    """
    if has_query_map(stack):
        raise ModelError("The model has a map of queries already; leave encoder.query_map out to train it further.")
    width = int(stack.get_embedding_dimension() or 0)
    layer = Dense(width, width, bias=False, activation_function=None, init_weight=torch.eye(width))
    modules: list[nn.Module] = list(stack)
    place = len(modules) - isinstance(modules[-1], Normalize)
    modules.insert(place, Router.for_query_document([layer], []))
    changed = SentenceTransformer(
        modules=modules, similarity_fn_name=stack.similarity_fn_name, device=str(stack.device)
    )
    changed.prompts = stack.prompts
    return changed


def has_query_map(stack: SentenceTransformer) -> bool:
    """Whether queries and documents take different ways."""
    return any(isinstance(module, Router) for module in stack)
