"""A study at a glance: methods against partitions, with ranks. Each column covers one set of labeled images."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from semiseg.dashboard.compare.tables import BASELINE, Group, Section

Validation = tuple[str, int | None, tuple[str, ...]]
"""Fingerprint or data folder, number of images, class names."""


@dataclass(frozen=True)
class Overview:
    """All sections of one data set and model with the same validation images.

    Attributes:
        columns: partitions; a partition used with several sets of ids has one column for each.
        rows: per method (and group label), its group in each column or None; the baseline first.
    """

    data: str
    model: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[Group | None, ...]]

    def rank(self, label: str, column: int) -> int | None:
        """1 for the highest mean mIoU at the last step in the column; None if there is nothing to compare with."""
        found = ranks([groups[column] for groups in self.rows.values()])
        return found[list(self.rows).index(label)] if len(found) - found.count(None) > 1 else None

    def mean_rank(self, label: str) -> float | None:
        """Mean over the columns in which the row has a rank."""
        found = [rank for column in range(len(self.columns)) if (rank := self.rank(label, column)) is not None]
        return statistics.fmean(found) if found else None


def ranks(groups: Sequence[Group | None]) -> list[int | None]:
    """Ranks by mean mIoU at the last step, 1 for the highest; equal means share a rank."""
    means = [group.miou_last.mean if group and group.miou_last else None for group in groups]
    return [None if own is None else 1 + sum(m is not None and m > own for m in means) for own in means]


def make_overviews(sections: Sequence[Section]) -> list[Overview]:
    """One per data set, model and validation set with runs on at least two partitions."""
    alike: dict[tuple[str, str, Validation], list[Section]] = defaultdict(list)
    for section in sections:
        for validation in dict.fromkeys(_validation(group) for group in section.groups):
            groups = tuple(group for group in section.groups if _validation(group) == validation)
            alike[section.data, section.model, validation].append(replace(section, groups=groups))
    overviews = [_make(data, model, members) for (data, model, _), members in alike.items()]
    return [overview for overview in overviews if len(overview.columns) > 1]


def _validation(group: Group) -> Validation:
    """Identity of the validation set, as far as the runs of a group recorded it."""
    run = group.runs[0]
    result = run.result
    if result is None:
        return ("", None, ())
    if run.validation_id:
        return (run.validation_id, None, ())
    folder = run.data_id if run.data_id.startswith("folder ") else ""
    return (folder, result.n_val, tuple(result.iou_per_class))


def _make(data: str, model: str, sections: Sequence[Section]) -> Overview:
    columns: dict[str, dict[str, Group]] = {}
    for section in sections:
        id_sets = {group.key.labeled_ids_sha256 for group in section.groups}
        for group in section.groups:
            ids = f" · ids {group.key.labeled_ids_sha256[:8] or 'unknown'}" if len(id_sets) > 1 else ""
            note = f" ({section.data_note})" if section.data_note else ""
            columns.setdefault(f"{section.partition}{note}{ids}", {})[group.label.removesuffix(ids)] = group
    labels = {label: None for groups in columns.values() for label in groups}
    ordered = sorted(labels, key=lambda label: (not label.startswith(BASELINE), label))
    rows = {label: tuple(groups.get(label) for groups in columns.values()) for label in ordered}
    return Overview(data, model, tuple(columns), rows)
