"""The part of the page that shows one section: results, curves, classes, pseudo-labels, panels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from semiseg.dashboard import widgets
from semiseg.dashboard.charts import Bars, Dots, Line, bar_chart, dot_chart, line_chart, mean_curve
from semiseg.dashboard.markup import Html, el, join
from semiseg.dashboard.panels import PARTS, PseudoRow, Row, pseudo_rows, validation_rows
from semiseg.dashboard.run_files import Curve, Result
from semiseg.dashboard.runs import Run
from semiseg.dashboard.study_view import cost_card, published_cards
from semiseg.dashboard.tables import BASELINE, Group, Section, Stat, format_seconds, format_size, summarize

_DASHES = ("", "8 4", "2 4", "12 4 2 4")  # further groups of one method keep its color
_SHARES = (100, 60, 35, 20)  # percent of color in their areas
_UNFINISHED_DASH = "1 6"


class SectionView:
    """The part of the page that shows one section."""

    def __init__(self, section: Section, colors: dict[str, str]) -> None:
        self.section = section
        self.colors = colors
        # Per group the color of its method, and a dash pattern of its own among the groups of that method.
        self.looks: dict[str, tuple[str, str]] = {}
        for group in section.groups:
            color = colors[group.key.method]
            rank = sum(taken == color for taken, _ in self.looks.values())
            self.looks[group.label] = (color, _DASHES[rank % len(_DASHES)])
        shown = self._shown()
        self.rows: list[Row] = validation_rows(shown)
        self.pseudo_rows: list[PseudoRow] = pseudo_rows(shown)
        self.classes = next((run.classes for run in section.runs if run.classes), ())

    def _shown(self) -> dict[str, Run]:
        """By label, the run whose images are shown: the first seed that has some, else an unfinished run."""
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
                self.looks[label] = (self.colors[run.method], _UNFINISHED_DASH)
        return shown

    def image_paths(self) -> list[Path]:
        """Every image that the section would like to show."""
        paths = [p for row in self.rows for p in (row.image, row.truth, *row.predictions.values()) if p]
        return paths + [path for row in self.pseudo_rows for path in row.parts.values()]

    def html(self, anchor: str, uris: dict[Path, str]) -> Html:
        """The section, to be linked to as ``#anchor``; an image that is not among ``uris`` is left out."""
        slash = el("span", "/")
        title = [self.section.data, slash, self.section.partition, slash, self.section.model]
        return el(
            "article",
            el("h2", title, id=anchor),
            self._facts(),
            self._summary(),
            cost_card(self.section),
            published_cards(self.section),
            el("div", self._learning(), self._spread(), self._loss(), class_="charts"),
            self._classes(),
            self._pseudo(),
            self._validation_panels(uris),
            self._pseudo_panels(uris),
        )

    def _facts(self) -> Html:
        """What the runs of the section have in common, or every value where they differ."""
        runs = [run for group in self.section.groups for run in group.runs] or self.section.others

        def values(value: Callable[[Result], object]) -> str:
            found = [value(run.result) for run in runs if run.result]
            return ", ".join(dict.fromkeys(str(v) for v in found if v))

        facts = {
            "labeled": values(lambda r: r.n_labeled),
            "unlabeled": values(lambda r: r.n_unlabeled),
            "validation": values(lambda r: r.n_val),
            "crop": values(lambda r: r.crop_size and format_size(r.crop_size)),
            "batch": values(_batch),
            "steps": values(lambda r: r.steps),
            "precision": values(lambda r: r.precision),
            "evaluation": ", ".join(dict.fromkeys(run.evaluation for run in runs if run.evaluation)),
            "list": values(lambda r: r.official) or (values(lambda r: r.labeled_ids_sha256) and "custom"),
            "ids": values(lambda r: r.labeled_ids_sha256 and r.labeled_ids_sha256[:8]),
        }
        return el("dl", [el("div", el("dt", k), el("dd", v)) for k, v in facts.items() if v], class_="facts")

    def _summary(self) -> Html:
        groups = self.section.groups
        if not groups:
            return widgets.card("Results", None, el("p", "No completed run yet.", class_="empty"))
        columns: dict[str, Callable[[Group], Stat | None]] = {
            "mIoU best": lambda g: g.miou_best,
            "Δ best": lambda g: g.delta_best,
            "mIoU last": lambda g: g.over_seeds(lambda r: r.miou_last),
            "Δ last": lambda g: g.delta_last,
            "Student": lambda g: g.over_seeds(lambda r: r.miou_last_student),
            "Teacher": lambda g: g.over_seeds(lambda r: r.miou_last_teacher),
        }
        stats = {name: [value(group) for group in groups] for name, value in columns.items()}
        rows = []
        for i, group in enumerate(groups):
            speed = group.over_seeds(lambda r: r.images_per_second)
            seconds = group.over_seeds(lambda r: r.seconds_training)
            cells = [el("th", self._swatch(group.label), group.label, scope="row")]
            cells.append(el("td", len(group.runs), class_="number"))
            cells += [widgets.stat_cell(column[i], column, signed="Δ" in name) for name, column in stats.items()]
            cells += [
                el("td", f"{group.key.steps:,}" if group.key.steps is not None else "–", class_="number"),
                el("td", f"{speed.mean:.1f}" if speed else "–", class_="number"),
                el("td", format_seconds(seconds.mean if seconds else None), class_="number"),
            ]
            rows.append(cells)
        header = ["Method", "Seeds", *columns, "Steps", "Images/s", "Training"]
        note = f"percent, mean ± std over seeds; Δ: points over {BASELINE}, paired by seed"
        return widgets.card("Results", note, widgets.table(header, rows), self._group_notes())

    def _group_notes(self) -> Html | None:
        notes = []
        for group in self.section.groups:
            if group.key.variant and group.runs[0].overrides:
                overrides = " ".join(group.runs[0].overrides)
                notes.append(el("li", el("b", group.label), " with ", el("code", overrides)))
            for run in group.repeated:
                text = " left out: a later run has the same seed and settings"
                notes.append(el("li", el("code", run.folder.as_posix()), text))
        return el("ul", notes, class_="notes") if notes else None

    def _swatch(self, label: str) -> Html:
        return widgets.swatch(*self.looks[label])

    def _fill(self, group: Group) -> str:
        """Color of areas, which no dash pattern can tell apart: further groups of one method are paler."""
        color, dash = self.looks[group.label]
        share = _SHARES[_DASHES.index(dash)]
        return color if share == 100 else f"color-mix(in srgb,{color} {share}%,var(--card))"

    def _spread(self) -> Html | None:
        rows = []
        for group in self.section.groups:
            values = tuple(v for run in group.runs if run.result and (v := run.result.miou_best) is not None)
            if stat := summarize(values):
                rows.append(Dots(group.label, self.looks[group.label][0], values, stat))
        baselines = [row.stat.mean for row, g in zip(rows, self.section.groups) if g.key.method == BASELINE]
        chart = dot_chart(rows, name="best mIoU", reference=baselines[0] if len(baselines) == 1 else None)
        note = "dots: seeds; bar and line: mean ± std"
        return widgets.card("Best mIoU by seed", note, widgets.scroll(chart)) if chart else None

    def _lines(self, key: str) -> list[Line]:
        lines = []
        for group in self.section.groups:
            curves = tuple(run.curves[key] for run in group.runs if key in run.curves)
            if curves:
                color, dash = self.looks[group.label]
                seeds = curves if len(curves) > 1 else ()
                lines.append(Line(group.label, color, mean_curve(curves), seeds, dash))
        for run in self.section.others:
            if key in run.curves:
                seed = "" if run.seed is None else f" seed {run.seed}"
                label = f"{run.method}{seed} ({run.status})"
                lines.append(Line(label, self.colors[run.method], run.curves[key], dash=_UNFINISHED_DASH))
        return lines

    def _learning(self) -> Html | None:
        lines = self._lines("val/miou")
        chart = line_chart(lines, name="mIoU", percent=True, width=680, height=500)
        if chart is None:
            return None
        note = "validation; thick: mean over seeds, thin: each seed"
        return widgets.card("Learning curves", note, widgets.scroll(chart), widgets.line_legend(lines), class_="wide")

    def _loss(self) -> Html | None:
        chart = line_chart(self._lines("train/loss"), name="loss", percent=False, width=440, height=240)
        return widgets.card("Training loss", "long runs averaged in bins", widgets.scroll(chart)) if chart else None

    def _class_names(self, bars: Sequence[Bars]) -> list[str]:
        """Classes with a value, in the order of the data set."""
        names = dict.fromkeys(name for entry in bars for name in entry.values)
        known = [name for name, _ in self.classes if name in names]
        return list(dict.fromkeys([*known, *names]))

    def _classes(self) -> Html | None:
        groups = self.section.groups
        bars = [Bars(group.label, self._fill(group), group.iou_per_class) for group in groups]
        names = self._class_names(bars)
        chart = bar_chart(names, bars, name="IoU")
        if chart is None:
            return None
        rows = []
        for name in names:
            stats = [group.iou_per_class.get(name) for group in groups]
            rows.append([el("th", name, scope="row"), *(widgets.stat_cell(stat, stats, heat=True) for stat in stats)])
        table = widgets.table(["Class", *(group.label for group in groups)], rows)
        details = el("details", el("summary", "As a table"), table)
        note = "of the reported network on the whole validation set"
        return widgets.card("IoU per class", note, widgets.scroll(chart), _bar_legend(bars), details)

    def _pseudo(self) -> Html | None:
        keys = {"train/kept_ratio": "kept", "pseudo/accuracy": "accuracy", "pseudo/coverage": "coverage"}
        lines = {key: self._lines(key) for key in keys}
        figures = [line_chart(lines[k], name=keys[k], percent=True, width=380, height=260) for k in keys]
        per_class = [
            self._last_per_class("pseudo/precision/", "precision"),
            self._last_per_class("pseudo/recall/", "recall"),
            self._last_per_class("train/pseudo_share/", "share of pseudo-labels"),
        ]
        if not any(figures) and not any(per_class):
            return None
        note = "kept: share of unlabeled pixels trusted; accuracy and coverage: against the hidden truth"
        charts = el("div", [widgets.scroll(figure) for figure in figures if figure], class_="trio")
        legend = widgets.line_legend([line for key in keys for line in lines[key]])
        found = [entry for entry in per_class if entry]
        by_class = [el("details", el("summary", f"By class: {name}"), chart) for name, chart in found]
        return widgets.card("Pseudo-labels over training", note, charts, legend, by_class)

    def _last_per_class(self, prefix: str, name: str) -> tuple[str, Html] | None:
        """Title and bars of the last logged value of each class, of the groups that logged it."""
        bars = []
        for group in self.section.groups:
            logged = dict.fromkeys(key for run in group.runs for key in run.curves if key.startswith(prefix))
            values = {}
            for key in logged:
                at_end = [_last_value(run.curves[key]) for run in group.runs if key in run.curves]
                values[key.removeprefix(prefix)] = summarize(at_end)
            if any(values.values()):
                bars.append(Bars(group.label, self._fill(group), values))
        names = self._class_names(bars)
        chart = bar_chart(names, bars, name=name)
        if chart is None:
            return None
        return f"{name}, at the end", join([widgets.scroll(chart), _bar_legend(bars)])

    def _validation_panels(self, uris: dict[Path, str]) -> Html | None:
        rows = [row for row in self.rows if row.image in uris]
        if not rows:
            return None
        labels = list(dict.fromkeys(label for row in rows for label in row.predictions))
        pictures = []
        for row in rows:
            parts = {"image": row.image, "truth": row.truth} | {x: row.predictions.get(x) for x in labels}
            pictures += [widgets.picture(path, caption, uris) for caption, path in parts.items()]
        grid = el("div", pictures, class_="panels", style=f"--columns:{2 + len(labels)}")
        note = "last validation of each method's first seed"
        return widgets.card("Predictions", note, widgets.scroll(grid), self._class_legend())

    def _pseudo_panels(self, uris: dict[Path, str]) -> Html | None:
        parts = [part for part in PARTS if any(row.parts.get(part) in uris for row in self.pseudo_rows)]
        if not parts:
            return None
        blocks = []
        for label in dict.fromkeys(row.label for row in self.pseudo_rows):
            rows = [row for row in self.pseudo_rows if row.label == label]
            pictures = [widgets.picture(row.parts.get(part), part, uris) for row in rows for part in parts]
            grid = el("div", pictures, class_="panels", style=f"--columns:{len(parts)}")
            blocks.append(el("div", el("h4", self._swatch(label), label), widgets.scroll(grid)))
        note = "unlabeled images as seen last in training; the truth is there only where diagnostics are on"
        return widgets.card("Pseudo-labels", note, el("div", blocks, class_="pair"), self._class_legend())

    def _class_legend(self) -> Html | None:
        chips = [el("li", el("i", style=f"background:rgb{color}"), name) for name, color in self.classes]
        return el("ul", chips, class_="legend classes") if chips else None


def _batch(result: Result) -> str | None:
    """Such as "4 labeled + 4 unlabeled, 2 processes"."""
    if result.batch_labeled is None:
        return None
    unlabeled = f" + {result.batch_unlabeled} unlabeled" if result.batch_unlabeled else ""
    processes = f" on each of {result.world_size} processes" if (result.world_size or 1) > 1 else ""
    return f"{result.batch_labeled} labeled{unlabeled}{processes}"


def _bar_legend(bars: Sequence[Bars]) -> Html:
    return widgets.legend([(bar.label, bar.color, "") for bar in bars])


def _last_value(curve: Curve) -> float | None:
    value = float(curve.values[-1])
    return value if math.isfinite(value) else None
