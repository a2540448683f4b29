"""SVG elements for charts. ElementTree escapes every text and attribute."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup


def frame(width: float, height: float, label: str, *, shrink: float = 0.75, grow: float = 1.2) -> Element:
    """A chart that scales with its container, within limits that keep text legible; ``label`` is for screen readers."""
    limits = f"min-width:{shrink * width:.0f}px;max-width:{grow * width:.0f}px"
    box = f"0 0 {width:.0f} {height:.0f}"
    return Element("svg", {"viewBox": box, "role": "img", "aria-label": label, "style": limits})


def add(parent: Element, tag: str, text: str | None = None, **attributes: object) -> Element:
    """Append an element.

    Args:
        attributes: floats are rounded to 2 decimals, None omits the attribute. A trailing underscore is dropped,
            others become hyphens: ``class_``, ``stroke_width``.
    """
    written = {name.rstrip("_").replace("_", "-"): _value(v) for name, v in attributes.items() if v is not None}
    child = SubElement(parent, tag, written)
    child.text = text
    return child


def markup(chart: Element) -> Markup:
    """The chart as HTML."""
    return Markup(tostring(chart, encoding="unicode"))


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
