"""Pieces that the parts of the page are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semiseg.dashboard.charts import Line
from semiseg.dashboard.markup import Html, el
from semiseg.dashboard.tables import Stat


def card(title: str, note: str | None, *content: object, class_: str = "") -> Html:
    """A framed part of the page; ``note`` says in a few words how to read it."""
    heading = el("div", el("h3", title), el("p", note) if note else None, class_="card-head")
    return el("section", heading, *content, class_=f"card {class_}".strip())


def table(header: Sequence[object], rows: Sequence[Sequence[Html]]) -> Html:
    """Cells are complete; the header's first cell is aligned left, the others as their columns."""
    head = el("tr", [el("th", cell, scope="col") for cell in header])
    body = [el("tr", row) for row in rows]
    return scroll(el("table", el("thead", head), el("tbody", body)))


def seeds(n: int) -> str:
    """Such as "3 seeds"."""
    return f"{n} seed" + ("" if n == 1 else "s")


def scroll(content: Html) -> Html:
    """Lets wide content move sideways within its card."""
    return el("div", content, class_="scroll")


def picture(path: Path | None, caption: str, uris: dict[Path, str]) -> Html:
    """A figure, or an empty cell of the grid where there is no image."""
    uri = uris.get(path) if path else None
    if uri is None:
        return el("figure", class_="missing")
    return el("figure", el("img", src=uri, alt=caption, loading="lazy"), el("figcaption", caption))


def stat_cell(stat: Stat | None, column: Sequence[Stat | None], *, signed: bool = False, heat: bool = False) -> Html:
    """One number of a table; the highest of its column (of at least two) is bold."""
    if stat is None:
        return el("td", "–", class_="number none")
    others = [s.mean for s in column if s]
    best = len(others) > 1 and stat.mean == max(others)
    mean = f"{100 * stat.mean:{'+' if signed else ''}.2f}"
    spread = None if stat.std is None else el("small", f" ± {100 * stat.std:.2f}")
    share = max(0.0, 40 * stat.mean)
    style = f"background:color-mix(in srgb,var(--heat) {share:.0f}%,transparent)" if heat else None
    classes = "number" + (" best" if best else "")
    if signed:
        classes += " gain" if stat.mean > 0 else " loss"
    return el("td", mean, spread, class_=classes, style=style, title=seeds(stat.n))


def swatch(color: str, dash: str) -> Html:
    """A short line in the look of a chart's."""
    line = el("path", d="M1,5H21", class_="mean", style=f"stroke:{color}", stroke_dasharray=dash or None)
    return el("svg", line, class_="swatch", viewBox="0 0 22 10", aria_hidden="true")


def legend(entries: Sequence[tuple[str, str, str]]) -> Html:
    """Entries (label, color, dash), each shown once."""
    unique = dict.fromkeys(entries)
    return el("ul", [el("li", swatch(color, dash), label) for label, color, dash in unique], class_="legend")


def line_legend(lines: Sequence[Line]) -> Html:
    """The legend of a line chart."""
    return legend([(line.label, line.color, line.dash) for line in lines])
