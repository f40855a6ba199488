"""Settings of the views: how the two texts of a positive pair are drawn from one document, and what noise they get."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retriever.training.section import Count, Part, Positive, Section, Share

Weight = Annotated[float, Field(ge=0)]


class Crop(Section):
    """How long a random crop is: a number of tokens, or a ratio of the window. Exactly one of the two."""

    tokens: tuple[Count, Count] | None = None
    ratio: tuple[Positive, Annotated[float, Field(gt=0, le=1)]] | None = None
    lead: Share = Field(0.0, description="share of the crops taken from the beginning, where texts say what they are")

    @model_validator(mode="after")
    def _one_range(self) -> Crop:
        if (self.tokens is None) == (self.ratio is None):
            raise ValueError("give either tokens: [low, high] or ratio: [low, high], not both.")
        low, high = self.tokens or self.ratio or (0, 0)
        if low > high:
            raise ValueError(f"the range [{low}, {high}] is empty; put the smaller end first.")
        return self


CROP = Crop.model_validate({"ratio": (0.05, 0.5)})


class Mix(Section):
    """Kinds of pairs and their weights; a kind left out has none. A document that lacks the structure is cropped."""

    crop: Weight = Field(0.0, description="two independent crops of one window (Contriever)")
    cloze: Weight = Field(0.0, description="a crop, and the window it is cut out of (inverse cloze task)")
    title: Weight = Field(0.0, description="the title, and a crop of the body")
    heading: Weight = Field(0.0, description="a heading, and a crop of the text below it, up to the next heading")
    sentence: Weight = Field(0.0, description="the first sentence, and a crop of the rest")
    span: Weight = Field(0.0, description="the surroundings of a phrase that recurs, here and there (Spider)")
    same: Weight = Field(0.0, description="the same text twice, which dropout and noise tell apart (SimCSE)")

    @model_validator(mode="after")
    def _some(self) -> Mix:
        if not self.weights:
            raise ValueError(f"all weights are 0; give one of {', '.join(type(self).model_fields)} a positive weight.")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The kinds with a positive weight, and their shares, which sum to 1."""
        given = {kind: float(weight) for kind, weight in self if weight}
        return {kind: weight / sum(given.values()) for kind, weight in given.items()}


class Views(Section):
    """The views of one document that form positive pairs."""

    query: Crop = CROP
    document: Crop = CROP
    window: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="draw within a random window of this many tokens, same: the first ones; null: the whole document",
    )
    positives: Count = Field(1, description="document views a query view has (ReContriever: 4)")
    mix: Mix = Field(Mix.model_validate({"crop": 1.0}), description="weights of the kinds of pairs")
    cloze_keep: Share = Field(0.1, description="cloze: share of the queries that stay in their document")
    span_keep: Share = Field(0.5, description="span: share of the queries that keep the recurring phrase")
    ngram: Annotated[int, Field(ge=2)] = Field(3, description="span: tokens a recurring phrase has at least")
    noise: Literal["both", "query", "document"] = Field("both", description="the views that the following is done to")
    repeat: Part = Field(0.0, description="tokens said twice: a share drawn for each view, at most this (ESimCSE)")
    repeat_limit: Count | None = Field(
        None, description="say a number of tokens twice instead, drawn below this and below the share repeat of them"
    )
    delete: Part = Field(0.0, description="share of the tokens deleted")
    replace: Part = Field(0.0, description="share of the tokens replaced by some token of the batch")
    mask: Part = Field(0.0, description="share of the tokens hidden by the tokenizer's mask token")
