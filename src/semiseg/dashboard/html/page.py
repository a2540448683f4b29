"""Lays out the HTML page: an overview, one block per section, and the list of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from semiseg.dashboard.compare.overview import make_overviews
from semiseg.dashboard.compare.stats import Stat
from semiseg.dashboard.compare.tables import BASELINE, Section
from semiseg.dashboard.html.cells import seeds
from semiseg.dashboard.html.comparisons import overview_table
from semiseg.dashboard.html.environment import environment
from semiseg.dashboard.html.looks import method_colors
from semiseg.dashboard.html.pictures import thumbnails, zoomable
from semiseg.dashboard.html.run_list import Live, jobs, run_rows, status_counts
from semiseg.dashboard.html.section import SectionView
from semiseg.dashboard.read.run import Run
from semiseg.dashboard.text.formats import FOOTNOTE, format_percent, format_seconds

MARKER = '<meta name="generator" content="semiseg report">'
"""Marks the page so that a later report recognizes it as its own."""

MAX_SECTIONS = 40  # shown in full; the rest are in the table of contents and in the other files
_MAX_DIAGNOSTICS = 6  # sections whose worst images and calibration are shown

# The page may load nothing: even a bug here could not make it access the network.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Tile(NamedTuple):
    """A headline number."""

    name: str
    value: str
    note: str


class ContentsRow(NamedTuple):
    """A section in the table of contents; ``anchor`` is "" if the page does not show it in full."""

    title: str
    anchor: str
    n_runs: int
    miou: str
    method: str


def build_page(sections: Sequence[Section], runs: Sequence[Run], title: str, live: Live | None = None) -> str:
    """The whole page, built only from its arguments and the runs' files: the same input gives the same bytes.

    ``live`` makes it the page of a running study: it starts with the state of every job and reloads itself.
    """
    colors = method_colors(run.method for run in runs)
    views = [
        SectionView(section, colors, with_diagnostics=i < _MAX_DIAGNOSTICS)
        for i, section in enumerate(sections[:MAX_SECTIONS])
    ]
    worst = [path for view in views for found in view.diagnostics for path in found.image_paths()]
    return (
        environment()
        .get_template("report.html")
        .render(
            title=title,
            marker=MARKER,
            policy=_POLICY,
            live=live,
            jobs=jobs(runs) if live else ((), ()),
            tiles=_tiles(sections, runs),
            overviews=[(overview, overview_table(overview)) for overview in make_overviews(sections)],
            contents=[_contents_row(i, section) for i, section in enumerate(sections)] if len(sections) > 1 else [],
            views=views,
            uris=thumbnails([path for view in views for path in view.image_paths()]) | zoomable(worst),
            rows=run_rows(runs),
            baseline=BASELINE,
            footnote=FOOTNOTE,
        )
    )


def _tiles(sections: Sequence[Section], runs: Sequence[Run]) -> list[Tile]:
    n_completed = sum(run.status == "completed" for run in runs)
    tiles = [Tile("Runs completed", f"{n_completed} of {len(runs)}", status_counts(runs))]
    groups = [group for section in sections for group in section.groups]
    if len(sections) == 1 and groups:
        best = max(groups, key=lambda g: _mean(g.miou_best))
        tiles.append(Tile("Best mIoU (%)", format_percent(best.miou_best), f"{best.label}, {seeds(len(best.runs))}"))
        if best.delta_best:
            note = f"points, paired over {seeds(best.delta_best.n)}"
            tiles.append(Tile(f"Gain over {BASELINE}", format_percent(best.delta_best, signed=True), note))
    else:
        tiles.append(Tile("Settings", str(len(sections)), "data set, partition, model"))
        methods = sorted({run.method for run in runs})
        tiles.append(Tile("Methods", str(len(methods)), ", ".join(methods)))
    seconds = [run.result.seconds_training for run in runs if run.result and run.result.seconds_training]
    tiles.append(Tile("Training time", format_seconds(sum(seconds)), "all runs together"))
    return tiles


def _mean(stat: Stat | None) -> float:
    return stat.mean if stat else float("-inf")


def _contents_row(index: int, section: Section) -> ContentsRow:
    best = max(section.groups, key=lambda g: _mean(g.miou_best), default=None)
    return ContentsRow(
        section.title,
        f"s{index}" if index < MAX_SECTIONS else "",
        len(section.runs),
        format_percent(best.miou_best) if best else "–",
        best.label if best else "–",
    )
