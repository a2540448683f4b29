"""Aggregates runs over seeds, and writes the result as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from semiseg.dashboard.runs import Result, Run

BASELINE = "supervised"


@dataclass(frozen=True)
class Stat:
    """Mean over ``n`` seeds and sample standard deviation (divisor n - 1); ``std`` is None for n = 1."""

    mean: float
    std: float | None
    n: int


class GroupKey(NamedTuple):
    """What runs must share to be averaged: all that changes the outcome, but the seed."""

    data: str
    partition: str
    model: str
    method: str
    labeled_ids_sha256: str
    crop_size: tuple[int, int] | None
    steps: int | None
    variant: str


@dataclass(frozen=True)
class Group:
    """Completed runs that differ in their seed only, ascending by seed.

    Attributes:
        label: the method, and what tells this group from others of the same method in its section.
        delta_best, delta_last: difference in mIoU to the supervised runs of the same ids, model, crop and
            steps, paired over the seeds both have; None where there is no such pair.
        repeated: runs left out because a later one has the same seed.
    """

    key: GroupKey
    label: str
    runs: tuple[Run, ...]
    delta_best: Stat | None
    delta_last: Stat | None
    repeated: tuple[Run, ...]

    def over_seeds(self, value: Callable[[Result], float | None]) -> Stat | None:
        """Mean and spread of one result field over the seeds that have it; None when no seed has."""
        return summarize(value(run.result) for run in self.runs if run.result)

    @property
    def miou_best(self) -> Stat | None:
        """Of the best checkpoint of each seed."""
        return self.over_seeds(lambda r: r.miou_best)

    @cached_property
    def iou_per_class(self) -> dict[str, Stat | None]:
        """IoU by class name, in the order of the results; None for a class that no seed could score."""
        names = dict.fromkeys(name for run in self.runs if run.result for name in run.result.iou_per_class)
        return {name: self.over_seeds(_iou_of(name)) for name in names}


@dataclass(frozen=True)
class Section:
    """One data set, partition and model: what may stand in one table. ``others``: runs without a result."""

    data: str
    partition: str
    model: str
    groups: tuple[Group, ...]
    others: tuple[Run, ...]

    @property
    def title(self) -> str:
        """Such as "camvid / 1_8 / deeplabv3plus_r50"."""
        return f"{self.data} / {self.partition} / {self.model}"

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run of the section, the aggregated ones first."""
        return (*(run for group in self.groups for run in group.runs), *self.others)


