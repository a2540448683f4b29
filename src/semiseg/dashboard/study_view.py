"""The parts of the page that compare: methods over partitions, significance and cost, and published numbers."""

from __future__ import annotations

from collections.abc import Sequence

from semiseg.dashboard.markup import Html, el, join
from semiseg.dashboard.overview import Overview
from semiseg.dashboard.published import Beside, Cell, beside, marks_against
from semiseg.dashboard.tables import BASELINE, Group, Section
from semiseg.dashboard.text import COST_HEADER, PUBLISHED_HEADER, cost_rows, own_row, published_row
from semiseg.dashboard.widgets import card, seeds, stat_cell, table

_FEW = 12  # published rows that are open at once


def overview_card(overview: Overview) -> Html:
    """Methods in rows, partitions in columns."""
    columns = list(zip(*overview.rows.values()))
    rows = []
    for label, groups in overview.rows.items():
        cells = [el("th", label, scope="row")]
        for i, group in enumerate(groups):
            cells.append(_ranked(group, columns[i], overview.rank(label, i)))
        mean = overview.mean_rank(label)
        rows.append([*cells, el("td", "–" if mean is None else f"{mean:.1f}", class_="number")])
    note = "mIoU in percent at the last step, mean ± std over seeds; in brackets the rank in the column"
    return card(f"{overview.data} / {overview.model}", note, table(["Method", *overview.columns, "Mean rank"], rows))


def _ranked(group: Group | None, column: Sequence[Group | None], rank: int | None) -> Html:
    if group is None or group.miou_last is None:
        return el("td", "–", class_="number none")
    stat = group.miou_last
    best = rank == 1 and sum(g is not None for g in column) > 1
    spread = "" if stat.std is None else f" ± {100 * stat.std:.2f}"
    classes = "number best" if best else "number"
    return el("td", f"{100 * stat.mean:.2f}", el("small", f"{spread} ({rank})"), class_=classes, title=seeds(stat.n))


def cost_card(section: Section) -> Html | None:
    """How sure the gain over the baseline is, what it costs, and what was typed for each run."""
    if not section.groups:
        return None
    rows = [
        [el("th", row[0], scope="row"), *(el("td", cell, class_="number") for cell in row[1:])]
        for row in cost_rows(section, escape=False)
    ]
    note = (
        f"Δ: points over {BASELINE} at the last step, paired over seeds; 95 % interval and p of Student's t, not "
        "corrected for the number of comparisons"
    )
    typed = [
        el("li", el("b", f"{group.label}, seed {run.seed}"), " ", el("code", " ".join(run.overrides) or "no override"))
        for group in section.groups
        for run in group.runs
    ]
    overrides = el("details", el("summary", "Overrides of each run"), el("ul", typed, class_="notes"))
    return card("Significance and cost", note, table(COST_HEADER, rows), overrides)


def published_cards(section: Section) -> Html:
    """One card per official list that runs of the section have used; nothing for other lists."""
    return join(_published(block) for block in beside(section))


def _published(block: Beside) -> Html:
    own = [_own(group, block) for group in block.groups]
    first = block.same_encoder or block.other_encoders
    rest = [*first[_FEW:], *(block.other_encoders if block.same_encoder else ())]
    parts = [table([*PUBLISHED_HEADER], [*own, *(_row(cell, block) for cell in first[:_FEW])])]
    if rest:
        more = table([*PUBLISHED_HEADER], [_row(cell, block) for cell in rest])
        parts.append(el("details", el("summary", f"{len(rest)} more of the same labeled images"), more))
    if block.other_lists:
        others = table([*PUBLISHED_HEADER], [_row(cell, block) for cell in block.other_lists])
        title = f"{len(block.other_lists)} of the same size, but of other labeled images: not comparable"
        parts.append(el("details", el("summary", title), others))
    note = (
        f"{block.official}: the same labeled images, by their hash. Own runs: best validation under mIoU, evaluation "
        f"{block.evaluation}. Seeds: ? where the source does not say. Most published numbers are the best epoch on the "
        "validation set, also where no mark says so."
    )
    return card("Beside published numbers", note, *parts, class_="published")


def _own(group: Group, block: Beside) -> list[Html]:
    name, encoder, crop, _, _, n_seeds, marks, source = own_row(group, block)
    return [
        el("th", name, scope="row"),
        el("td", encoder),
        el("td", crop),
        stat_cell(group.miou_best, ()),
        stat_cell(group.miou_last, ()),
        el("td", n_seeds, class_="number"),
        el("td", marks),
        el("td", source),
    ]


def _row(cell: Cell, block: Beside) -> list[Html]:
    name, encoder, crop, miou, last, n_seeds, _, source = published_row(cell, block)
    chips = [el("span", mark, class_="mark") for mark in marks_against(cell, block)]
    return [
        el("td", name),
        el("td", encoder),
        el("td", crop),
        el("td", miou, class_="number"),
        el("td", last, class_="number"),
        el("td", n_seeds, class_="number"),
        el("td", chips or "–", title=cell.notes or None),
        el("td", el("small", source)),
    ]
