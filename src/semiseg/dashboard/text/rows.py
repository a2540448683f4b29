"""Table rows shared by the page and the Markdown file, as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from semiseg.dashboard.compare.overview import ranks
from semiseg.dashboard.compare.published import Beside, Cell, marks_against
from semiseg.dashboard.compare.significance import Comparison
from semiseg.dashboard.compare.tables import Group, Section
from semiseg.dashboard.text.formats import format_percent, format_size
from semiseg.runs.result import validation_share

COST_HEADER = (
    "Method", "Rank", "Δ last", "95 % interval", "p", "Pairs", "Hours a run", "Validation", "Images/s", "Memory MB",
)  # fmt: skip


def cost_rows(section: Section) -> list[tuple[str, ...]]:
    """Per group: rank, difference to the baseline and its significance, and cost per run."""
    rows: list[tuple[str, ...]] = []
    for group, rank in zip(section.groups, ranks_by_ids(section)):
        sure = group.against_baseline
        speed = group.over_seeds(lambda r: r.images_per_second)
        memory = group.over_seeds(lambda r: r.peak_memory_mb)
        validation = group.over_seeds(lambda r: validation_share(r.seconds_training, r.seconds_validation))
        rows.append(
            (
                group.label,
                "–" if rank is None or len(section.groups) == 1 else str(rank),
                "–" if sure is None else f"{100 * sure.mean:+.2f}",
                format_interval(sure),
                format_p(sure),
                "–" if sure is None else str(sure.n),
                format_hours(group),
                "–" if validation is None else f"{100 * validation.mean:.0f} %",
                "–" if speed is None else f"{speed.mean:.1f}",
                "–" if memory is None else f"{memory.mean:,.0f}",
            )
        )
    return rows


def without_empty(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """The table without empty columns, such as differences if there is no baseline."""
    kept = [i for i in range(len(header)) if any(row[i] not in ("", "–") for row in rows)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def ranks_by_ids(section: Section) -> list[int | None]:
    """The rank of each group among those with the same labeled ids."""
    found: list[int | None] = []
    for group in section.groups:
        alike = [g if g.key.labeled_ids_sha256 == group.key.labeled_ids_sha256 else None for g in section.groups]
        found.append(ranks(alike)[section.groups.index(group)])
    return found


def format_interval(sure: Comparison | None) -> str:
    """For example "+1.20 to +3.41" points; "–" for fewer than two pairs."""
    if sure is None or sure.low is None or sure.high is None:
        return "–"
    return f"{100 * sure.low:+.2f} to {100 * sure.high:+.2f}"


def format_p(sure: Comparison | None) -> str:
    """For example "0.031"; "–" if there is none."""
    if sure is None or sure.p is None:
        return "–"
    return "< 0.001" if sure.p < 0.001 else f"{sure.p:.3f}"


def format_hours(group: Group) -> str:
    """For example "0.25 GPU"."""
    return "–" if group.hours is None else f"{group.hours.mean:.2f} {group.device}"


PUBLISHED_HEADER = ("Method", "Encoder", "Crop", "mIoU", "Last", "Seeds", "Not comparable / noted", "Source")


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
