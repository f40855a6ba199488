"""Settings of the views: how the two texts of a positive pair are drawn from one document."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from retriever.training.section import Count, Positive, Section, Share


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


class Views(Section):
    """The two views of one document that form a positive pair."""

    query: Crop
    document: Crop
    window: Annotated[int, Field(ge=2)] | None = Field(
        None, description="crop within a random window of this many tokens; null: within the whole document"
    )
    delete: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="share of tokens deleted from both views")
