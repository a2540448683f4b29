"""Named ranges of constructor arguments, checked by ``semiseg.arguments``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A probability, a confidence, or a fraction of the run or of the pixels."""

ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
"""A fraction below 1: a dropout probability, a decay."""

Weight = Annotated[float, Field(ge=0)]
"""A loss weight, or another non-negative number."""

Positive = Annotated[float, Field(gt=0)]
"""A positive number."""

Count = Annotated[int, Field(ge=1)]
"""A positive integer."""

Index = Annotated[int, Field(ge=0)]
"""A non-negative integer."""
