"""The report as CSV, for programs and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from semiseg.dashboard.compare.published import beside, marks_against
from semiseg.dashboard.compare.stats import Stat
from semiseg.dashboard.compare.tables import Group, GroupKey, Section
from semiseg.dashboard.text.formats import format_size
from semiseg.dashboard.text.rows import ranks_by_ids

HEADER_START = "data,partition,model,"
PUBLISHED_HEADER_START = "official,model,"
"""How the files begin, so that a later report recognizes them as its own."""


def csv_text(sections: Sequence[Section]) -> str:
    """One line per group, for programs: mIoU in [0, 1], time in seconds, empty if there is no value."""
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
    parts = [f"{name}_{part}" for name in stats for part in ("mean", "std", "n")]
    writer.writerow(
        [*GroupKey._fields, "data_note", "seeds", *parts,
         "delta_last_low", "delta_last_high", "delta_last_p", "rank", "device", "overrides"]
    )  # fmt: skip
    ranked = [(section, *pair) for section in sections for pair in zip(section.groups, ranks_by_ids(section))]
    for section, group, rank in ranked:
        key = group.key._asdict() | {"crop_size": format_size(group.key.crop_size) if group.key.crop_size else ""}
        cells: list[object] = [*key.values(), section.data_note, " ".join(str(run.seed) for run in group.runs)]
        for stat in (value(group) for value in stats.values()):
            cells += ["", "", 0] if stat is None else [_rounded(stat.mean), _rounded(stat.std), stat.n]
        sure = group.against_baseline
        cells += [_rounded(value) for value in ((sure.low, sure.high, sure.p) if sure else (None,) * 3)]
        cells += ["" if rank is None else rank, group.device, " ".join(group.runs[0].overrides)]
        writer.writerow(map(_inert, cells))
    return out.getvalue()


def _inert(cell: object) -> object:
    """Prefix text that a spreadsheet would treat as a formula with an apostrophe; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)


def published_csv(sections: Sequence[Section]) -> str:
    """Every published number for the official lists used by runs, one line each; "" if there are none.

    The column ``list`` says whether the source used exactly the same labeled images.
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
                cells = [
                    block.official, section.model, block.evaluation, same, cell.method, cell.venue, cell.encoder,
                    cell.decoder, cell.crop, cell.miou, cell.miou_last, cell.seeds,
                    "; ".join(marks_against(cell, block)), cell.source, cell.notes,
                ]  # fmt: skip
                writer.writerow(map(_inert, cells))
                n_rows += 1
    return out.getvalue() if n_rows else ""
