"""Recipes: every setting of a training run, validated before anything is read.

A recipe is a YAML file with the sections below. Unknown keys and values out of range are refused, each by a sentence
that names the key and the way out. What a run resolved is written beside its model as ``recipe.yaml``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retriever.encoder.static import Frequency
from retriever.encoder.template import check_template
from retriever.encoder.transformer import PoolingName
from retriever.training.label_settings import LabelSpace
from retriever.training.objectives import Link
from retriever.training.section import Count, Part, Place, Positive, Section, Share
from retriever.training.selection_settings import OF_LABELS, Selection
from retriever.training.view_settings import Views
from retriever.training.whitening import Solver


class EncoderSection(Section):
    """What encoders of all families have in common."""

    query_map: bool = Field(
        False, description="a linear map of queries alone, at first the identity: for answers unlike their questions"
    )


class StaticEncoder(EncoderSection):
    """A token table with token weights, from random initialisation."""

    family: Literal["static"]
    tokenizer: Literal["words", "subwords"] = Field("words", description="trained on the corpus")
    stemmer: str = Field("porter", description="a Snowball algorithm, or none")
    vocabulary: Count = Field(200_000, description="at most this many tokens")
    dimension: Count = 512
    frequency: Frequency = Field("log", description="log: 1 + log tf; count: the plain token mean")
    idf_power: float = Field(0.5, ge=0, description="token weights are idf to this power")
    learn_weights: bool = Field(False, description="train the token weights")
    normalise: bool = Field(True, description="L2 norm and cosine; otherwise dot product")


class SmallTransformer(EncoderSection):
    """A small BERT from random initialisation over a WordPiece vocabulary trained on the corpus."""

    family: Literal["small"]
    vocabulary: Count = 8_192
    dimension: Count = 256
    layers: Count = 4
    heads: Count = 4
    max_length: Annotated[int, Field(ge=8)] = 128
    dropout: Share = 0.1
    pooling: PoolingName = "mean"
    normalise: bool = True

    @model_validator(mode="after")
    def _heads_divide(self) -> SmallTransformer:
        if self.dimension % self.heads:
            raise ValueError(
                f"dimension {self.dimension} is not divisible by heads {self.heads}; choose a multiple, "
                f"such as {self.heads * (self.dimension // self.heads + 1)}."
            )
        return self


class PretrainedTransformer(EncoderSection):
    """A Hugging Face transformer or a sentence-transformers model, from a folder or the hub."""

    family: Literal["pretrained"]
    model: Place = Field(description="a folder or a hub name")
    max_length: Annotated[int, Field(ge=8)] | None = Field(
        None, description="tokens read of a text, ever after; the model's own limit if null"
    )
    pooling: PoolingName | None = Field(None, description="a new pooling; null keeps the model's own modules")
    template: str | None = Field(
        None, description='a new pooling at its mask, such as: This sentence : "{}" means [MASK] . (PromptBERT)'
    )
    normalise: bool = Field(False, description="read with a new pooling only")

    @model_validator(mode="after")
    def _pooled_once(self) -> PretrainedTransformer:
        if self.template is not None:
            check_template(self.template)
            if self.pooling is not None:
                raise ValueError(f"template pools at its mask, not by {self.pooling}; set pooling to null.")
        return self


EncoderSettings = Annotated[StaticEncoder | SmallTransformer | PretrainedTransformer, Field(discriminator="family")]


class Prompts(Section):
    """Texts put before queries and documents, in training and ever after."""

    query: str = ""
    document: str = ""


class Labels(Section):
    """How labelled queries become examples: for fine-tuning, instead of views."""

    explicit: Annotated[int, Field(ge=0)] = Field(1, description="negatives a query brings along, beside the batch's")
    hard: Share = Field(1.0, description="share of them that are hard ones; the others are random documents")
    query_tokens: Count = Field(64, description="tokens read of a query")
    document_tokens: Count = Field(256, description="tokens read of a document")
    limit: Count | None = Field(None, description="few-shot: train on this many queries only")
    dev: Part = Field(0.1, description="share of the queries held out for selection")


class Distil(Section):
    """What a frozen encoder is adapted on: instead of views, to train a linear map on top of it.

    The sections mixing and negatives, and of the objective all but the temperature, have no meaning for it.
    """

    documents: Annotated[int, Field(ge=2)] = Field(10_000, description="drawn as the pool, encoded once")
    pseudo_queries: Count = Field(2_500, description="drawn, one a document of the pool: its name, or some words of it")
    words: tuple[Count, Count] = Field((5, 12), description="words of a pseudo-query that is no name")
    lexical: Annotated[float, Field(ge=0)] = Field(0.5, description="weight of BM25 in the teacher; the encoder's is 1")
    candidates: Annotated[int, Field(ge=2)] = Field(50, description="documents a pseudo-query is to rank")

    @model_validator(mode="after")
    def _ordered(self) -> Distil:
        if self.words[0] > self.words[1]:
            raise ValueError(f"the range of words {list(self.words)} is empty; put the smaller end first.")
        return self


class Mixing(Section):
    """How often each of several corpora, or each value of a metadata field, is drawn from."""

    exponent: Share = Field(1.0, description="a in share ∝ weight · size^a: 1 by size, 0 all alike")
    weights: dict[str, Positive] = Field({}, description="by the corpus' name or the field's value; 1 if not given")
    by: str | None = Field(None, description="a metadata field whose values are the sources, such as lang")
    single: bool = Field(False, description="each batch from one source, so that no query tells sources apart")


class Objective(Section):
    """InfoNCE, as settings of the loss core."""

    temperature: Positive = 0.05
    link: Link = Field("all", description="all: InfoNCE; none: DCL, the positive leaves the denominator")
    terms: Literal["joint", "sum", "all_pairs"] = Field(
        "joint",
        description="of several positives: joint: one a query, with the documents of all views (ReContriever); sum: "
        "one a view, with the documents of that view (WhitenedCSE); all_pairs: mean over the pairs of views, the query "
        "being one, with all views of the other texts",
    )
    symmetric: bool = Field(False, description="also contrast each document with all queries of the batch")
    relevance: Positive | None = Field(
        None, description="temperature of the weights of several positives; null: all count alike"
    )
    false_negatives: float | None = Field(
        None, description="leave out negatives that score this much more than the positive; null keeps them"
    )


class Head(Section):
    """What stands between the encoder's vectors and the loss, in training only; the loss then compares by cosine."""

    projection: Literal["mlp"] | None = Field(None, description="mlp: a dense layer and tanh (SimCSE)")
    whiten: Literal["group", "zca", "standardise"] | None = Field(
        None,
        description="over the batch, each view by itself: group: in groups of channels (WhitenedCSE), zca: all of them "
        "together, standardise: each channel alone",
    )
    groups: Count = Field(128, description="read with whiten: group only; fewer groups distort more")
    shuffle: bool = Field(True, description="group the channels of each view anew at random in each batch")
    shrinkage: Annotated[float, Field(ge=0)] = Field(
        1e-5, description="added to the variances, in units of their mean in the group"
    )
    statistics_gradient: bool = Field(False, description="go back through the covariance; else it is a constant")
    solver: Solver = Field("eigh", description="eigh: symmetric root; cholesky: triangular, quicker")


