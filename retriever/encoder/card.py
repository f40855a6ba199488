"""The model card: the README.md in every saved model folder."""

from __future__ import annotations

import json

from sentence_transformers import SentenceTransformer

from retriever.encoder.joined import JoinedEmbedding

CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, dense-retrieval]
---

# A dense-retrieval encoder

It turns a text into {dimension} numbers; texts of like meaning are close by {similarity} similarity.

- modules: {modules}{parts}
- longest text: {limit}
- prompts: {prompts}

With `pip install dense-retriever`:

    from retriever.encoder import Encoder
    vectors = Encoder.load("path/to/this/folder").encode(["a text"], kind="document")

With `pip install {packages}`:

    from sentence_transformers import SentenceTransformer
    vectors = SentenceTransformer("path/to/this/folder"{flags}).encode_document(["a text"])
"""

JOINED = """
{listed}
- joined: a cosine is the weighted mean of the parts' cosines; sentence-transformers' own modules cannot put two
  encoders side by side, which is why the second program below needs `dense-retriever`"""


def model_card(stack: SentenceTransformer) -> str:
    """What the model is and how to load it, as Markdown."""
    ours = any(type(module).__module__.startswith("retriever.") for module in stack)
    limit = stack.max_seq_length
    return CARD.format(
        dimension=stack.get_embedding_dimension(),
        similarity=stack.similarity_fn_name,
        modules=_modules(stack),
        parts=_parts(stack[0]) if isinstance(stack[0], JoinedEmbedding) else "",
        limit="any" if limit is None or limit == float("inf") else f"{limit} tokens",
        prompts=_prompts(stack),
        packages="sentence-transformers dense-retriever" if ours else "sentence-transformers",
        flags=", trust_remote_code=True" if ours else "",
    )


def _modules(stack: SentenceTransformer) -> str:
    return " → ".join(type(module).__name__ for module in stack)


def _prompts(stack: SentenceTransformer) -> str:
    prompts = {kind: text for kind, text in stack.prompts.items() if text}
    return json.dumps(prompts, ensure_ascii=False) if prompts else "none"


def _parts(joined: JoinedEmbedding) -> str:
    """A line for each part, and why they need this package."""
    lines = [
        f"- part {number}: weight {weight:g}, {part.get_embedding_dimension()} numbers, {_modules(part)}, prompts: "
        f"{_prompts(part)}"
        for number, (part, weight) in enumerate(zip(joined.stacks, joined.weights, strict=True))
    ]
    return JOINED.format(listed="\n".join(lines))
