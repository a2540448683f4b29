"""The Jinja2 environment of the page: everything is escaped unless it is markup already."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from semiseg.dashboard.text.formats import format_seconds


@functools.cache
def environment() -> Environment:
    """Templates of this package, with ``asset`` for the style sheet and the script."""
    made = Environment(
        loader=PackageLoader("semiseg.dashboard.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["asset"] = _asset
    made.filters["duration"] = format_seconds
    return made


def _asset(name: str) -> Markup:
    """A file of the package that is part of the page, as it is."""
    loader = environment().loader
    assert loader is not None
    return Markup(loader.get_source(environment(), name)[0])