class Ranking(Section):
    """What teachers add to the loss: the order of the other texts of the batch (RankCSE)."""

    teachers: Annotated[tuple[Place, ...], Field(min_length=1, description="model folders or hub names, kept frozen")]
    weights: tuple[Positive, ...] = Field((), description="of each teacher's cosines in their mean; all alike if empty")
    pooling: PoolingName | None = Field(None, description="of the teachers; null keeps their own modules")
    loss: Literal["listnet", "listmle"] = "listnet"
    weight: Positive = Field(1.0, description="of the teachers' loss beside the contrastive one")
    consistency: Annotated[float, Field(ge=0)] = Field(1.0, description="weight of the divergence between two views")
    student_temperature: Positive = Field(0.025, description="of the student's cosines in listnet and listmle")
    teacher_temperature: Positive = Field(0.0125, description="of the teachers' in listnet")

    @model_validator(mode="after")
    def _weighed(self) -> Ranking:
        if self.weights and len(self.weights) != len(self.teachers):
            raise ValueError(
                f"weights has {len(self.weights)} entries for {len(self.teachers)} teachers; give one each."
            )
        return self


class Negatives(Section):
    """Where negatives come from, and who encodes the documents."""

    in_batch: bool = Field(True, description="the other documents of the batch")
    queue: Annotated[int, Field(ge=0)] = Field(0, description="documents of earlier batches that are remembered")
    momentum: Share | None = Field(
        None,
        description="documents are encoded, without a gradient, by a moving average of the encoder that keeps this "
        "share of itself at each step; null: by the encoder itself, with a gradient",
    )

    @model_validator(mode="after")
    def _some(self) -> Negatives:
        if not self.in_batch and not self.queue:
            raise ValueError("there would be no negatives: set in_batch to true, or queue to at least batch.size.")
        return self


