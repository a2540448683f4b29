"""Builds HTML and SVG so that nothing unescaped can get in by accident."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = {"br", "img", "meta"}


class Html(str):
    """Text that is HTML already. Any other text is escaped where it enters an element."""

    __slots__ = ()


def el(tag: str, *children: object, **attributes: object) -> Html:
    """One element.

    Args:
        tag: its name.
        children: text (escaped), Html, numbers, or iterables of these; None and "" add nothing.
        attributes: values are escaped, floats rounded to 2 decimals; None and False leave the attribute out,
            True writes it without a value. A trailing underscore is dropped, others become hyphens:
            ``class_``, ``stroke_width``.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Iterable[object]) -> Html:
    """Children one after the other, escaped where they are not Html."""
    return Html("".join(_child(child) for child in children))


def _child(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return html.escape(child)
    return join(child) if isinstance(child, Iterable) else html.escape(str(child))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'
