"""The report as Markdown, for people, and as CSV, for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from semiseg.dashboard.overview import Overview, make_overviews, ranks
from semiseg.dashboard.published import Beside, Cell, beside, marks_against, text_cells
from semiseg.dashboard.runs import Run
from semiseg.dashboard.significance import Comparison
from semiseg.dashboard.tables import (
    FOOTNOTE,
    Group,
    GroupKey,
    Section,
    Stat,
    format_percent,
    format_seconds,
    format_size,
)


def markdown(sections: Sequence[Section]) -> str:
    """An overview where there are several partitions, the tables of each section, and the runs not in any."""
    lines: list[str] = []
    for overview in make_overviews(sections):
        lines += [f"## {_cell(overview.data)} / {_cell(overview.model)}", "", *_aligned(overview_table(overview)), ""]
    for section in sections:
        lines += [f"## {_cell(section.title)}", ""]
        if section.groups:
            lines += _aligned([_HEADER, *(_row(group) for group in section.groups)])
            lines += ["", *_aligned([COST_HEADER, *cost_rows(section)])]
        else:
            lines.append("No completed run yet.")
        lines.append("")
        repeated = [run for group in section.groups for run in group.repeated]
        if repeated:
            lines += ["Left out, because a later run has the same seed and settings:", ""]
            lines += [*(f"- {_cell(run.folder.as_posix())}" for run in repeated), ""]
        for block in beside(section):
            lines += _published(block)
        if section.others:
            lines += ["Not in the table:", "", *(f"- {_cell(describe(run))}" for run in section.others), ""]
    return "\n".join([*lines, FOOTNOTE, ""])


COST_HEADER = (
    "Method", "Rank", "Δ last", "95 % interval", "p", "Pairs", "Hours a run", "Images/s", "Memory MB",
)  # fmt: skip


def cost_rows(section: Section, *, escape: bool = True) -> list[tuple[str, ...]]:
    """Per group: rank, the difference to the baseline and how sure it is, and what a run costs.

    ``escape`` is for Markdown.
    """
    rows: list[tuple[str, ...]] = []
    for group, rank in zip(section.groups, _ranks_by_ids(section)):
        sure = group.against_baseline
        speed = group.over_seeds(lambda r: r.images_per_second)
        memory = group.over_seeds(lambda r: r.peak_memory_mb)
        rows.append(
            (
                _cell(group.label) if escape else group.label,
                "–" if rank is None else str(rank),
                "–" if sure is None else f"{100 * sure.mean:+.2f}",
                format_interval(sure),
                format_p(sure),
                "–" if sure is None else str(sure.n),
                format_hours(group),
                "–" if speed is None else f"{speed.mean:.1f}",
                "–" if memory is None else f"{memory.mean:,.0f}",
            )
        )
    return rows


def _ranks_by_ids(section: Section) -> list[int | None]:
    """Among the groups of the same labeled ids."""
    found: list[int | None] = []
    for group in section.groups:
        alike = [g if g.key.labeled_ids_sha256 == group.key.labeled_ids_sha256 else None for g in section.groups]
        found.append(ranks(alike)[section.groups.index(group)])
    return found


def format_interval(sure: Comparison | None) -> str:
    """Such as "+1.20 to +3.41" points; "–" for fewer than two pairs."""
    if sure is None or sure.low is None or sure.high is None:
        return "–"
    return f"{100 * sure.low:+.2f} to {100 * sure.high:+.2f}"


def format_p(sure: Comparison | None) -> str:
    """Such as "0.031"; "–" where there is none."""
    if sure is None or sure.p is None:
        return "–"
    return "< 0.001" if sure.p < 0.001 else f"{sure.p:.3f}"


def format_hours(group: Group) -> str:
    """Such as "0.25 GPU"."""
    return "–" if group.hours is None else f"{group.hours.mean:.2f} {group.device}"


def overview_table(overview: Overview) -> list[list[str]]:
    """Header and rows: mIoU at the last step, mean ± spread, with the rank in its column and the mean rank."""
    table = [["mIoU last", *map(_cell, overview.columns), "Mean rank"]]
    for label, groups in overview.rows.items():
        cells = []
        for i, group in enumerate(groups):
            rank = overview.rank(label, i)
            cells.append("–" if group is None or rank is None else f"{format_percent(group.miou_last)} ({rank})")
        mean = overview.mean_rank(label)
        table.append([_cell(label), *cells, "–" if mean is None else f"{mean:.1f}"])
    return table


PUBLISHED_HEADER = ("Method", "Encoder", "Crop", "mIoU", "Last", "Seeds", "Not comparable / noted", "Source")


def _published(block: Beside) -> list[str]:
    """Own and published numbers of one official list in one table."""
    rows = [PUBLISHED_HEADER, *(tuple(_cell(c) for c in own_row(group, block)) for group in block.groups)]
    shown = text_cells(block)
    rows += [tuple(_cell(c) for c in published_row(cell, block)) for cell in shown]
    more = len(block.same_encoder) + len(block.other_encoders) - len(shown)
    lines = [f"Published on {block.official} (the same labeled images):", "", *_aligned(rows), ""]
    if more:
        lines += [f"{more} more published numbers of these images are in the page and in the _published.csv file.", ""]
    return lines


def own_row(group: Group, block: Beside) -> tuple[str, ...]:
    """An own group as a row of the published table."""
    return (
        f"{group.label} (own)",
        group.key.model,
        format_size(group.key.crop_size),
        format_percent(group.miou_best),
        format_percent(group.miou_last),
        str(len(group.runs)),
        f"evaluation: {block.evaluation}",
        "this report",
    )


def published_row(cell: Cell, block: Beside) -> tuple[str, ...]:
    """A published cell as a row."""
    return (
        f"{cell.method} ({cell.venue})" if cell.venue else cell.method,
        cell.encoder or "not stated",
        cell.crop or "–",
        f"{cell.miou:.2f}",
        "–" if cell.miou_last is None else f"{cell.miou_last:.2f}",
        "?" if cell.seeds is None else str(cell.seeds),
        ", ".join(marks_against(cell, block)) or "–",
        cell.source,
    )


def published_csv(sections: Sequence[Section]) -> str:
    """Every published cell of the official lists that runs have used, one line each; "" when there is none.

    The column ``list`` says whether the source used the very same labeled images.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["official", "model", "own_evaluation", "list", "method", "venue", "encoder", "decoder", "crop", "miou",
         "miou_last", "seeds", "marks", "source", "notes"]
    )  # fmt: skip
    n_rows = 0
    for section in sections:
        for block in beside(section):
            for cell in (*block.same_encoder, *block.other_encoders, *block.other_lists):
                same = "other" if cell in block.other_lists else "same"
                writer.writerow(
                    [block.official, section.model, block.evaluation, same, cell.method, cell.venue, cell.encoder,
                     cell.decoder, cell.crop, cell.miou, cell.miou_last, cell.seeds,
                     "; ".join(marks_against(cell, block)), cell.source, cell.notes]
                )  # fmt: skip
                n_rows += 1
    return out.getvalue() if n_rows else ""