class Batch(Section):
    """What one optimizer step sees."""

    size: Annotated[int, Field(ge=2)] = Field(1024, description="pairs, over all processes")
    accumulate: Count = Field(1, description="batches a step; more of them average the gradient, they add no negatives")
    gradient_cache: bool = Field(False, description="encode twice to hold the activations of one pack only")
    pack_tokens: Count | None = Field(
        None, description="padded tokens a transformer encodes at once; null: 2,048 on a CPU, 65,536 elsewhere"
    )


class Optimizer(Section):
    """Adam: sparse for a static encoder's table, AdamW for everything else."""

    lr: Positive
    betas: tuple[Part, Part] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: float = Field(0.0, ge=0, description="not on biases, norms and static tables")
    clip: Positive | None = Field(None, description="largest norm of the gradient")


class Schedule(Section):
    """The learning rate over the steps: linear warm-up from 0, then decay to 0."""

    steps: Count
    epochs: Positive | None = Field(
        None, description="no more steps than read each example this often; warm-up and evaluations come sooner alike"
    )
    warmup: Annotated[int, Field(ge=0)] = 0
    decay: Literal["linear", "cosine", "none"] = "linear"

    @model_validator(mode="after")
    def _warm_in_time(self) -> Schedule:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup {self.warmup} must be shorter than steps {self.steps}; lower warmup.")
        return self


