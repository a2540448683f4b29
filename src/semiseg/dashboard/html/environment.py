"""The Jinja2 environment of the page: everything is escaped unless it is already markup."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from semiseg.dashboard.text.formats import format_seconds


@functools.cache
def environment() -> Environment:
    """The templates of this package, with a function ``asset`` for the style sheet and the script."""
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
    """The unmodified contents of a package file that is included in the page."""
    loader = environment().loader
    assert loader is not None
    return Markup(loader.get_source(environment(), name)[0])