_HEADER = (
    "Method", "Seeds", "mIoU best", "Δ best", "mIoU last", "Δ last", "Student", "Teacher",
    "Steps", "Images/s", "Training",
)  # fmt: skip


def _row(group: Group) -> tuple[str, ...]:
    images_per_second = group.over_seeds(lambda r: r.images_per_second)
    seconds = group.over_seeds(lambda r: r.seconds_training)
    return (
        _cell(group.label),
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
    """One line on a run without a final result: who, how far, why it stopped."""
    seed = "" if run.seed is None else f" seed {run.seed}"
    steps = run.result.steps if run.result and run.result.steps is not None else run.last_step
    progress = "" if steps is None else f" at step {steps}" + (f" of {run.max_steps}" if run.max_steps else "")
    reason = f": {run.error}" if run.error else ""
    return f"{run.method}{seed}: {run.status}{progress}{reason} ({run.folder.as_posix()})"


def _cell(text: str) -> str:
    """Text that cannot break out of a Markdown table or start HTML."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    rule = [":" + "-" * (w - 1) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [[c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (padded[0], rule, *padded[1:])]


def csv_text(sections: Sequence[Section]) -> str:
    """One line per group, for programs: mIoU in [0, 1], time in seconds, empty where there is no value."""
    stats: dict[str, Callable[[Group], Stat | None]] = {
        "miou_best": lambda g: g.miou_best,
        "delta_best": lambda g: g.delta_best,
        "miou_last": lambda g: g.over_seeds(lambda r: r.miou_last),
        "delta_last": lambda g: g.delta_last,
        "miou_last_student": lambda g: g.over_seeds(lambda r: r.miou_last_student),
        "miou_last_teacher": lambda g: g.over_seeds(lambda r: r.miou_last_teacher),
        "images_per_second": lambda g: g.over_seeds(lambda r: r.images_per_second),
        "seconds_training": lambda g: g.over_seeds(lambda r: r.seconds_training),
        "peak_memory_mb": lambda g: g.over_seeds(lambda r: r.peak_memory_mb),
        "device_hours": lambda g: g.hours,
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [*GroupKey._fields, "seeds", *(f"{name}_{part}" for name in stats for part in ("mean", "std", "n")),
         "delta_last_low", "delta_last_high", "delta_last_p", "rank", "device", "overrides"]
    )  # fmt: skip
    ranked = [pair for section in sections for pair in zip(section.groups, _ranks_by_ids(section))]
    for group, rank in ranked:
        key = group.key._replace(crop_size=format_size(group.key.crop_size) if group.key.crop_size else "")  # type: ignore[arg-type]
        cells: list[object] = [*key, " ".join(str(run.seed) for run in group.runs)]
        for stat in (value(group) for value in stats.values()):
            cells += ["", "", 0] if stat is None else [_rounded(stat.mean), _rounded(stat.std), stat.n]
        sure = group.against_baseline
        cells += [_rounded(value) for value in ((sure.low, sure.high, sure.p) if sure else (None,) * 3)]
        cells += ["" if rank is None else rank, group.device, " ".join(group.runs[0].overrides)]
        writer.writerow(cells)
    return out.getvalue()


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)