class Recipe(Section):
    """Every setting of a training run."""

    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="of the encoder's forward pass")
    encoder: EncoderSettings
    prompts: Prompts = Prompts()
    views: Views | None = Field(None, description="for training on a corpus")
    labels: Labels | None = Field(None, description="for training on labelled queries")
    distil: Distil | None = Field(None, description="for adapting a pretrained encoder to a corpus")
    label_space: LabelSpace | None = Field(None, description="for training on points and their labels")
    mixing: Mixing = Mixing.model_validate({})
    objective: Objective
    head: Head | None = Field(None, description="null: the loss compares the encoder's own vectors")
    ranking: Ranking | None = Field(None, description="null: no teachers")
    negatives: Negatives = Negatives.model_validate({})
    batch: Batch
    optimizer: Optimizer
    schedule: Schedule
    selection: Selection
    log_every: Count = Field(10, description="steps between lines of the log")

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if sum(section is not None for section in (self.views, self.labels, self.distil, self.label_space)) != 1:
            raise ValueError(
                "give either the section views, to train on a corpus, or labels, to train on queries, or label_space, "
                "to train on points and their labels, or distil, to adapt a pretrained encoder to a corpus."
            )
        if self.distil is not None and self.encoder.family != "pretrained":
            raise ValueError(f"distil adapts a pretrained encoder, not one of the family {self.encoder.family}.")
        if 0 < self.negatives.queue < self.batch.size:
            raise ValueError(
                f"negatives.queue {self.negatives.queue} is smaller than batch.size {self.batch.size}; it must hold "
                "at least one batch."
            )
        self._fits_selection()
        self._fits_terms()
        self._fits_head()
        self._fits_label_space()
        if self.ranking is not None and self.views is None:
            raise ValueError("ranking orders the texts of a batch by their views; it needs the section views.")
        return self

    def _fits_selection(self) -> None:
        if self.distil is not None and not self.selection.of_queries:
            raise ValueError(
                "distil chooses by queries: leave selection.sts out, and set selection.metric to one such as ndcg@10."
            )
        if self.views is None and self.selection.measure == "align_uniform":
            raise ValueError(
                "selection.metric align_uniform draws two views of a text, and needs the section views; set "
                "selection.sts, or a metric of queries such as ndcg@10."
            )
        if self.label_space is not None and self.selection.measure not in (*OF_LABELS, "spearman"):
            raise ValueError(
                f"label_space is measured on points, not by {self.selection.measure}; set selection.metric to one of "
                f"{', '.join(OF_LABELS)}."
            )
        if self.label_space is not None and (self.selection.keep == "last" or self.selection.average):
            raise ValueError("label_space keeps the best step; set selection.keep to best and average to [].")
        if self.label_space is None and self.selection.measure in ("p@1", "p@3", "p@5", "ndcg@5"):
            raise ValueError(
                f"selection.metric {self.selection.measure} is measured on points with labels; set it to one of "
                "queries, such as ndcg@10."
            )

    def _fits_terms(self) -> None:
        terms, negatives = self.objective.terms, self.negatives
        if terms == "joint":
            return
        if self.views is None:
            raise ValueError(f"objective.terms {terms} contrasts views of a text; it needs the section views.")
        if negatives.queue or negatives.momentum is not None or not negatives.in_batch:
            raise ValueError(
                f"objective.terms {terms} contrasts the views within a batch; set negatives.queue to 0, "
                "negatives.momentum to null and negatives.in_batch to true, or terms to joint."
            )
        if self.objective.relevance is not None:
            raise ValueError(f"objective.relevance weighs positives of one term; leave it out, or {terms} for joint.")
        if terms == "all_pairs" and (self.objective.symmetric or self.objective.false_negatives is not None):
            raise ValueError(
                "objective.terms all_pairs goes both ways already and looks at no margin; leave symmetric and "
                "false_negatives out."
            )

    def _fits_head(self) -> None:
        if self.head is None:
            return
        if self.distil is not None:
            raise ValueError("head has no meaning for distil, which trains a linear map; leave the section out.")
        if self.negatives.queue or self.negatives.momentum is not None:
            raise ValueError(
                "head cannot follow a momentum encoder or fill a queue: whitened vectors of two batches cannot be "
                "compared; set negatives.queue to 0 and negatives.momentum to null."
            )

    def _fits_label_space(self) -> None:
        if self.label_space is None:
            return
        negatives, objective = self.negatives, self.objective
        if self.head is not None or negatives.queue or negatives.momentum is not None or not negatives.in_batch:
            raise ValueError("label_space contrasts points with labels; leave the sections head and negatives out.")
        if objective.symmetric or objective.terms != "joint" or objective.link != "all":
            raise ValueError("label_space has its own losses; of the objective it reads the temperature alone.")
        cuts = self.label_space.point_tokens, self.label_space.label_tokens
        if cuts != (None, None) and self.encoder.family != "static":
            raise ValueError(
                "a transformer reads in training what it reads ever after: set encoder.max_length, and "
                "label_space.point_tokens and label_tokens to null."
            )
