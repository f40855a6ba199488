"""The model card: the README.md in every saved model folder."""

from __future__ import annotations

import json

from sentence_transformers import SentenceTransformer

from retriever.encoder.static import TermEmbedding

CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, dense-retrieval]
---

# A dense-retrieval encoder

It turns a text into {dimension} numbers; texts of like meaning are close by {similarity} similarity.

- modules: {modules}
- longest text: {limit}
- prompts: {prompts}

With `pip install dense-retriever`:

    from retriever.encoder import Encoder
    vectors = Encoder.load("path/to/this/folder").encode(["a text"], kind="document")

With `pip install {packages}`:

    from sentence_transformers import SentenceTransformer
    vectors = SentenceTransformer("path/to/this/folder"{flags}).encode_document(["a text"])
"""


def model_card(stack: SentenceTransformer) -> str:
    """What the model is and how to load it, as Markdown."""
    ours = any(isinstance(module, TermEmbedding) for module in stack)
    limit = stack.max_seq_length
    prompts = {kind: text for kind, text in stack.prompts.items() if text}
    return CARD.format(
        dimension=stack.get_embedding_dimension(),
        similarity=stack.similarity_fn_name,
        modules=" → ".join(type(module).__name__ for module in stack),
        limit="any" if limit is None or limit == float("inf") else f"{limit} tokens",
        prompts=json.dumps(prompts, ensure_ascii=False) if prompts else "none",
        packages="sentence-transformers dense-retriever" if ours else "sentence-transformers",
        flags=", trust_remote_code=True" if ours else "",
    )
