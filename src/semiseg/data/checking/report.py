"""The result of a data check, and its text report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from semiseg.data.fingerprint import Fingerprint
from semiseg.data.partitions.list_files import id_set_sha256
from semiseg.data.partitions.splits import Partition

ALIKE = 10  # up to this many lines with one cause are printed; beyond, only the first NAMED files
NAMED = 3

_DETAIL = re.compile(r"\d+|'[^']*'")  # the parts that differ between lines with the same cause


@dataclass
class Report:
    """What `check_dataset` found.

    Attributes:
        name: the data set.
        classes: its class names.
        problems: one line per error, naming the file; empty if there are none.
        warnings: one line per oddity that may be intended.
        images: number of images by split.
        masks: number of images that have a mask, by split.
        opened_images, opened_masks: number of files opened.
        pixels: (classes + 1,) pixel counts of each class, ignored pixels last, over all masks opened.
        images_with: (classes,) number of opened masks that show each class.
        examples: by class index, a few ids whose masks show the class.
        partition: the partition of the train split; None if there is none.
        fingerprint: of the partition and the validation split, contents included; None if there is no partition.
    """

    name: str
    classes: tuple[str, ...]
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)
    masks: dict[str, int] = field(default_factory=dict)
    opened_images: int = 0
    opened_masks: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    images_with: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    examples: dict[int, list[str]] = field(default_factory=dict)
    partition: Partition | None = None
    fingerprint: Fingerprint | None = None

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


def counted(lines: Sequence[str], noun: str) -> str:
    """The line above a list: ``1 warning:`` or ``2 warnings:``."""
    return f"{len(lines)} {noun}{'' if len(lines) == 1 else 's'}:"


def by_cause(lines: Iterable[str]) -> list[str]:
    """Fold more than `ALIKE` lines with the same cause into one line: their number and the first files."""
    causes: dict[str, list[str]] = {}
    for line in lines:
        place, _, what = line.partition(": ")
        causes.setdefault(_DETAIL.sub("#", what or place), []).append(line)
    folded: list[str] = []
    for alike in causes.values():
        if len(alike) <= ALIKE:
            folded += alike
            continue
        files = ", ".join(line.partition(": ")[0] for line in alike[:NAMED])
        what = alike[0].partition(": ")[2] or alike[0]
        folded.append(f"{len(alike)} files: {what} ({files} and {len(alike) - NAMED} more)")
    return folded


def format_report(report: Report) -> str:
    """Format a report as text, problems last."""
    lines = [f"{report.name}: {report.opened_images} images and {report.opened_masks} masks opened"]
    lines += [f"  {split}: {n} images, {report.masks[split]} with mask" for split, n in report.images.items()]
    if report.partition is not None:
        part = report.partition
        known = part.official or "not a published list"
        lines.append(f"  partition: {len(part.labeled)} labeled, {len(part.unlabeled)} unlabeled; {known}")
        lines.append(f"  sha256 of the labeled ids:   {part.sha256}")
        lines.append(f"  sha256 of the unlabeled ids: {id_set_sha256(part.unlabeled)}")
    if report.fingerprint is not None:
        lines.append(f"  fingerprint of the data:     {report.fingerprint.digest}")
        lines.append(f"  sha256 of the file contents: {report.fingerprint.contents}")
    total = max(int(report.pixels.sum()), 1)
    width = max(map(len, (*report.classes, "ignored")))
    lines.append(f"  {'in the masks opened:':<{width + 2}}  {'pixels':>15}  {'share':>8}  {'images':>7}")
    for name, count, images in zip((*report.classes, "ignored"), report.pixels, [*report.images_with, None]):
        note = "  <- in no mask" if images == 0 else ""
        seen = "" if images is None else str(images)
        lines.append(f"    {name:<{width}}  {count:>15,}  {100 * count / total:6.2f} %  {seen:>7}{note}".rstrip())
    if report.warnings:
        lines += [counted(report.warnings, "warning"), *(f"  {w}" for w in by_cause(report.warnings))]
    if report.ok:
        return "\n".join([*lines, "no problems found"])
    return "\n".join([*lines, counted(report.problems, "problem"), *(f"  {p}" for p in by_cause(report.problems))])
