"""The report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from semiseg.dashboard.compare.overview import Overview, make_overviews
from semiseg.dashboard.compare.published import Beside, beside, text_cells
from semiseg.dashboard.compare.tables import Group, Section
from semiseg.dashboard.read.run import Run
from semiseg.dashboard.text.formats import FOOTNOTE, format_percent, format_seconds
from semiseg.dashboard.text.rows import COST_HEADER, PUBLISHED_HEADER, cost_rows, own_row, published_row, without_empty

MARKER = "<!-- written by semiseg report -->"
"""First line of the file, so that a later report recognizes it as its own."""


def markdown_file(title: str, text: str) -> str:
    """The whole file; ``text`` is the output of `markdown`."""
    return f"{MARKER}\n\n# {_escaped(title)}\n\n{text}"


def markdown(sections: Sequence[Section]) -> str:
    """An overview if there are several partitions, the tables of each section, and the runs that are in none."""
    lines: list[str] = []
    for overview in make_overviews(sections):
        lines += [f"## {_escaped(overview.data)} / {_escaped(overview.model)}", ""]
        lines += [*_table(*overview_table(overview)), ""]
    for section in sections:
        lines += [f"## {_escaped(section.title)}", "", *_warnings(section)]
        if section.groups:
            lines += _table(*without_empty(_HEADER, [_row(group) for group in section.groups]))
            if len(section.groups) > 1:
                lines += ["", *_table(*without_empty(COST_HEADER, cost_rows(section)))]
        else:
            lines.append("No completed run yet.")
        lines.append("")
        repeated = [run for group in section.groups for run in group.repeated]
        if repeated:
            lines += ["Left out, because a later run has the same seed and settings:", ""]
            lines += [*(f"- {_escaped(run.folder.as_posix())}" for run in repeated), ""]
        for block in beside(section):
            lines += _published(block)
        if section.others:
            lines += ["Not in the table:", "", *(f"- {_escaped(describe(run))}" for run in section.others), ""]
    return "\n".join([*lines, FOOTNOTE, ""])


def _warnings(section: Section) -> list[str]:
    lines = [f"- Warning: {_escaped(warning)}" for warning in section.warnings]
    lines += [f"- {_escaped(remark)}" for remark in section.remarks]
    return [*lines, ""] if lines else []


def overview_table(overview: Overview) -> tuple[list[str], list[list[str]]]:
    """Header and rows: mIoU at the last step, mean ± spread, with the rank in its column and the mean rank."""
    rows = []
    for label, groups in overview.rows.items():
        cells = []
        for i, group in enumerate(groups):
            rank = overview.rank(label, i)
            cells.append(format_percent(group.miou_last if group else None) + (f" ({rank})" if rank else ""))
        mean = overview.mean_rank(label)
        rows.append([label, *cells, "–" if mean is None else f"{mean:.1f}"])
    return ["mIoU last", *overview.columns, "Mean rank"], rows


def _published(block: Beside) -> list[str]:
    """Own and published numbers of one official list in one table."""
    shown = text_cells(block)
    rows = [*(own_row(group, block) for group in block.groups), *(published_row(cell, block) for cell in shown)]
    more = len(block.same_encoder) + len(block.other_encoders) - len(shown)
    lines = [f"Published on {block.official} (the same labeled images):", "", *_table(PUBLISHED_HEADER, rows), ""]
    if more:
        lines += [f"{more} more published numbers for these images are on the page and in the _published.csv file.", ""]
    return lines


_HEADER = (
    "Method", "Seeds", "mIoU best", "Δ best", "mIoU last", "Δ last", "Student", "Teacher",
    "Steps", "Images/s", "Training",
)  # fmt: skip


def _row(group: Group) -> tuple[str, ...]:
    images_per_second = group.over_seeds(lambda r: r.images_per_second)
    seconds = group.over_seeds(lambda r: r.seconds_training)
    return (
        group.label,
        str(len(group.runs)),
        format_percent(group.miou_best),
        format_percent(group.delta_best, signed=True),
        format_percent(group.over_seeds(lambda r: r.miou_last)),
        format_percent(group.delta_last, signed=True),
        format_percent(group.over_seeds(lambda r: r.miou_last_student)),
        format_percent(group.over_seeds(lambda r: r.miou_last_teacher)),
        "–" if group.key.steps is None else str(group.key.steps),
        "–" if images_per_second is None else f"{images_per_second.mean:.1f}",
        format_seconds(seconds.mean if seconds else None),
    )


def describe(run: Run) -> str:
    """One line on a run without a final result: method, progress, why it stopped."""
    seed = "" if run.seed is None else f" seed {run.seed}"
    steps = run.result.steps if run.result and run.result.steps is not None else run.last_step
    progress = "" if steps is None else f" at step {steps}" + (f" of {run.max_steps}" if run.max_steps else "")
    reason = f": {run.error}" if run.error else ""
    return f"{run.method}{seed}: {run.status}{progress}{reason} ({run.folder.as_posix()})"


def _escaped(text: str) -> str:
    """Single-line text, escaped so that it cannot break a table or act as HTML, a link or an image."""
    text = re.sub(r"&(?=[#A-Za-z])", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)  # "< 0.001" is not HTML
    return " ".join(re.sub(r"([\\|\[])", r"\\\1", text).split())


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table with aligned columns: the first to the left, numbers to the right."""
    cells = [[_escaped(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*cells)]
    rule = [":" + "-" * (w - 1) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [[c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))] for row in cells]
    return ["| " + " | ".join(row) + " |" for row in (padded[0], rule, *padded[1:])]
