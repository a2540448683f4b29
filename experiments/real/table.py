"""Freeze the runs of the study as a CSV file, and make its tables and curves from that file alone.

    python experiments/real/table.py freeze RUNS ...     # run folders, searched below RUNS -> results.csv
    python experiments/real/table.py cost FOLDER         # FOLDER/METHOD.json of `semiseg bench step` -> costs.csv
    python experiments/real/table.py write               # both -> the tables of README.md, curves.svg

A run folder may hold test.json: semiseg evaluate run=RUN which=last protocol.val_split=test output=RUN/test.json

One draw is one list of labeled images and one seed. Methods are compared with supervised draw by draw.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import yaml

from semiseg.dashboard.compare.significance import compare
from semiseg.runs.result import parse_result

HERE = Path(__file__).parent
FROZEN, COSTS, PAGE = HERE / "results.csv", HERE / "costs.csv", HERE / "README.md"
COMMON = (
    "experiment=", "data.root=", "protocol", "seed=", "method=", "loader.num_workers=", "paths.runs=", "study=",
    "trainer", "max_steps=", "val_every=",
)  # fmt: skip
"""Overrides that every run of a table has; the others name a variant."""
STEPS = 402
"""Of most tables; another number stands in their name."""
SIZES = {
    "real_animals": ("animals few", "animals more"),
    "real_camvid": ("camvid 1/32", "camvid 1/8"),
    "camvid_without_neighbor": ("camvid 1/32 without 0016E5_07920", ""),
    "camvid_long_cpu": ("camvid 1/32 on a CPU", ""),
}
"""Tables of a study: fewer than 30 labeled images, and more. Other studies belong to the table with their list."""
SCORES = ("val/miou", "val/miou_student", "val/miou_teacher", "pseudo/accuracy", "pseudo/coverage")
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#000000", "#999999")


class Row(NamedTuple):
    """One run. mIoU, accuracy and coverage in [0, 1]; ``curve`` is "step:mIoU step:mIoU ...".

    ``test`` is the mIoU of the reported network on the test split, if it was scored there.
    """

    study: str
    labeled: int
    draw: int
    method: str
    variant: str
    steps: int
    last: float
    best: float
    student: float
    teacher: float | None
    pseudo_accuracy: float | None
    pseudo_coverage: float | None
    curve: str
    seconds: float
    list_sha256: str
    data_fingerprint: str
    finished: str
    commit: str
    test: float | None = None


def frozen(folder: Path) -> Row | None:
    """The row of a completed run."""
    result = parse_result(folder / "result.json")
    if result["status"] != "completed":
        return None
    with (folder / "metrics.csv").open(newline="") as f:
        lines = [line for line in csv.DictReader(f) if line.get("val/miou")]
    last = {name: float(value) if (value := lines[-1].get(name)) else None for name in SCORES}
    own = [o for o in yaml.safe_load((folder / "overrides.yaml").read_text()) if not o.startswith(COMMON)]
    return Row(
        str(result["study"]),
        result["n_labeled"] or 0,
        result["seed"] or 0,
        str(result["method"]),
        " ".join(own),
        result["steps"] or 0,
        result["miou"]["last"] or 0.0,
        result["miou"]["best"] or 0.0,
        last["val/miou_student"] or 0.0,
        last["val/miou_teacher"],
        last["pseudo/accuracy"],
        last["pseudo/coverage"],
        " ".join(f"{line['step']}:{float(line['val/miou']):.4f}" for line in lines),
        result["seconds_training"] or 0.0,
        (result["labeled_ids_sha256"] or "")[:12],
        (result["data_fingerprint"] or "")[:12],
        result["finished"] or "",
        str((result["git"] or {}).get("commit") or "")[:7],
        on_test_split(folder, "teacher" if result["miou"]["last"] == result["miou"]["last_teacher"] else "student"),
    )


def on_test_split(folder: Path, network: str) -> float | None:
    """The mIoU that ``semiseg evaluate`` wrote to test.json; None without that file."""
    file = folder / "test.json"
    if not file.exists():
        return None
    said = json.loads(file.read_text())
    if (said["split"], Path(said["checkpoint"]).name) != ("test", "last.ckpt"):
        sys.exit(f"{file}: expected the last checkpoint on the test split")
    return float(said["miou"][network])


def freeze(tops: Iterable[Path]) -> None:
    """Write results.csv anew from all completed runs below these folders."""
    found = [frozen(path.parent) for top in tops for path in top.rglob("result.json")]
    rows = sorted((row for row in found if row), key=lambda r: (r.study, r.labeled, r.method, r.variant, r.draw))
    for one, two in pairwise(rows):
        if (same := one[: Row._fields.index("steps")]) == two[: len(same)]:
            sys.exit(f"two runs of {' '.join(map(str, same))}, finished {one.finished} and {two.finished}: keep one")
    with FROZEN.open("w", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(Row._fields)
        out.writerows(rows)
    print(f"{len(rows)} runs -> {FROZEN}")


def freeze_costs(folder: Path) -> None:
    """Write costs.csv anew: seconds of a step, and peak bytes of its tensors."""
    rows = [(path.stem, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    with COSTS.open("w", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(("method", "seconds", "peak_memory"))
        out.writerows((name, round(record["total"], 4), record["peak_memory"]) for name, record in rows)
    print(f"{len(rows)} methods -> {COSTS}")


def relative_costs() -> dict[str, str]:
    """Method -> time of a step relative to supervised."""
    if not COSTS.exists():
        return {}
    with COSTS.open(newline="") as f:
        seconds = {line["method"]: float(line["seconds"]) for line in csv.DictReader(f)}
    return {name: f"{value / seconds['supervised']:.1f}" for name, value in seconds.items()}


def read_frozen() -> list[Row]:
    """The rows of results.csv."""
    kinds = {"labeled": int, "draw": int, "steps": int} | dict.fromkeys(("last", "best", "student", "seconds"), float)
    optional = ("teacher", "pseudo_accuracy", "pseudo_coverage", "test")
    with FROZEN.open(newline="") as f:
        return [
            Row(**{k: (float(v) if v else None) if k in optional else kinds.get(k, str)(v) for k, v in line.items()})
            for line in csv.DictReader(f)
        ]


def blocks(rows: Sequence[Row]) -> dict[str, dict[str, dict[int, Row]]]:
    """Rows by table, then by method with its variant, then by draw.

    Variants of methods are in a table of their own, ``animals few variants``, found by their list of labeled images;
    so are longer runs, ``animals few, 1608 steps``.
    """
    tables = {row.list_sha256: SIZES[row.study][row.labeled >= 30] for row in rows if row.study.startswith("real_")}
    made: dict[str, dict[str, dict[int, Row]]] = {}
    for row in rows:
        steps = "" if row.steps == STEPS else f", {row.steps} steps"
        block = SIZES[row.study][row.labeled >= 30] if row.study in SIZES else tables[row.list_sha256]
        block += steps + (" variants" if row.variant else "")
        made.setdefault(block, {}).setdefault(f"{row.method} {row.variant}".strip(), {})[row.draw] = row
    return made


def percent(values: Iterable[float | None]) -> str:
    """Mean and sample standard deviation in percent."""
    known = [100 * v for v in values if v is not None]
    if not known:
        return ""
    spread = f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.2f}{spread}"


def table(methods: dict[str, dict[int, Row]], base: dict[int, Row]) -> str:
    """Markdown, best gain over the runs of ``base`` first."""
    costs = relative_costs()
    head = (
        "method", "draws", "mIoU last", "over supervised", "95 % interval", "p", "best", "student", "teacher",
        "pseudo-labels: right", "of pixels", "step time",
    )  # fmt: skip
    found = []
    for name, draws in methods.items():
        gain, cells = gains([row.last - base[i].last for i, row in draws.items() if i in base and name != "supervised"])
        fields = ("best", "student", "teacher", "pseudo_accuracy", "pseudo_coverage")
        scores = (percent(getattr(r, field) for r in draws.values()) for field in fields)
        last = percent(r.last for r in draws.values())
        found.append((gain, (f"`{name}`", str(len(draws)), last, *cells, *scores, costs.get(name, ""))))
    return markdown(head, found)


def test_table(methods: dict[str, dict[int, Row]]) -> str:
    """Markdown of the runs that were scored on the test split, best gain over supervised first."""
    scores = {name: {i: r.test for i, r in draws.items() if r.test is not None} for name, draws in methods.items()}
    base, found = scores["supervised"], []
    for name, tests in scores.items():
        gain, cells = gains([test - base[i] for i, test in tests.items() if i in base and name != "supervised"])
        last = percent(methods[name][i].last for i in tests)
        if tests:
            found.append((gain, (f"`{name}`", str(len(tests)), percent(tests.values()), *cells, last)))
    head = ("method", "draws", "mIoU test", "over supervised", "95 % interval", "p", "mIoU validation")
    return markdown(head, found)


def gains(differences: Sequence[float]) -> tuple[float, tuple[str, str, str]]:
    """The mean of paired differences in points; and the cells mean, interval and p, empty where undefined."""
    if not differences:
        return 0.0, ("", "", "")
    gain = compare([100 * d for d in differences])
    interval = "" if gain.low is None else f"{gain.low:+.1f} to {gain.high:+.1f}"
    return gain.mean, (f"{gain.mean:+.2f}", interval, "" if gain.p is None else f"{gain.p:.3f}")


def markdown(head: Sequence[str], found: Iterable[tuple[float, Sequence[str]]]) -> str:
    """A table of rows, the one with the highest gain first."""
    rows = [f"| {' | '.join(cells)} |" for _, cells in sorted(found, key=lambda pair: -pair[0])]
    return "\n".join((f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|", *rows))


def filled(page: str) -> str:
    """The page with the table of each block between its marks, ``<!-- table: BLOCK -->`` and ``<!-- end -->``.

    ``BLOCK, test split`` is the table of the scores on the test split.
    """
    made = blocks(read_frozen())

    def fill(mark: re.Match[str]) -> str:
        block = mark[2]
        if block.endswith(", test split"):
            text = test_table(made[block.removesuffix(", test split")])
        else:
            text = table(made[block], made[block.removesuffix(" variants")]["supervised"])
        return f"{mark[1]}\n{text}\n\n{mark[3]}"

    return re.sub(r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)", fill, page, flags=re.DOTALL)


def curves(rows: Sequence[Row]) -> str:
    """MIoU over the steps, the mean of the draws that all methods have, one panel per table, as an SVG image."""
    made = blocks(sorted((row for row in rows if not row.variant), key=lambda row: row.steps))
    made = {block: methods for block, methods in made.items() if len(methods) > 2}
    width, height, parts = 600, 340, []
    for number, (block, methods) in enumerate(made.items()):
        top = number * (height + 40) + 30

        def level(value: float, low: float, high: float, top: int = top) -> float:
            return top + height - 30 - (value - low) / (high - low) * (height - 40)

        common = set.intersection(*map(set, methods.values()))
        means = {name: mean_curve(draws[i] for i in common) for name, draws in sorted(methods.items())}
        values = [v for curve in means.values() for _, v in curve]
        low, high = min(values) - 1, max(values) + 1
        last = max(step for curve in means.values() for step, _ in curve)
        parts.append(f'<text x="10" y="{top - 8}" font-weight="bold">{block}: mIoU in percent over the steps</text>')
        for i, (name, curve) in enumerate(means.items()):
            points = [
                (50 + s / last * 330, top + height - 30 - (v - low) / (high - low) * (height - 40)) for s, v in curve
            ]
            style = f'stroke="{COLORS[i % len(COLORS)]}" stroke-dasharray="{("none", "6 3", "2 3")[i // len(COLORS)]}"'
            line = " ".join(f"{x:.0f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke-width="2" {style}/>')
            key = top + 12 + i * 18
            parts.append(f'<path d="M400 {key}h24" stroke-width="2" fill="none" {style}/>')
            parts.append(f'<text x="430" y="{key + 4}">{name} {curve[-1][1]:.1f}</text>')
        for step in sorted({step for curve in means.values() for step, _ in curve}):
            parts.append(f'<text x="{50 + step / last * 330:.0f}" y="{top + height - 8}">{step}</text>')
        gap = 2 if high - low < 40 else 5
        for value in range(int(low) // gap * gap + gap, int(high) + 1, gap):
            y = level(value, low, high)
            parts.append(f'<path d="M45 {y:.0f}h340" stroke="#ddd"/><text x="14" y="{y + 4:.0f}">{value}</text>')
    size = f'width="{width}" height="{len(made) * (height + 40) + 10}"'
    style = 'font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}><rect {size} fill="#fff"/>{"".join(parts)}</svg>\n'


def mean_curve(rows: Iterable[Row]) -> list[tuple[int, float]]:
    """(step, mean mIoU in percent) of each validation."""
    at: dict[int, list[float]] = {}
    for row in rows:
        for pair in row.curve.split():
            step, value = pair.split(":")
            at.setdefault(int(step), []).append(100 * float(value))
    return [(step, statistics.fmean(values)) for step, values in sorted(at.items())]


def write() -> None:
    """Fill in the tables of the page and draw the curves."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    (HERE / "curves.svg").write_text(curves(read_frozen()), encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["freeze", *tops] if tops:
            freeze(map(Path, tops))
        case ["cost", folder]:
            freeze_costs(Path(folder))
        case ["write"]:
            write()
        case _:
            sys.exit(__doc__)
