"""Lays out the HTML page: an overview, one block per section, and the list of runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from semiseg.dashboard.jobs import Live, jobs_card
from semiseg.dashboard.markup import Html, el
from semiseg.dashboard.overview import make_overviews
from semiseg.dashboard.panels import thumbnails
from semiseg.dashboard.run_list import run_list, status_counts
from semiseg.dashboard.runs import Run
from semiseg.dashboard.section import SectionView
from semiseg.dashboard.study_view import overview_card
from semiseg.dashboard.tables import BASELINE, FOOTNOTE, Section, Stat, format_percent, format_seconds
from semiseg.dashboard.widgets import card, seeds, table

_N_COLORS = 10  # --m1 .. --m10 of the style sheet; --m0 is the baseline's

# The page may load nothing: not even a mistake in here could make it reach the network.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def build_page(sections: Sequence[Section], runs: Sequence[Run], title: str, live: Live | None = None) -> Html:
    """The whole page, from its arguments and the runs' files alone: the same input gives the same bytes.

    ``live`` makes it the page of a study that goes on: the state of every job first, and loaded again by itself.
    """
    methods = sorted({run.method for run in runs} - {BASELINE})
    colors = {BASELINE: "var(--m0)"}
    colors |= {method: f"var(--m{1 + i % _N_COLORS})" for i, method in enumerate(methods)}
    views = [SectionView(section, colors) for section in sections]
    uris = thumbnails([path for view in views for path in view.image_paths()])
    body = el(
        "main",
        el("header", el("p", "semiseg report", class_="kicker"), el("h1", title), _tiles(sections, runs)),
        jobs_card(runs, live.waiting, live.note) if live else None,
        [overview_card(overview) for overview in make_overviews(sections)],
        _contents(sections) if len(sections) > 1 else None,
        [view.html(f"s{i}", uris) for i, view in enumerate(views)],
        run_list(runs),
        el("footer", el("p", FOOTNOTE)),
    )
    head = [
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", http_equiv="refresh", content=str(live.refresh)) if live and live.refresh else None,
        el("title", f"{title} · semiseg report"),
        el("style", _asset("report.css")),
    ]
    script = el("script", _asset("report.js"))
    page = el("html", el("head", head), el("body", body, el("div", id="tip", hidden=True), script), lang="en")
    return Html(f"<!doctype html>\n{page}\n")


def _asset(name: str) -> Html:
    return Html(resources.files("semiseg.dashboard").joinpath(name).read_text(encoding="utf-8"))


def _tiles(sections: Sequence[Section], runs: Sequence[Run]) -> Html:
    """The few numbers to see first."""
    n_completed = sum(run.status == "completed" for run in runs)
    tiles = [_tile("Runs completed", f"{n_completed} of {len(runs)}", status_counts(runs))]
    groups = [group for section in sections for group in section.groups]
    if len(sections) == 1 and groups:
        best = max(groups, key=lambda g: _mean(g.miou_best))
        note = f"{best.label}, {seeds(len(best.runs))}"
        tiles.append(_tile("Best mIoU (%)", format_percent(best.miou_best), note))
        if best.delta_best:
            note = f"points, paired over {seeds(best.delta_best.n)}"
            tiles.append(_tile(f"Gain over {BASELINE}", format_percent(best.delta_best, signed=True), note))
    else:
        tiles.append(_tile("Settings", str(len(sections)), "data set, partition, model"))
        methods = sorted({run.method for run in runs})
        tiles.append(_tile("Methods", str(len(methods)), ", ".join(methods)))
    seconds = [run.result.seconds_training for run in runs if run.result and run.result.seconds_training]
    tiles.append(_tile("Training time", format_seconds(sum(seconds)), "all runs together"))
    return el("div", tiles, class_="tiles")


def _tile(name: str, value: str, note: str) -> Html:
    return el("div", el("p", name), el("strong", value), el("p", note), class_="tile")


def _mean(stat: Stat | None) -> float:
    return stat.mean if stat else float("-inf")


def _contents(sections: Sequence[Section]) -> Html:
    rows = []
    for i, section in enumerate(sections):
        best = max(section.groups, key=lambda g: _mean(g.miou_best), default=None)
        link = el("td", el("a", section.title, href=f"#s{i}"))
        cells = (
            len(section.runs),
            format_percent(best.miou_best) if best else "–",
            best.label if best else "–",
        )
        rows.append([link, *(el("td", cell, class_="number") for cell in cells)])
    header = ["Setting", "Runs", "Best mIoU (%)", "Method"]
    return card("Contents", None, table(header, rows))
