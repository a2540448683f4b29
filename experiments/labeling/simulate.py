"""Which images to label next, simulated: hidden masks play the person who labels.

    python experiments/labeling/simulate.py data=camvid root=DIR work=DIR [key=value ...]

From a few labeled images on, a network is trained, ranks the images of a pool by one of the scores of semiseg next, and
is trained anew with the best ranked ones labeled. All scores begin with the same images, and so with the same network.
Writes curve.csv, curve.svg and table.md into the work folder after every run; the same command goes on after a stop.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from xml.etree.ElementTree import ElementTree

import numpy as np

from semiseg.api.runs import Run, train_overrides
from semiseg.config import compose_config
from semiseg.config.quoting import quoted
from semiseg.config.settings import read_settings, stored_settings
from semiseg.dashboard.html.charts.axes import BOTTOM, LEFT, RIGHT, TOP, Scale, nice_ticks, x_axis, y_axis
from semiseg.dashboard.html.charts.svg import add, frame
from semiseg.labeling.next_images import next_images
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training.assemble import list_data

COLORS = ("#777777", "#d55e00", "#e69f00", "#0072b2", "#56b4e9", "#cc79a7", "#009e73", "#000000")


@dataclass
class Study:
    """What is simulated; every field is an argument ``name=value``."""

    data: str = "camvid"
    root: str = ""
    experiment: str = ""  # network, crop, batch, optimizer and evaluation, as experiment= of semiseg train
    work: str = "simulation"
    scores: str = "random,entropy,margin,disagreement,views,diversity,combined"
    method: str = "mean_teacher"
    seeds: int = 3
    start: int = 8
    add: int = 8
    rounds: int = 4
    pool: int = 0  # images that may be labeled, drawn once for all scores and seeds; 0: all
    steps: int = 400
    extra: str = ""  # further overrides, separated by blanks


def main(words: Sequence[str]) -> None:
    """Run what is missing, and write the tables."""
    kinds = {f.name: type(f.default) for f in fields(Study)}
    given = dict(word.partition("=")[::2] for word in words)
    study = Study(**{key: kinds[key](value) for key, value in given.items()})
    pool = images(study)
    rows: list[dict[str, object]] = []
    for seed in range(study.seeds):
        for score in study.scores.split(","):
            labeled = sorted(np.random.default_rng(seed).permutation(pool)[: study.start].tolist())
            for k in range(study.rounds):
                rows.append(one_round(study, score, seed, labeled, pool))
                write(study, rows)
                if k + 1 < study.rounds:
                    labeled = label_more(study, score, seed, labeled, pool)


def images(study: Study) -> list[str]:
    """The images that may be labeled."""
    everything = ["protocol.labeled=null", "protocol.unlabeled=null", "protocol.count=null", "protocol.fraction=1.0"]
    data = list_data(read_settings(compose_config([*base(study), *everything])))
    ids = sorted({*data.partition.labeled, *data.partition.unlabeled})
    with_mask = [i for i in ids if data.dataset.has_mask(i)]
    return sorted(np.random.default_rng(0).permutation(with_mask)[: study.pool or None].tolist())


def base(study: Study) -> list[str]:
    """The overrides that all runs share."""
    words = [
        *([f"experiment={study.experiment}"] if study.experiment else []), f"method={study.method}",
        f"data={study.data}", "epochs=null", f"max_steps={study.steps}", f"val_every={study.steps}", "trainer=cpu",
        "loader.num_workers=0", "diagnostics.panels=0", "diagnostics.pseudo_labels=false", "study=labeling",
    ]  # fmt: skip
    words += [quoted("data.root", study.root)] if study.root else []
    return words + study.extra.split()


def train(study: Study, score: str, seed: int, labeled: list[str], pool: list[str]) -> Run:
    """The run on these labels; the one that is there, where it was trained before."""
    folder = lists_of(study, seed, score if len(labeled) > study.start else "start")
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{len(labeled)}_{kind}.txt" for kind in ("labeled", "unlabeled")]
    for file, ids in zip(files, (labeled, [i for i in pool if i not in set(labeled)])):
        text = "".join(f"{i}\n" for i in ids)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    lists = [quoted("protocol.labeled", str(files[0])), quoted("protocol.unlabeled", str(files[1]))]
    where = [quoted("paths.runs", str(Path(study.work) / "runs")), f"seed={seed}"]
    return train_overrides([*base(study), *lists, "protocol.count=null", "protocol.fraction=null", *where])


def lists_of(study: Study, seed: int, score: str) -> Path:
    """The folder of the lists that a score has chosen."""
    return Path(study.work) / "lists" / f"seed_{seed}" / score.replace("/", "_")


def one_round(study: Study, score: str, seed: int, labeled: list[str], pool: list[str]) -> dict[str, object]:
    """Train on these labels, and return the row of the table."""
    run = train(study, score, seed, labeled, pool)
    return {"score": score, "seed": seed, "labels": len(labeled), "miou": run["miou"]["last"]}


def label_more(study: Study, score: str, seed: int, labeled: list[str], pool: list[str]) -> list[str]:
    """The labels of the next round: those of this one, and the images that the score ranks first."""
    file = lists_of(study, seed, score) / f"{len(labeled) + study.add}_labeled.txt"
    if file.exists():
        return file.read_text().split("\n")[:-1]
    run = train(study, score, seed, labeled, pool)
    path = Path(run["folder"]) / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(path)
    settings = stored_settings(checkpoint["semiseg"]["config"])
    kind, _, uncertainty = score.partition("/")  # combined/views: combined, with the uncertainty of two views
    found = next_images(
        settings, checkpoint, path, count=study.add, score=kind, uncertainty=uncertainty or "entropy", masked=True,
        seed=1000 * seed + len(labeled),
    )  # fmt: skip
    return sorted([*labeled, *(choice.image_id for choice in found.choices)])


def write(study: Study, rows: list[dict[str, object]]) -> None:
    """The rows so far as CSV, as a table of means, and as a curve."""
    work = Path(study.work)
    with (work / "curve.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    counts = sorted({int(str(row["labels"])) for row in rows})
    scores = list(dict.fromkeys(str(row["score"]) for row in rows))
    lines = [
        "| score | seeds | " + " | ".join(f"{n} labels" for n in counts) + " |",
        "|---|---:|" + "---:|" * len(counts),
    ]
    means: dict[str, list[tuple[int, float, float]]] = {}
    for score in scores:
        cells, seeds = [], {row["seed"] for row in rows if row["score"] == score}
        for n in counts:
            values = [
                float(str(r["miou"]))
                for r in rows
                if r["score"] == score and r["labels"] == n and r["miou"] is not None
            ]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{100 * statistics.mean(values):.1f} ± {100 * spread:.1f}" if values else "-")
            if values:
                means.setdefault(score, []).append((n, statistics.mean(values), spread))
        lines.append(f"| {score} | {len(seeds)} | " + " | ".join(cells) + " |")
    (work / "table.md").write_text("\n".join(lines) + "\n")
    draw(means, work / "curve.svg")


def draw(means: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    """Mean mIoU over the number of labels, a line a score."""
    width, height = 760, 420
    points = [p for line in means.values() for p in line]
    ticks = nice_ticks(min(p[1] - p[2] for p in points), max(p[1] + p[2] for p in points), 6)
    counts = sorted({p[0] for p in points})
    x = Scale(counts[0], max(counts[-1], counts[0] + 1), LEFT, width - RIGHT - 130)
    y = Scale(ticks[0], ticks[-1], height - BOTTOM, TOP)
    chart = frame(width, height, "mIoU over the number of labels")
    chart.set("xmlns", "http://www.w3.org/2000/svg")
    add(chart, "style", "text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.tick{stroke:#777}")
    add(chart, "rect", width=width, height=height, fill="#fff")
    y_axis(chart, y, ticks, "mIoU", percent=True, width=width - 130)
    x_axis(chart, x, counts, [str(n) for n in counts], "labeled images", height)
    for k, (score, line) in enumerate(means.items()):
        color, shift = COLORS[k % len(COLORS)], 3.0 * (k - len(means) / 2)
        places = [(x(n) + shift, y(mean), y(mean - spread), y(mean + spread)) for n, mean, spread in line]
        add(
            chart,
            "path",
            d="M" + "L".join(f"{a:.1f},{b:.1f}" for a, b, _, _ in places),
            fill="none",
            stroke=color,
            stroke_width=2,
        )
        for a, b, low, high in places:
            add(chart, "line", x1=a, x2=a, y1=low, y2=high, stroke=color)
            add(chart, "circle", cx=a, cy=b, r=3, fill=color)
        add(chart, "line", x1=width - 125, x2=width - 105, y1=30 + 22 * k, y2=30 + 22 * k, stroke=color, stroke_width=3)
        add(chart, "text", score, x=width - 98, y=34 + 22 * k)
    ElementTree(chart).write(path, encoding="unicode")


if __name__ == "__main__":
    main(sys.argv[1:])
