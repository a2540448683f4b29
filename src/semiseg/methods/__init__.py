"""The methods, one file each. ``semiseg.methods()`` lists them."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semiseg.config.facts import MethodFacts


class _Methods(types.ModuleType):
    """The type of this package, which makes it callable: part of the Python interface."""

    def __call__(self) -> dict[str, MethodFacts]:
        """Name of each method, as in ``method=NAME`` -> title, venue, description, source."""
        from semiseg.config.facts import method_facts

        return method_facts()


sys.modules[__name__].__class__ = _Methods
