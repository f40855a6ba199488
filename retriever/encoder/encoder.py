"""The encoder: a sentence-transformers module stack behind one small face.

What is saved opens unchanged in sentence-transformers, and what sentence-transformers saves opens here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from torch import Tensor, nn

from retriever.data.ragged import Ragged
from retriever.data.tokenizers import SubwordTokenizer, TextTokenizer, WordTokenizer
from retriever.encoder.fingerprint import fingerprint
from retriever.encoder.folder import limit_length, load_stack, load_transformer, refuse_cut, save_stack
from retriever.encoder.joined import JoinedEmbedding, PartTokenizers, encode_parts
from retriever.encoder.loop import Report, check_input, embed, encode
from retriever.encoder.normalised import normalise_input
from retriever.encoder.own_tokens import OwnTokens
from retriever.encoder.query_map import add_query_map, has_query_map
from retriever.encoder.static import Frequency, TermEmbedding, collate_mean, idf
from retriever.encoder.template import template_modules
from retriever.encoder.transformer import PoolingName, TransformerCollator, pooling_modules, small_transformer
from retriever.errors import ModelError

Kind = Literal["query", "document"]
Similarity = Literal["cosine", "dot"]


class Encoder:
    """Texts → vectors.

    Build one with :meth:`load`, :meth:`static`, :meth:`small`, :meth:`pretrained` or :meth:`joined`.

    Args:
        stack: The module stack; its first module is a transformer, a static table or several encoders joined.
        path: The folder that holds it as it is, if any.
        own_tokens: Tokens of labels, if it has any; see :mod:`retriever.encoder.own_tokens`.

    Raises:
        ModelError: The first module is of a family this project does not know, or the vectors are to be cut.
    """

    def __init__(
        self, stack: SentenceTransformer, path: Path | None = None, own_tokens: OwnTokens | None = None
    ) -> None:
        refuse_cut(stack)
        self.stack = stack.eval()
        # without a cycle, the weights go with the last reference and wait for no garbage collector
        stack.model_card_data.model = cast("SentenceTransformer", weakref.proxy(stack))
        self.path, self.own_tokens = path, own_tokens  # after the stack, whose prompts the path goes with
        self.report: Report | None = None
        self.truncated = 0  # texts cut by all calls of encode so far
        first = stack[0]
        self.text_tokenizer: TextTokenizer
        self.limit: int | None = None  # tokens of text that fit; None for a bag of tokens
        self.frame = 0  # special tokens put around a text
        self.parts: list[Encoder] = []  # of a joined encoder
        self.sided = has_query_map(stack)  # queries and documents take different ways
        if isinstance(first, JoinedEmbedding):
            refusing = PartTokenizers()
            self.text_tokenizer, self.collate = cast("TextTokenizer", refusing), refusing.collate
            self.parts = [Encoder(part) for part in first.stacks]
            self.limit = min((part.limit for part in self.parts if part.limit is not None), default=None)
        elif isinstance(first, TermEmbedding):
            self.text_tokenizer, self.collate = first.text_tokenizer, first.collate
        elif isinstance(first, StaticEmbedding):
            self.text_tokenizer, self.collate = SubwordTokenizer(first.tokenizer), collate_mean
        elif isinstance(first, Transformer):
            collator = TransformerCollator(first)
            self.text_tokenizer, self.collate = collator.text_tokenizer, collator.collate
            self.limit, self.frame = collator.limit, collator.frame
        else:
            raise ModelError(
                f"The model starts with a {type(first).__name__} module; only Transformer, StaticEmbedding and "
                "TermEmbedding encoders, and such encoders joined, are supported."
            )

    @classmethod
    def load(
        cls,
        path_or_name: str | Path,
        device: str | None = None,
        *,
        normalise_text: bool = False,
        max_length: int | None = None,
    ) -> Encoder:
        """Open a model folder or a hub name.

        Args:
            path_or_name: The model.
            device: Such as ``cpu`` or ``cuda:0``; the best there is, if omitted.
            normalise_text: Put the rules of :mod:`retriever.data.normalise` into its tokenizer, and into what is saved.
            max_length: Tokens that are read of a text, special ones included; as many as the model has if omitted.

        Raises:
            ModelError: There is no such model, its files cannot be read, its tokenizer cannot take the rules, or it
                cannot read ``max_length`` tokens.
        """
        stack, path = load_stack(path_or_name, device)
        encoder = cls(stack, path, None if path is None else OwnTokens.load(path))
        if max_length is None and not normalise_text:
            return encoder
        if max_length is not None:
            limit_length(stack[0], max_length)
        if normalise_text:
            normalise_input(stack)
        changed = cls(stack, own_tokens=encoder.own_tokens)
        if changed.limit == encoder.limit and not normalise_text:
            changed.path = path
        return changed

    @classmethod
    def static(
        cls,
        tokenizer: WordTokenizer | SubwordTokenizer,
        *,
        dimension: int = 512,
        frequency: Frequency = "log",
        idf_power: float = 0.5,
        learn_weights: bool = False,
        normalise: bool = True,
        seed: int = 0,
    ) -> Encoder:
        """A static encoder with a random table.

        Args:
            tokenizer: Words of the corpus, or sub-words.
            dimension: D.
            frequency: ``log`` for 1 + log tf, ``count`` for the plain token mean.
            idf_power: Token weights are idf to this power (words only; sub-words start at 1).
            learn_weights: Train the token weights.
            normalise: End with an L2 normalisation and compare by cosine; otherwise by dot product.
            seed: Of the random table.
        """
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(tokenizer.size, dimension, generator=generator) / dimension**0.5
        weights = torch.from_numpy(idf(tokenizer, idf_power)) if isinstance(tokenizer, WordTokenizer) else None
        module = TermEmbedding(tokenizer, table, weights, frequency, learn_weights)
        return cls._assemble([module], normalise)

    @classmethod
    def small(
        cls,
        tokenizer: SubwordTokenizer,
        *,
        dimension: int = 256,
        layers: int = 4,
        heads: int = 4,
        max_length: int = 256,
        dropout: float = 0.1,
        pooling: PoolingName = "mean",
        normalise: bool = True,
        seed: int = 0,
    ) -> Encoder:
        """A small BERT with random weights, over a tokenizer trained on the corpus."""
        transformer = small_transformer(
            tokenizer,
            dimension=dimension,
            layers=layers,
            heads=heads,
            max_length=max_length,
            dropout=dropout,
            seed=seed,
        )
        return cls._assemble([transformer, *pooling_modules(transformer, pooling)], normalise)

    @classmethod
    def pretrained(
        cls,
        path_or_name: str | Path,
        *,
        pooling: PoolingName = "mean",
        normalise: bool = False,
        max_length: int | None = None,
        template: str | None = None,
    ) -> Encoder:
        """A bare Hugging Face transformer with a new pooling, such as BERT before contrastive training.

        Args:
            path_or_name: A model folder or a hub name; a pooling it may come with is left out.
            pooling: How token states become one vector.
            normalise: End with an L2 normalisation and compare by cosine; otherwise by dot product.
            max_length: Tokens that are read of a text, special ones included; as many as the model has if omitted.
            template: Pool at its mask instead, such as ``This sentence : "{}" means [MASK] .``; see
                :mod:`retriever.encoder.template`.

        Raises:
            ModelError: There is no such model, it has fewer positions than ``max_length``, or no mask for the template.
            ValueError: The template lacks ``{}`` or ``[MASK]``.
        """
        transformer = load_transformer(path_or_name, max_length)
        if template is not None:
            return cls._assemble([transformer, *template_modules(transformer, template)], normalise)
        return cls._assemble([transformer, *pooling_modules(transformer, pooling)], normalise)

    @classmethod
    def joined(cls, parts: Sequence[Encoder], weights: Sequence[float]) -> Encoder:
        """Several encoders as one: unit vectors side by side, so that cosines are weighted means of the parts' cosines.

        It encodes, saves, loads and searches as any other encoder, but cannot be trained; see
        :mod:`retriever.encoder.joined`.

        Args:
            parts: Two or more encoders, used as they are and not copied; each keeps its tokenizer, its prompts and its
                length limit. One that compares by dot product is normalised like the others.
            weights: Share of each part's cosine in the joined cosine, from 0 to 1, with a sum of 1.

        Raises:
            ModelError: There are fewer than two parts, or the weights are not such shares.
        """
        module = JoinedEmbedding([part.stack for part in parts], weights)
        device = str(parts[0].device)
        return cls(SentenceTransformer(modules=[module], similarity_fn_name="cosine", device=device))

    @classmethod
    def _assemble(cls, modules: list[nn.Module], normalise: bool) -> Encoder:
        modules = [*modules, Normalize()] if normalise else modules
        device = "cuda" if torch.cuda.is_available() else "cpu"
        similarity: Similarity = "cosine" if normalise else "dot"
        return cls(SentenceTransformer(modules=modules, similarity_fn_name=similarity, device=device))

    def with_query_map(self) -> Encoder:
        """The encoder with a linear map of queries, the identity for now; see :mod:`retriever.encoder.query_map`.

        Raises:
            ModelError: It is joined from several, or has such a map already.
        """
        if self.parts:
            raise ModelError("A joined encoder takes no map of queries; give its parts such maps.")
        return Encoder(add_query_map(self.stack), own_tokens=self.own_tokens)

    @property
    def path(self) -> Path | None:
        """The folder that holds it as it is; None if it was never saved, or its prompts are others now."""
        return self._path if self.prompts == self._saved_prompts else None

    @path.setter
    def path(self, path: Path | None) -> None:
        self._path = None if path is None else path.absolute()  # the working folder may change while it is open
        self._saved_prompts = dict(self.prompts)

    @cached_property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return int(self.stack.get_embedding_dimension() or 0)

    @property
    def similarity(self) -> Similarity:
        """How two vectors are compared.

        Raises:
            ModelError: The model asks for a distance instead.
        """
        name = self.stack.similarity_fn_name
        if name not in ("cosine", "dot"):
            raise ModelError(f"The model compares by {name}; only cosine and dot are supported.")
        return "cosine" if name == "cosine" else "dot"

    @property
    def prompts(self) -> Mapping[str, str]:
        """Texts put before queries and documents, by kind; to change them, assign all of them."""
        return MappingProxyType({kind: text for kind, text in self.stack.prompts.items() if text})

    @prompts.setter
    def prompts(self, prompts: Mapping[str, str]) -> None:
        self.stack.prompts = dict(prompts)

    def prompt_tokens(self, kind: Kind) -> NDArray[np.int32]:
        """Tokens of the prompt of a kind."""
        return self.text_tokenizer.encode([self.prompts.get(kind, "")])[0]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weight = next(self.stack.parameters(), None)  # stack.device looks through all modules
        return torch.device(self.stack.device) if weight is None else weight.device

    @property
    def fingerprint(self) -> str:
        """Hash of everything a vector depends on: weights, module settings, tokenizer, prompts, similarity.

        It is the same for a model before and after saving, whatever the folder.
        """
        return fingerprint(self)

    def features(self, tokens: Ragged, kind: Kind = "document") -> dict[str, Any]:
        """Token ids without special tokens → the stack's input on its device; longer texts are cut."""
        cut = tokens if self.limit is None else tokens.cut(self.limit)
        device = self.device
        features: dict[str, Any] = {name: value.to(device) for name, value in self.collate(cut).items()}
        return features | ({"task": kind} if self.sided else {})

    def __call__(self, features: dict[str, Any], normalise: bool = True) -> Tensor:
        """Features → vectors (N, D), with a gradient; on demand without the normalisation at the end of the stack."""
        bare = not normalise and isinstance(self.stack[-1], Normalize)
        modules = nn.Sequential(*list(self.stack)[:-1]) if bare else self.stack
        vectors: Tensor = modules(dict(features))["sentence_embedding"]
        return vectors

    def encode(
        self,
        texts: Sequence[str],
        kind: Kind = "document",
        *,
        batch_tokens: int | None = None,
        dtype: str = "auto",
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Encode texts in batches of similar length.

        A text gets the same vector whatever its batch mates. Static encoders are exact; transformers differ in the last
        bits of the arithmetic, because padding changes the shapes: for unit vectors below 1e-5 an entry in float32 and
        below 5e-3 in bfloat16, where also the cosine with the float32 vector is above 0.999.

        Args:
            texts: N texts; an empty one gets a vector too.
            kind: Whose prompt is put before each text.
            batch_tokens: Padded tokens a batch may hold; if omitted 16,384, of a transformer 1,024 on a CPU and 65,536
                elsewhere.
            dtype: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the hardware computes in it.
            progress: Called with the number of texts just finished.

        Returns:
            Vectors (N, D), float32, in the order of the texts; :attr:`report` then tells how many were truncated.

        Raises:
            DataError: The texts are one, or one of them is no text; or the encoder is broken, and a vector no numbers.
            ModelError: The kind or the dtype is unknown.
        """
        check_input(texts, kind)
        run = encode_parts if self.parts else encode
        vectors, self.report = run(self, texts, kind, batch_tokens, dtype, progress)
        self.truncated += self.report.truncated
        return vectors

    def embed(
        self,
        tokens: Ragged,
        kind: Kind = "document",
        *,
        batch_tokens: int | None = None,
        dtype: str = "auto",
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Encode texts that are tokenised already; see :meth:`encode`.

        Args:
            tokens: N rows of ids of :attr:`text_tokenizer`, prompts included, special tokens not.
            kind: ``query`` or ``document``; matters to an encoder with a map of queries.
            batch_tokens: See :meth:`encode`.
            dtype: ``float32``, ``bfloat16`` or ``auto``.
            progress: Called with the number of texts just finished.

        Returns:
            Vectors (N, D), float32, in the order of the rows.
        """
        return embed(self, tokens, kind, batch_tokens, dtype, progress)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the sentence-transformers folder, whole or not at all.

        Raises:
            OutputError: The folder exists already (and ``overwrite`` is off), holds something else than a model, or
                cannot be written.
        """
        folder = Path(path).expanduser()
        save_stack(self.stack, folder, overwrite, self.own_tokens)
        self.path = folder

    def plain(self) -> Encoder:
        """A static word encoder as sentence-transformers' own ``StaticEmbedding``.

        Stems are folded into the surface forms met in the corpus and log term frequency gives way to the plain mean,
        so nothing of this project is needed to open it. Compared by dot product, its vectors are shorter by the number
        of words; by cosine it equals the ``count`` variant on words of the corpus.

        Raises:
            ModelError: This is not a static encoder over words.
        """
        first = self.stack[0]
        if not isinstance(first, TermEmbedding) or not isinstance(first.text_tokenizer, WordTokenizer):
            raise ModelError("Only a static encoder over words has a plain variant.")
        if self.sided:
            raise ModelError("An encoder with a map of queries has no plain variant, which knows no queries.")
        plain = self._assemble([first.plain()], normalise=isinstance(self.stack[-1], Normalize))
        plain.prompts = self.prompts
        return plain
