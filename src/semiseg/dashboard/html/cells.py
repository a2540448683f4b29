"""Tables of the page: what a cell holds and how it looks. The templates write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semiseg.dashboard.compare.stats import Stat
from semiseg.dashboard.html.looks import Look


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        small: text in small print behind the first.
        classes: CSS classes.
        title: shown under the pointer.
        heading: whether it names its row.
        look: draws a short line in this look before the text.
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
    """A header and rows of as many cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def heading(text: str, look: Look | None = None) -> Cell:
    """The first cell of a row."""
    return Cell(text, heading=True, look=look)


def number(text: object) -> Cell:
    """A cell aligned to the right."""
    return Cell(str(text), classes="number none" if text == "–" else "number")


def seeds(n: int) -> str:
    """Such as "3 seeds"."""
    return f"{n} seed" + ("" if n == 1 else "s")


def stat_cell(stat: Stat | None, column: Sequence[Stat | None], *, signed: bool = False, heat: bool = False) -> Cell:
    """Mean and spread in percent; the highest of its column (of at least two) is bold."""
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
    """A background that is the stronger the nearer ``share`` is to 1."""
    return f"background:color-mix(in srgb,var({color}) {40 * min(1.0, max(0.0, share)):.0f}%,transparent)"


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """The table without the columns in which no row has a value: differences, say, where there is no baseline."""
    kept = [i for i in range(len(header)) if any(row[i].text not in ("", "–") or row[i].chips for row in rows)]
    return Table(tuple(header[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows))
