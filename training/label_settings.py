"""Settings of training on points and their labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retriever.training.section import Count, Part, Positive, Section

Candidates = Literal["all", "batch", "shortlist"]


class LabelSpace(Section):
    """Points contrasted with labels: which loss, and which labels it sees."""

    loss: Literal["decoupled", "softmax", "bce", "soft_top_k"] = Field(
        "decoupled", description="decoupled: a positive meets the negatives only (DEXML); softmax: all labels"
    )
    top: Annotated[float, Field(ge=0)] = Field(0.0, description="weight of a soft top-k loss added to it")
    k: Count = Field(5, description="read with soft top-k: labels that are to come first")
    alpha: Positive = Field(2.0, description="read with soft top-k: steepness, of scores over the temperature")
    positives: Literal["all", "one"] = Field("all", description="one: drawn by relevance, the others are left out")
    candidates: Candidates = Field(
        "all",
        description="all labels at each step; those of the batch's points; or those and, for each point, negatives "
        "from a shortlist",
    )
    negatives: Count = Field(1, description="read with shortlist: hard negatives a point draws from it")
    depth: Count = Field(100, description="read with shortlist: best wrong labels of a point that are in it")
    refresh: Count | None = Field(
        None, description="steps between new shortlists, or, with all labels, new vectors of labels kept as constants"
    )
    fresh: Annotated[int, Field(ge=0)] = Field(
        1024, description="read with constants: labels drawn at each step that are encoded beside the batch's own"
    )
    own: Literal["label", "cluster"] | None = Field(
        None, description="put a token before a label's text: the label's own, or that of labels with texts like it"
    )
    clusters: Count = Field(4096, description="read with own: cluster: how many there are")
    augment: bool = Field(False, description="each label's text is a point of that label too")
    point_tokens: Count | None = Field(None, description="static encoders: tokens read of a point in training")
    label_tokens: Count | None = Field(None, description="static encoders: tokens read of a label in training")
    validation: Part = Field(
        0.1, description="share of the points held out; those of 0.1 are the split validation of `retriever eval xmc`"
    )

    @model_validator(mode="after")
    def _refreshed(self) -> LabelSpace:
        if self.candidates == "shortlist" and self.refresh is None:
            raise ValueError(
                "candidates shortlist needs refresh, the steps after which a new one is made, such as 100."
            )
        if self.candidates == "batch" and self.refresh is not None:
            raise ValueError(
                "candidates batch keeps nothing to refresh; leave refresh out, or choose all or shortlist."
            )
        if self.loss == "soft_top_k" and self.top:
            raise ValueError("loss is soft_top_k already; leave top out.")
        return self

    @property
    def constants(self) -> bool:
        """Whether most labels are constants between two refreshes."""
        return self.candidates == "all" and self.refresh is not None

    @property
    def terms(self) -> dict[str, float]:
        """The losses and their weights."""
        loss: dict[str, float] = {self.loss: 1.0}
        return loss | ({"soft_top_k": self.top} if self.top else {})
