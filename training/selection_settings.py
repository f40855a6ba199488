"""Settings of selection: which step's weights are kept, and by what measure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retriever.training.section import Count, Place, Section, Share

Measure = Literal[
    "recall@10", "recall@100", "mrr@10", "ndcg@10", "p@1", "p@3", "p@5", "ndcg@5", "align_uniform", "spearman"
]
OF_LABELS = ("p@1", "p@3", "p@5", "ndcg@5", "recall@10", "recall@100")  # measured on points, others on queries


class Selection(Section):
    """Which step's weights are kept: the best on known-item queries held out of the corpus itself, or on sentences."""

    every: Count = Field(100, description="steps between evaluations; a checkpoint is written at each")
    queries: Annotated[int, Field(ge=0)] = Field(500, description="held-out documents, or texts; 0 keeps the last step")
    pool: Count = Field(10_000, description="further documents that compete with them")
    metric: Measure = Field(
        "mrr@10", description="of queries, or align_uniform: minus alignment and uniformity of held-out texts"
    )
    sts: Place | None = Field(
        None, description="an STS folder: spearman on its STS-B dev is the metric instead, and nothing is held out"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="the best step; or the last one, unless the best is ahead of it beyond the noise of queries"
    )
    patience: Count | None = Field(None, description="stop after this many evaluations without a better score")
    average: tuple[Share, ...] = Field(
        (), description="shares of the trained weights to average with those before training; the best is kept"
    )
    fallback: Share = Field(
        0.5, description="the share of them where there is nothing, or no title or sentence, to choose by"
    )

    @property
    def measure(self) -> Measure:
        """The metric that chooses."""
        return self.metric if self.sts is None else "spearman"

    @property
    def of_queries(self) -> bool:
        """Whether the metric is a mean over queries, which has a noise."""
        return "@" in self.measure

    @model_validator(mode="after")
    def _measurable(self) -> Selection:
        if self.measure == "spearman" and self.sts is None:
            raise ValueError("metric spearman needs sentence pairs: set sts to a folder that holds STS-B instead.")
        if not self.of_queries and (self.keep == "last" or self.average):
            raise ValueError(
                f"keep: last and average look at the noise of queries, and {self.measure} has none; set keep to best "
                "and average to []."
            )
        return self
