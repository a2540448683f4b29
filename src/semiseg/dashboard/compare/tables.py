"""Aggregates runs over seeds, and decides which runs may be averaged or compared."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from semiseg.dashboard.compare.folds import pooled_miou
from semiseg.dashboard.compare.significance import Comparison, compare
from semiseg.dashboard.compare.stats import Stat, summarize
from semiseg.dashboard.read.result import Result
from semiseg.dashboard.read.run import Run
from semiseg.runs.lagging_teacher import lagging_teacher
from semiseg.runs.weak_classes import weak_classes

BASELINE = "supervised"


class GroupKey(NamedTuple):
    """What runs must share to be averaged: everything that affects the outcome, except the seed."""

    data: str
    partition: str
    model: str
    method: str
    labeled_ids_sha256: str
    crop_size: tuple[int, int] | None
    steps: int | None
    variant: str
    folds: int | None = None


@dataclass(frozen=True)
class Group:
    """Completed runs that differ only in seed, or in seed and fold, ascending by both.

    Attributes:
        label: the method, and what distinguishes this group from others of the same method in its section.
        delta_best, delta_last: difference in mIoU to the supervised runs with the same ids, model, crop and
            steps, paired over common seeds; None if there is no such pair.
        against_baseline: interval and p-value of ``delta_last``. The last step is used because the best one was
            selected on the images that it is scored on.
        repeated: runs left out because a later one has the same seed.
    """

    key: GroupKey
    label: str
    runs: tuple[Run, ...]
    delta_best: Stat | None
    delta_last: Stat | None
    against_baseline: Comparison | None
    repeated: tuple[Run, ...]

    def over_seeds(self, value: Callable[[Result], float | None]) -> Stat | None:
        """Mean and spread of one result field over the seeds that have it; None if none does."""
        return summarize(value(run.result) for run in self.runs if run.result)

    @cached_property
    def miou_best(self) -> Stat | None:
        """MIoU of the best checkpoint of each seed."""
        return self.over_seeds(lambda r: r.miou_best)

    @cached_property
    def miou_last(self) -> Stat | None:
        """MIoU at the end of training of each seed."""
        return self.over_seeds(lambda r: r.miou_last)

    @property
    def device(self) -> str:
        """The device of the runs, "CPU" or "GPU"; "device" if unknown or mixed."""
        kinds = {run.progress.device if run.progress else None for run in self.runs}
        names = {"cpu": "CPU", "cuda": "GPU", "mps": "GPU"}
        return names.get(kinds.pop() or "", "device") if len(kinds) == 1 else "device"

    @cached_property
    def hours(self) -> Stat | None:
        """Device hours of training and validation per run: time multiplied by the number of processes."""
        return self.over_seeds(_device_hours)

    @cached_property
    def iou_per_class(self) -> dict[str, Stat | None]:
        """IoU by class name, in the order of the results; None for a class that no seed could score."""
        names = dict.fromkeys(name for run in self.runs if run.result for name in run.result.iou_per_class)
        return {name: self.over_seeds(_iou_of(name)) for name in names}

    @property
    def remarks(self) -> tuple[str, ...]:
        """The score over all folds, early stops, classes that were not learned, a teacher that lags."""
        iou = {name: stat.mean if stat else None for name, stat in self.iou_per_class.items()}
        early = [f"seed {r.seed}: {r.result.stopped_early}" for r in self.runs if r.result and r.result.stopped_early]
        weak = weak_classes(iou, [o for run in self.runs for o in run.overrides])
        student = self.over_seeds(lambda r: r.miou_last_student)
        teacher = self.over_seeds(lambda r: r.miou_last_teacher)
        behind = lagging_teacher(student.mean, teacher.mean) if student and teacher else ""
        pooled = pooled_miou([run.diagnostics for run in self.runs]) if len(self.runs) == self.key.folds else None
        images = sum((run.result and run.result.n_val) or 0 for run in self.runs)
        over_all = [] if pooled is None else [f"mIoU over all {images} images at the last step: {100 * pooled:.2f} %"]
        return (*over_all, *early, *([weak] if weak else []), *([f"teacher {behind}"] if behind else []))


@dataclass(frozen=True)
class Section:
    """Runs that may share a table: the same data set, partition, model and data fingerprint.

    Attributes:
        data_note: distinguishes sections with the same names but different data, such as "data 1a2b3c4d"; else "".
        groups: completed runs.
        others: runs without a result.
    """

    data: str
    partition: str
    model: str
    data_note: str
    groups: tuple[Group, ...]
    others: tuple[Run, ...]

    @property
    def title(self) -> str:
        """For example "camvid / 1_8 / deeplabv3plus_r50"."""
        note = f" ({self.data_note})" if self.data_note else ""
        return f"{self.data} / {self.partition} / {self.model}{note}"

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run of the section, the aggregated ones first."""
        return (*(run for group in self.groups for run in group.runs), *self.others)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on groups that do not fit into the table, one line each."""
        return tuple(f"{group.label}: {line}" for group in self.groups for line in group.remarks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Data warnings of the runs, and classes whose IoU no completed run could compute; each once."""
        runs = [run for run in self.runs if run.result]
        said = dict.fromkeys(line for run in runs if run.result for line in run.result.data_warnings)
        for group in self.groups:
            for name, stat in group.iou_per_class.items():
                if stat is None:
                    said[f"IoU of {name} is not defined: it is in no validation mask and was never predicted"] = None
        return tuple(said)


