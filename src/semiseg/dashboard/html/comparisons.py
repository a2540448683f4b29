"""Comparison tables: methods over partitions, significance and cost, and published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semiseg.dashboard.compare.overview import Overview
from semiseg.dashboard.compare.published import Beside, beside, marks_against
from semiseg.dashboard.compare.published import Cell as Published
from semiseg.dashboard.compare.tables import Group, Section
from semiseg.dashboard.html.cells import Cell, Table, heading, number, seeds, stat_cell, table
from semiseg.dashboard.text.rows import COST_HEADER, PUBLISHED_HEADER, cost_rows, own_row, published_row

_FEW = 12  # published rows shown expanded


@dataclass(frozen=True)
class PublishedTables:
    """Own and published numbers of one official list."""

    official: str
    evaluation: str
    first: Table
    more: Table | None
    other_lists: Table | None


def overview_table(overview: Overview) -> Table:
    """Methods in rows, partitions in columns."""
    rows = []
    for label, groups in overview.rows.items():
        ranked = [_ranked(group, overview.rank(label, i)) for i, group in enumerate(groups)]
        mean = overview.mean_rank(label)
        rows.append([heading(label), *ranked, number("–" if mean is None else f"{mean:.1f}")])
    return table(["Method", *overview.columns, "Mean rank"], rows)


def _ranked(group: Group | None, rank: int | None) -> Cell:
    if group is None or group.miou_last is None:
        return number("–")
    stat = group.miou_last
    spread = "" if stat.std is None else f" ± {100 * stat.std:.2f}"
    classes = "number best" if rank == 1 else "number"
    place = f" ({rank})" if rank else ""
    return Cell(f"{100 * stat.mean:.2f}", small=f"{spread}{place}", classes=classes, title=seeds(stat.n))


def cost_table(section: Section) -> Table | None:
    """Significance of the gain over the baseline, and cost; None for fewer than two groups."""
    if len(section.groups) < 2:
        return None
    rows = [[heading(row[0]), *(number(cell) for cell in row[1:])] for row in cost_rows(section)]
    return table(COST_HEADER, rows)


def published_tables(section: Section) -> list[PublishedTables]:
    """One per official list used by runs of the section; none for other lists."""
    return [_published(block) for block in beside(section)]


def _published(block: Beside) -> PublishedTables:
    def rows(cells: Sequence[Published]) -> list[tuple[Cell, ...]]:
        return [_row(cell, block) for cell in cells]

    first = block.same_encoder or block.other_encoders
    rest = [*first[_FEW:], *(block.other_encoders if block.same_encoder else ())]
    own = [_own(group, block) for group in block.groups]
    return PublishedTables(
        official=block.official,
        evaluation=block.evaluation,
        first=Table(PUBLISHED_HEADER, (*own, *rows(first[:_FEW]))),
        more=Table(PUBLISHED_HEADER, tuple(rows(rest))) if rest else None,
        other_lists=Table(PUBLISHED_HEADER, tuple(rows(block.other_lists))) if block.other_lists else None,
    )


def _own(group: Group, block: Beside) -> tuple[Cell, ...]:
    name, encoder, crop, _, _, n_seeds, marks, source = own_row(group, block)
    return (
        heading(name),
        Cell(encoder),
        Cell(crop),
        stat_cell(group.miou_best, ()),
        stat_cell(group.miou_last, ()),
        number(n_seeds),
        Cell(marks),
        Cell(source),
    )


def _row(cell: Published, block: Beside) -> tuple[Cell, ...]:
    name, encoder, crop, miou, last, n_seeds, _, source = published_row(cell, block)
    chips = marks_against(cell, block)
    return (
        Cell(name),
        Cell(encoder),
        Cell(crop),
        number(miou),
        number(last),
        number(n_seeds),
        Cell("" if chips else "–", chips=chips, title=cell.notes),
        Cell("", small=source),
    )
