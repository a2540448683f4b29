"""Ranges of constructor arguments, by name: written once, checked by ``semiseg.arguments``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A probability, a confidence, or a share of the run or of the pixels."""

ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
"""A share that must leave something: a dropout probability, a decay."""

Weight = Annotated[float, Field(ge=0)]
"""The weight of a loss, or another number that must not be negative."""

Positive = Annotated[float, Field(gt=0)]
"""A number above zero."""

Count = Annotated[int, Field(ge=1)]
"""A number of things, at least one."""

Index = Annotated[int, Field(ge=0)]
"""A whole number from zero."""
