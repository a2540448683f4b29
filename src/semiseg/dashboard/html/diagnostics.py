"""The page's view of the last validation of a run: confusion, calibration, thresholds, worst images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from semiseg.dashboard.compare.calibration import TARGET_PRECISION, calibration_error, propose, reliability, thresholds
from semiseg.dashboard.html.cells import Cell, Table, heading, number, shade
from semiseg.dashboard.html.charts.calibration import (
    COVERAGE_COLOR,
    PRECISION_COLOR,
    reliability_chart,
    threshold_chart,
)
from semiseg.dashboard.html.looks import Entry
from semiseg.dashboard.read.diagnostics import PARTS, Diagnostics

_MAX_MATRIX = 32  # classes; larger tables are unreadable
_N_CONFUSIONS = 8
_SHOWN_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class WorstRow:
    """One image and its pictures by part."""

    caption: str
    pictures: dict[str, Path]


class DiagnosticsView:
    """Cards of one group; the counts are of one of its runs."""

    legend = (Entry("precision", PRECISION_COLOR), Entry("coverage", COVERAGE_COLOR))

    def __init__(self, label: str, found: Diagnostics) -> None:
        self.label, self.found = label, found
        self.bins = reliability(found)
        self.error = f"{100 * calibration_error(self.bins):.2f}" if self.bins else "–"
        self.thresholds = thresholds(found)
        self.proposed = propose(self.thresholds)
        self.parts = PARTS
        self.worst = [
            WorstRow(f"{image.image_id}: {100 * image.error:.1f} % wrong", image.pictures)
            for image in found.worst
            if "image" in image.pictures
        ]

    def image_paths(self) -> list[Path]:
        """Pictures of the worst images."""
        return [path for row in self.worst for path in row.pictures.values()]

    def matrix(self) -> Table | None:
        """Confusion matrix in percent of the pixels of each label; None for too many classes."""
        if len(self.found.classes) > _MAX_MATRIX:
            return None
        rows = []
        for name, counts in zip(self.found.classes, self.found.confusion.tolist()):
            total = sum(counts)
            cells = [_share_cell(n / total if total else None, name, to) for n, to in zip(counts, self.found.classes)]
            rows.append((heading(name), *cells, number(f"{total:,}")))
        return Table(("", *self.found.classes, "pixels"), tuple(rows))

    def confusions(self) -> list[str]:
        """The most frequent confusions, by pixels."""
        names, matrix = self.found.classes, self.found.confusion
        pairs = [
            (int(matrix[i, j]), i, j) for i in range(len(names)) for j in range(len(names)) if i != j and matrix[i, j]
        ]
        wrong = sum(n for n, _, _ in pairs)
        return [
            f"{names[i]} predicted as {names[j]}: {100 * n / wrong:.0f} % of all wrong pixels, "
            f"{100 * n / int(matrix[i].sum()):.1f} % of {names[i]}"
            for n, i, j in sorted(pairs, reverse=True)[:_N_CONFUSIONS]
        ]

    def reliability_svg(self) -> Markup | None:
        """Accuracy by confidence."""
        return reliability_chart(self.bins) if self.bins else None

    def threshold_svg(self) -> Markup | None:
        """Precision and coverage by threshold."""
        return threshold_chart(self.thresholds, self.proposed)

    def threshold_table(self) -> Table:
        """Precision and coverage at common thresholds and at the suggested one."""
        proposed = None if self.proposed is None else self.proposed.threshold
        rows = []
        for row in self.thresholds:
            if row.threshold == proposed or any(abs(row.threshold - t) < 1e-9 for t in _SHOWN_THRESHOLDS):
                mark = " (suggested)" if row.threshold == proposed else ""
                cells = number(f"{100 * row.precision:.2f}"), number(f"{100 * row.coverage:.2f}")
                rows.append((heading(f"{row.threshold:g}{mark}"), *cells))
        return Table(("Threshold", "Precision", "Coverage"), tuple(rows))

    def proposal(self) -> str:
        """One sentence on the threshold."""
        if self.proposed is None:
            return "No threshold can be suggested: no labeled pixel was validated."
        threshold, precision, coverage = self.proposed
        target = f"{100 * TARGET_PRECISION:.0f} % precision"
        kept = f"{100 * precision:.1f} % of the kept pixels are correct, and {100 * coverage:.1f} % of all are kept"
        if precision >= TARGET_PRECISION:
            return f"Suggested confidence threshold: {threshold:g}, the lowest with {target}; {kept}."
        return f"No threshold reaches {target}; the most precise is {threshold:g}: {kept}."


def _share_cell(share: float | None, label: str, prediction: str) -> Cell:
    if share is None:
        return number("–")
    text = "" if share == 0 else f"{100 * share:.1f}" if share >= 0.0005 else "·"
    color = "--good" if label == prediction else "--bad"
    title = f"{label} predicted as {prediction}: {100 * share:.3f} %"
    return Cell(text, classes="number", style=shade(share**0.5 if share else 0.0, color), title=title)
