"""The page's view of one section: results, curves, classes, pseudo-labels, panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from semiseg.dashboard.compare.stats import Stat, summarize
from semiseg.dashboard.compare.tables import BASELINE, Group, Section
from semiseg.dashboard.html.cells import Cell, Table, heading, number, stat_cell, table
from semiseg.dashboard.html.charts.bars import Bars, bar_chart
from semiseg.dashboard.html.charts.dots import Dots, dot_chart
from semiseg.dashboard.html.charts.lines import Line, line_chart, mean_curve
from semiseg.dashboard.html.comparisons import cost_table, published_tables
from semiseg.dashboard.html.diagnostics import DiagnosticsView
from semiseg.dashboard.html.looks import UNFINISHED_DASH, Entry, Look, group_looks
from semiseg.dashboard.html.pictures import PARTS, PseudoRow, Row, pseudo_rows, validation_rows
from semiseg.dashboard.read.metrics import CLASS_IOU
from semiseg.dashboard.read.result import Result
from semiseg.dashboard.read.run import Run
from semiseg.dashboard.text.formats import format_seconds, format_size


class Chart(NamedTuple):
    """A chart, its title and its legend."""

    title: str
    svg: Markup
    legend: tuple[Entry, ...] = ()


class SectionView:
    """The page's view of one section. Each public method is one card; None or an empty result omits it."""

    def __init__(self, section: Section, colors: dict[str, str], *, with_diagnostics: bool = False) -> None:
        self.section = section
        self.colors = colors
        self.looks = group_looks(section, colors)
        shown = self._shown()
        self.rows: list[Row] = validation_rows(shown)
        self.pseudo_rows: list[PseudoRow] = pseudo_rows(shown)
        self.pseudo_parts = [part for part in PARTS if any(part in row.parts for row in self.pseudo_rows)]
        self.prediction_labels = list(dict.fromkeys(label for row in self.rows for label in row.predictions))
        self.classes = next((run.classes for run in section.runs if run.classes), ())
        self.published = published_tables(section)
        self.cost = cost_table(section)
        self.dots = self._spread()
        self.diagnostics = self._diagnostics() if with_diagnostics else []

    def _shown(self) -> dict[str, Run]:
        """By label, the run whose images are shown: the first seed that has images, else an unfinished run."""
        shown: dict[str, Run] = {}
        for group in self.section.groups:
            run = next((run for run in group.runs if run.images), None)
            if run:
                shown[group.label] = run
        methods_seen = {run.method for run in shown.values()}
        for run in self.section.others:
            label = f"{run.method} ({run.status})"
            if run.images and run.method not in methods_seen:
                shown.setdefault(label, run)
                color = self.colors[run.method]
                self.looks[label] = Look(color, UNFINISHED_DASH, color)
        return shown

    def _diagnostics(self) -> list[DiagnosticsView]:
        """Diagnostics of each group, from the first seed that has them."""
        found = []
        for group in self.section.groups:
            run = next((run for run in group.runs if run.diagnostics), None)
            if run and run.diagnostics:
                found.append(DiagnosticsView(group.label, run.diagnostics))
        return found

    def image_paths(self) -> list[Path]:
        """All candidate images of the section."""
        paths = [p for row in self.rows for p in (row.image, row.truth, *row.predictions.values()) if p]
        return paths + [path for row in self.pseudo_rows for path in row.parts.values()]

    def facts(self) -> dict[str, str]:
        """What the runs of the section have in common, or all values if they differ."""
        runs = [run for group in self.section.groups for run in group.runs] or self.section.others

        def values(value: Callable[[Result], object]) -> str:
            found = list(dict.fromkeys(str(v) for run in runs if run.result and (v := value(run.result))))
            return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")

        facts = {
            "labeled": values(lambda r: r.n_labeled),
            "unlabeled": values(lambda r: r.n_unlabeled),
            "validation": values(lambda r: r.n_val),
            "crop": values(lambda r: r.crop_size and format_size(r.crop_size)),
            "batch": values(_batch),
            "steps": values(lambda r: r.steps),
            "precision": values(lambda r: r.precision),
            "evaluation": ", ".join(dict.fromkeys(run.evaluation for run in runs if run.evaluation)),
            "list": values(lambda r: r.official),
            "ids": values(lambda r: r.labeled_ids_sha256 and r.labeled_ids_sha256[:8]),
            "data": values(lambda r: r.data_fingerprint[:8]),
        }
        return {name: value for name, value in facts.items() if value}

    def results(self) -> Table | None:
        """One row per group; None without a completed run."""
        groups = self.section.groups
        if not groups:
            return None
        columns: dict[str, Callable[[Group], Stat | None]] = {
            "mIoU best": lambda g: g.miou_best,
            "Δ best": lambda g: g.delta_best,
            "mIoU last": lambda g: g.over_seeds(lambda r: r.miou_last),
            "Δ last": lambda g: g.delta_last,
            "Student": lambda g: g.over_seeds(lambda r: r.miou_last_student),
            "Teacher": lambda g: g.over_seeds(lambda r: r.miou_last_teacher),
        }
        stats = {name: [value(group) for group in groups] for name, value in columns.items()}
        rows: list[list[Cell]] = []
        for i, group in enumerate(groups):
            speed = group.over_seeds(lambda r: r.images_per_second)
            seconds = group.over_seeds(lambda r: r.seconds_training)
            cells = [stat_cell(column[i], column, signed="Δ" in name) for name, column in stats.items()]
            steps = "–" if group.key.steps is None else f"{group.key.steps:,}"
            ends = (steps, f"{speed.mean:.1f}" if speed else "–", format_seconds(seconds.mean if seconds else None))
            rows.append([heading(group.label, self.looks[group.label]), number(len(group.runs)), *cells])
            rows[-1] += [number(end) for end in ends]
        return table(["Method", "Seeds", *columns, "Steps", "Images/s", "Training"], rows)

    def _spread(self) -> Markup | None:
        """Best mIoU by seed; None for a single run, whose number is in the table."""
        rows = []
        for group in self.section.groups:
            values = tuple(v for run in group.runs if run.result and (v := run.result.miou_best) is not None)
            if stat := summarize(values):
                rows.append(Dots(group.label, self.looks[group.label].color, values, stat))
        if sum(len(row.values) for row in rows) < 2:
            return None
        baselines = [row.stat.mean for row, g in zip(rows, self.section.groups) if g.key.method == BASELINE]
        return dot_chart(rows, name="best mIoU", reference=baselines[0] if len(baselines) == 1 else None)

    def learning(self) -> Chart | None:
        """MIoU over steps."""
        return self._line_chart("Learning curves", "val/miou", "mIoU", percent=True, width=680, height=500)

    def loss(self) -> Chart | None:
        """Training loss over steps."""
        width, height = (560, 320) if self.dots is None else (440, 240)
        return self._line_chart("Training loss", "train/loss", "loss", percent=False, width=width, height=height)

    def _line_chart(self, title: str, key: str, name: str, *, percent: bool, width: int, height: int) -> Chart | None:
        lines = self._lines(key)
        svg = line_chart(lines, name=name, percent=percent, width=width, height=height)
        return None if svg is None else Chart(title, svg, _legend(lines))

    def _lines(self, key: str) -> list[Line]:
        lines = []
        for group in self.section.groups:
            curves = tuple(run.curves[key] for run in group.runs if key in run.curves)
            if curves:
                look = self.looks[group.label]
                seeds = curves if len(curves) > 1 else ()
                lines.append(Line(group.label, look.color, mean_curve(curves), seeds, look.dash))
        for run in self.section.others:
            if key in run.curves:
                seed = "" if run.seed is None else f" seed {run.seed}"
                label = f"{run.method}{seed} ({run.status})"
                lines.append(Line(label, self.colors[run.method], run.curves[key], dash=UNFINISHED_DASH))
        return lines

    def class_bars(self) -> Chart | None:
        """IoU per class as bars."""
        bars = [Bars(g.label, self.looks[g.label].fill, g.iou_per_class) for g in self.section.groups]
        svg = bar_chart(self._class_names([bar.values for bar in bars]), bars, name="IoU")
        return None if svg is None else Chart("IoU per class", svg, _bar_legend(bars))

    def class_table(self) -> Table:
        """IoU per class in numbers."""
        groups = self.section.groups
        rows = []
        for name in self._class_names([group.iou_per_class for group in groups]):
            stats = [group.iou_per_class.get(name) for group in groups]
            rows.append((heading(name), *(stat_cell(stat, stats, heat=True) for stat in stats)))
        return Table(("Class", *(group.label for group in groups)), tuple(rows))

    def class_curves(self) -> list[Chart]:
        """IoU of each class over steps, one chart per group, as means over seeds."""
        charts = []
        for group in self.section.groups[:4]:
            lines = []
            keys = dict.fromkeys(key for run in group.runs for key in run.curves if key.startswith(CLASS_IOU))
            for i, key in enumerate(keys):
                curves = [run.curves[key] for run in group.runs if key in run.curves]
                lines.append(
                    Line(key.removeprefix(CLASS_IOU), _class_color(i), mean_curve(curves), dash=_class_dash(i))
                )
            svg = line_chart(lines, name="IoU", percent=True, width=560, height=300)
            if svg is not None:
                charts.append(Chart(group.label, svg, _legend(lines)))
        return charts

    def _class_names(self, values: Sequence[dict[str, Stat | None]]) -> list[str]:
        """Classes with a value, in the order of the data set."""
        names = dict.fromkeys(name for entry in values for name in entry)
        known = [name for name, _ in self.classes if name in names]
        return list(dict.fromkeys([*known, *names]))

    def pseudo_curves(self) -> list[Chart]:
        """Share of kept pixels, and accuracy and coverage against the hidden ground truth, over steps."""
        keys = {"train/kept_ratio": "kept", "pseudo/accuracy": "accuracy", "pseudo/coverage": "coverage"}
        found = [self._line_chart(n, k, n, percent=True, width=380, height=260) for k, n in keys.items()]
        return [chart for chart in found if chart]

    def pseudo_by_class(self) -> list[Chart]:
        """Last logged value of each class."""
        prefixes = {
            "pseudo/precision/": "precision",
            "pseudo/recall/": "recall",
            "train/pseudo_share/": "share of pseudo-labels",
        }
        found = [self._last_per_class(prefix, name) for prefix, name in prefixes.items()]
        return [chart for chart in found if chart]

    def _last_per_class(self, prefix: str, name: str) -> Chart | None:
        bars = []
        for group in self.section.groups:
            logged = dict.fromkeys(key for run in group.runs for key in run.metrics.last if key.startswith(prefix))
            values = {k.removeprefix(prefix): summarize(run.metrics.last.get(k) for run in group.runs) for k in logged}
            if any(values.values()):
                bars.append(Bars(group.label, self.looks[group.label].fill, values))
        svg = bar_chart(self._class_names([bar.values for bar in bars]), bars, name=name)
        return None if svg is None else Chart(f"{name}, at the end", svg, _bar_legend(bars))


def _class_color(index: int) -> str:
    return f"var(--m{1 + index % 10})"


def _class_dash(index: int) -> str:
    return ("", "6 4", "2 3")[index // 10 % 3]


def _legend(lines: Sequence[Line]) -> tuple[Entry, ...]:
    return tuple(dict.fromkeys(Entry(line.label, line.color, line.dash) for line in lines))[:60]


def _bar_legend(bars: Sequence[Bars]) -> tuple[Entry, ...]:
    return tuple(Entry(bar.label, bar.color) for bar in bars)


def _batch(result: Result) -> str | None:
    """For example "4 labeled + 4 unlabeled on each of 2 processes"."""
    if result.batch_labeled is None:
        return None
    unlabeled = f" + {result.batch_unlabeled} unlabeled" if result.batch_unlabeled else ""
    processes = f" on each of {result.world_size} processes" if (result.world_size or 1) > 1 else ""
    return f"{result.batch_labeled} labeled{unlabeled}{processes}"
