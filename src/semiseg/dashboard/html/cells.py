"""Tables of the page: contents and style of their cells. The templates render them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semiseg.dashboard.compare.stats import Stat
from semiseg.dashboard.html.looks import Look


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        small: small text after the main text.
        classes: CSS classes.
        title: tooltip.
        heading: whether it is a row heading.
        look: draws a short line in this style before the text.
        chips: framed words instead of text.
    """

    text: str
    small: str = ""
    classes: str = ""
    style: str = ""
    title: str = ""
    heading: bool = False
    look: Look | None = None
    chips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A header and rows with the same number of cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def heading(text: str, look: Look | None = None) -> Cell:
    """The first cell of a row."""
    return Cell(text, heading=True, look=look)


def number(text: object) -> Cell:
    """A right-aligned cell."""
    return Cell(str(text), classes="number none" if text == "–" else "number")


def seeds(n: int) -> str:
    """For example "3 seeds"."""
    return f"{n} seed" + ("" if n == 1 else "s")


def stat_cell(stat: Stat | None, column: Sequence[Stat | None], *, signed: bool = False, heat: bool = False) -> Cell:
    """Mean and spread in percent; the highest in its column (of at least two) is bold."""
    if stat is None:
        return number("–")
    others = [s.mean for s in column if s]
    classes = "number best" if len(others) > 1 and stat.mean == max(others) else "number"
    if signed:
        classes += " gain" if stat.mean > 0 else " loss"
    return Cell(
        f"{100 * stat.mean:{'+' if signed else ''}.2f}",
        small="" if stat.std is None else f" ± {100 * stat.std:.2f}",
        classes=classes,
        style=shade(stat.mean) if heat else "",
        title=seeds(stat.n),
    )


def shade(share: float, color: str = "--heat") -> str:
    """A background color whose strength grows with ``share``."""
    return f"background:color-mix(in srgb,var({color}) {40 * min(1.0, max(0.0, share)):.0f}%,transparent)"


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """The table without empty columns, such as differences if there is no baseline."""
    kept = [i for i in range(len(header)) if any(row[i].text not in ("", "–") or row[i].chips for row in rows)]
    return Table(tuple(header[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows))