def _device_hours(result: Result) -> float | None:
    if result.seconds_training is None:
        return None
    return (result.seconds_training + (result.seconds_validation or 0.0)) * (result.world_size or 1) / 3600


def _iou_of(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.iou_per_class.get(name)


def make_sections(runs: Sequence[Run]) -> list[Section]:
    """Group runs into sections, and the completed runs of each into groups: supervised first, then by name."""
    by_place: dict[tuple[str, str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        by_place[run.data, run.partition, run.model][run.data_id].append(run)
    sections = []
    for place in sorted(by_place, key=_natural):
        by_data = _with_unfinished(by_place[place])
        for data_id in sorted(by_data):
            note = _data_note(data_id) if len(by_data) > 1 else ""
            sections.append(_make_section(place, note, by_data[data_id]))
    return sections


def _with_unfinished(by_data: dict[str, list[Run]]) -> dict[str, list[Run]]:
    """Assign unfinished runs without recorded data to the other runs if there is only one choice."""
    said = [data_id for data_id in by_data if data_id and not data_id.startswith("folder ")]
    if len(said) != 1:
        return by_data
    joined: dict[str, list[Run]] = defaultdict(list)
    for data_id, runs in by_data.items():
        for run in runs:
            joined[data_id if run.result and run.result.miou_best is not None else said[0]].append(run)
    return joined


def _data_note(data_id: str) -> str:
    if not data_id:
        return "data not recorded"
    if data_id.startswith("pool "):
        return f"images {data_id[5:13]}"
    return f"data {data_id}" if data_id.startswith("folder ") else f"data {data_id[:8]}"


def _natural(names: tuple[str, ...]) -> list[list[tuple[bool, int, str]]]:
    """Sort key that puts 92 before 183: digit sequences compare as numbers, and before letters."""
    parts = [re.findall(r"\d+|\D+", name) for name in names]
    return [[(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in split] for split in parts]


def _make_section(place: tuple[str, str, str], data_note: str, runs: list[Run]) -> Section:
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
                delta_best=summarize(_differences(runs_of_key, baseline, lambda r: r.miou_best)),
                delta_last=summarize(_differences(runs_of_key, baseline, lambda r: r.miou_last)),
                against_baseline=compare(_differences(runs_of_key, baseline, lambda r: r.miou_last)),
                repeated=repeated,
            )
        )
    return Section(*place, data_note=data_note, groups=tuple(groups), others=tuple(others))


def _group_key(run: Run, result: Result) -> GroupKey:
    ids = result.pool_fingerprint or result.labeled_ids_sha256 or ""
    steps = run.max_steps if result.stopped_early else result.steps
    return GroupKey(
        run.data, run.partition, run.model, run.method, ids, result.crop_size, steps, run.variant, result.folds
    )


def _one_per_seed(runs: list[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The latest run of each seed and fold, and the rest: a seed that was run in two studies is still one sample."""
    latest: dict[tuple[int, int], Run] = {}
    for run in sorted(runs, key=lambda run: ((run.result and run.result.finished) or "", run.folder.as_posix())):
        latest[run.sample] = run
    chosen = sorted(latest.values(), key=lambda run: run.sample)
    return tuple(chosen), tuple(run for run in runs if run not in chosen)


def _baseline_of(key: GroupKey, groups: Iterable[GroupKey]) -> GroupKey | None:
    """The supervised group that ``key`` may be compared with: everything is equal, except possibly the overrides."""
    if key.method == BASELINE:
        return None
    alike = [g for g in groups if g._replace(variant="") == key._replace(method=BASELINE, variant="")]
    same_variant = [g for g in alike if g.variant == key.variant]
    # With several supervised variants and none with our overrides, the choice would be arbitrary.
    return next(iter(same_variant or (alike if len(alike) == 1 else [])), None)


def _differences(runs: Iterable[Run], baseline: Iterable[Run], value: Callable[[Result], float | None]) -> list[float]:
    """Differences for the seeds and folds that both have."""
    base = {run.sample: value(run.result) for run in baseline if run.result}
    pairs = [(value(run.result), base.get(run.sample)) for run in runs if run.result]
    return [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]


def _labels(keys: list[GroupKey]) -> dict[GroupKey, str]:
    """The method's name, and what distinguishes its group.

    Groups of one method are distinguished by overrides and steps; in the whole section, also by labeled ids and crop,
    because methods that differ in these must not look comparable.
    """
    labels = {}
    for key in keys:
        rivals = [k for k in keys if k.method == key.method]
        parts = [key.method, *([f"{key.folds} folds"] if key.folds else [])]
        if len({k.variant for k in rivals}) > 1:
            parts.append(key.variant or "defaults")
        if len({k.steps for k in rivals}) > 1:
            parts.append(f"{key.steps} steps")
        if len({k.crop_size for k in keys}) > 1:
            parts.append("crop " + ("x".join(map(str, key.crop_size)) if key.crop_size else "unknown"))
        if len({k.labeled_ids_sha256 for k in keys}) > 1:
            parts.append(f"ids {key.labeled_ids_sha256[:8] or 'unknown'}")
        labels[key] = " · ".join(parts)
    return labels