def _iou_of(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.iou_per_class.get(name)


def summarize(values: Iterable[float | None]) -> Stat | None:
    """Mean and sample standard deviation of the values that are there; None when none is."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    std = statistics.stdev(present) if len(present) > 1 else None
    return Stat(statistics.fmean(present), std, len(present))


def make_sections(runs: Sequence[Run]) -> list[Section]:
    """Sort runs into sections, and the completed ones of each into groups: supervised first, then by name."""
    by_section: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_section[run.data, run.partition, run.model].append(run)
    return [_make_section(name, by_section[name]) for name in sorted(by_section, key=_natural)]


def _natural(names: tuple[str, ...]) -> list[list[tuple[bool, int, str]]]:
    """Sort key that puts 92 before 183: runs of digits compare as numbers, and before letters."""
    parts = [re.findall(r"\d+|\D+", name) for name in names]
    return [[(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in split] for split in parts]


def _make_section(name: tuple[str, str, str], runs: list[Run]) -> Section:
    members: dict[GroupKey, list[Run]] = defaultdict(list)
    others: list[Run] = []
    for run in runs:
        if run.result and run.status == "completed" and run.result.miou_best is not None:
            members[_group_key(run, run.result)].append(run)
        else:
            others.append(run)
    chosen = {key: _one_per_seed(members[key]) for key in members}
    labels = _labels(list(members))
    groups = []
    for key in sorted(members, key=lambda key: (key.method != BASELINE, labels[key])):
        runs_of_key, repeated = chosen[key]
        baseline = chosen[base][0] if (base := _baseline_of(key, members)) else ()
        groups.append(
            Group(
                key=key,
                label=labels[key],
                runs=runs_of_key,
                delta_best=_paired_difference(runs_of_key, baseline, lambda r: r.miou_best),
                delta_last=_paired_difference(runs_of_key, baseline, lambda r: r.miou_last),
                repeated=repeated,
            )
        )
    return Section(*name, groups=tuple(groups), others=tuple(others))


def _group_key(run: Run, result: Result) -> GroupKey:
    ids = result.labeled_ids_sha256 or ""
    return GroupKey(run.data, run.partition, run.model, run.method, ids, result.crop_size, result.steps, run.variant)


def _one_per_seed(runs: list[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The latest run of each seed, and the rest: a seed that was run in two studies is still one sample."""
    latest: dict[int | None, Run] = {}
    for run in sorted(runs, key=lambda run: ((run.result and run.result.finished) or "", run.folder.as_posix())):
        latest[run.seed] = run
    chosen = sorted(latest.values(), key=lambda run: -1 if run.seed is None else run.seed)
    return tuple(chosen), tuple(run for run in runs if run not in chosen)


def _baseline_of(key: GroupKey, groups: Iterable[GroupKey]) -> GroupKey | None:
    """The supervised group that ``key`` may be compared with: same everything, if need be other overrides."""
    if key.method == BASELINE:
        return None
    alike = [g for g in groups if g._replace(variant="") == key._replace(method=BASELINE, variant="")]
    same_variant = [g for g in alike if g.variant == key.variant]
    # Among several supervised variants none of which is ours there is no right one to choose.
    return next(iter(same_variant or (alike if len(alike) == 1 else [])), None)


def _paired_difference(
    runs: Iterable[Run], baseline: Iterable[Run], value: Callable[[Result], float | None]
) -> Stat | None:
    base = {run.seed: value(run.result) for run in baseline if run.result}
    pairs = [(value(run.result), base.get(run.seed)) for run in runs if run.result]
    return summarize(ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None)


def _labels(keys: list[GroupKey]) -> dict[GroupKey, str]:
    """The method's name, and what tells groups apart.

    Those are, among the groups of one method, overrides and steps, and in the whole section the labelled ids
    and the crop: methods that differ in these must not look comparable.
    """
    labels = {}
    for key in keys:
        rivals = [k for k in keys if k.method == key.method]
        parts = [key.method]
        if len({k.variant for k in rivals}) > 1:
            parts.append(key.variant or "defaults")
        if len({k.steps for k in rivals}) > 1:
            parts.append(f"{key.steps} steps")
        if len({k.crop_size for k in keys}) > 1:
            parts.append(f"crop {format_size(key.crop_size)}")
        if len({k.labeled_ids_sha256 for k in keys}) > 1:
            parts.append(f"ids {key.labeled_ids_sha256[:8] or 'unknown'}")
        labels[key] = " · ".join(parts)
    return labels


def format_percent(stat: Stat | None, *, signed: bool = False) -> str:
    """A fraction as "76.53 ± 0.42" percent; the spread only where there is one, "–" for None."""
    if stat is None:
        return "–"
    mean = f"{100 * stat.mean:{'+' if signed else ''}.2f}"
    return mean if stat.std is None else f"{mean} ± {100 * stat.std:.2f}"


def format_size(size: tuple[int, int] | None) -> str:
    """Height x width, such as "321x321"."""
    return f"{size[0]}x{size[1]}" if size else "–"


def format_seconds(seconds: float | None) -> str:
    """A duration in its two leading units, such as "3 h 05 min"."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{minutes} min {rest:02d} s" if hours == 0 else f"{hours} h {minutes_left:02d} min"


def markdown(sections: Sequence[Section]) -> str:
    """One aligned table per section, and a list of the runs that are not in any."""
    lines: list[str] = []
    for section in sections:
        lines += [f"## {_cell(section.title)}", ""]
        if section.groups:
            lines += _aligned([_HEADER, *(_row(group) for group in section.groups)])
        else:
            lines.append("No completed run yet.")
        lines.append("")
        repeated = [run for group in section.groups for run in group.repeated]
        if repeated:
            lines += ["Left out, because a later run has the same seed and settings:", ""]
            lines += [*(f"- {_cell(run.folder.as_posix())}" for run in repeated), ""]
        if section.others:
            lines += ["Not in the table:", "", *(f"- {_cell(describe(run))}" for run in section.others), ""]
    return "\n".join([*lines, FOOTNOTE, ""])


FOOTNOTE = (
    "mIoU in percent, mean ± sample standard deviation over seeds. Best: the highest of all validations, "
    "chosen on the validation set itself; last: at the end of training. Δ: difference to the supervised runs "
    "with the same labelled ids, model, crop and steps, paired over common seeds."
)

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
    error = run.result.error.strip() if run.result and run.result.error else ""
    reason = f": {error.splitlines()[-1]}" if error else ""  # of a traceback, the line that says what it was
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
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [*GroupKey._fields, "seeds", *(f"{name}_{part}" for name in stats for part in ("mean", "std", "n"))]
    )
    for group in (group for section in sections for group in section.groups):
        key = group.key._replace(crop_size=format_size(group.key.crop_size) if group.key.crop_size else "")  # type: ignore[arg-type]
        cells: list[object] = [*key, " ".join(str(run.seed) for run in group.runs)]
        for stat in (value(group) for value in stats.values()):
            cells += ["", "", 0] if stat is None else [_rounded(stat.mean), _rounded(stat.std), stat.n]
        writer.writerow(cells)
    return out.getvalue()


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)
