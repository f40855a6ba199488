"""What all sections of a recipe share: unknown keys are refused, values are frozen, ranges have names."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """One section of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)
